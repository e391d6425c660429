"use strict";
// The page of an evaluation: verdict, systems, plots, slices, failures, queries, data and settings.

const FAILURES = {
  candidates: ["f1", "not among the candidates", "no reranker can help here"],
  truncation: ["f2", "truncation", "only the beginning of the best relevant candidate was read"],
  tie: ["f3", "tie", "it has the same score as one that was returned instead"],
  scoring: ["f4", "scoring", "it was read to its end and scored below others"],
};
const SLICES = 15; // values of a field drawn at first

start(({ evaluation }) => `Evaluation: ${evaluation.data.name}`, ({ evaluation }) => {
  const report = {
    ...evaluation,
    first: evaluation.systems[0],
    rerankers: evaluation.systems.slice(1),
    index: new Map(evaluation.systems.map((system, i) => [system.name, i])),
    measures: list(evaluation.settings.measures),
  };
  const { data, settings } = report;
  return [
    el("header", {}, el("h1", {}, "Evaluation: ", bdi(data.name)),
      el("p", { class: "lead" }, `${many(data.queries, "query", "queries")}, ${number(data.candidates, 1)} candidates each on average, the first ${whole(settings.top_k)} returned · ${moment(report.time)}`),
      el("nav", { class: "contents", "aria-label": "Contents" })),
    verdict(report), systemsTable(report), tradeoffs(report), slices(report), depths(report), calibration(report),
    failures(report), queries(report), about(report),
  ];
});

const range = (estimate, words = number) => `${words(estimate.low, 3)}${words === number && estimate.low >= 0 ? "–" : " to "}${words(estimate.high, 3)}`;
const comparison = (comparisons, system, baseline, measure) =>
  list(comparisons).find((one) => one.system === system && one.baseline === baseline && one.measure === measure);
const pValue = orDash((p) => (p < 0.001 ? "< 0.001" : p.toFixed(3)));
const significant = (comparison) => comparison.p_adjusted < 0.05;
const nameCell = (report, system) => [el("span", { class: "key" }, icon(report.index.get(system.name))), bdi(short(system.name, 60))];
const interval = (estimate, words) => soft(range(estimate, words));
const counts = (one) => `${whole(one.helped)} / ${whole(one.hurt)} / ${whole(one.unchanged)}`;
const countWords = (one) => `${whole(one.helped)} helped, ${whole(one.hurt)} hurt, ${whole(one.unchanged)} the same`;
const systemLegend = (report, systems) => legend(systems.map((system) => [icon(report.index.get(system.name)), short(system.name, 60)]));

// ---- the verdict

function verdict({ verdict: advice, data, systems, stopped }) {
  const notes = [
    data.judged < 1 && `${share(data.judged)} of the candidates have a judgment; the others count as not relevant.`,
    ...list(data.problems).map((problem) => `In the data: ${problem.kind}: ${whole(problem.count)}.`),
    ...pairs(stopped).map(([name, reason]) => `${short(name, 60)} was not evaluated: ${reason}`),
    ...systems.map((system) => [system.name, [
      system.errors > 0 && `failed on ${many(system.errors, "query", "queries")}, where the first stage's order counts`,
      system.degraded > 0 && many(system.degraded, "degraded answer"),
      system.truncated > 0 && `only the beginning of ${share(system.truncated)} of the texts was read`,
      system.workers > 1 && `times under load, ${whole(system.workers)} queries at once`,
    ].filter(Boolean).join("; ")]).filter(([, words]) => words).map(([name, words]) => `${short(name, 60)}: ${words}.`),
  ].filter(Boolean);
  const bullets = (lines) => el("ul", {}, lines.map((line) => el("li", {}, bdi(line))));
  const answer = { true: "", false: "no" }[advice.rerank] ?? "undecided";
  return el("section", { class: `verdict card ${answer}`, "aria-label": "Verdict" },
    el("p", { class: "words" }, bdi(advice.words)),
    list(advice.reasons).length > 0 && [el("h3", {}, "Why"), bullets(advice.reasons)],
    notes.length > 0 && [el("h3", {}, "Note"), bullets(notes)]);
}

// ---- systems

function systemsTable(report) {
  const { first, rerankers, systems, measures } = report;
  const box = el("div");
  const estimable = (head, name, words) => ({ ...column(head, name, words), cell: (system) => [words(system[name]), list(system.estimated).includes(name) && soft("estimated")] });
  const mean = (value) => (value ? [number(value.mean), interval(value)] : "–");
  function fill(measure) {
    const of = (system) => comparison(report.comparisons, system.name, first.name, measure);
    const compared = (system, cell) => (of(system) ? cell(of(system)) : system === first ? "" : "–");
    box.replaceChildren(table([
      { head: "System", class: "words", cell: (system) => [nameCell(report, system), system.label !== system.name && soft(bdi(short(system.label, 60)))] },
      ...measures.map((name) => ({ head: name, number: true, cell: (system) => mean(system.measures[name]), key: (system) => -system.measures[name]?.mean })),
      { head: "Difference", number: true, cell: (system) => compared(system, (one) => [el("span", { class: significant(one) ? (one.difference.mean > 0 ? "good" : "bad") : "" }, signed(one.difference.mean)), interval(one.difference, signed)]) },
      { head: "p, adjusted", number: true, cell: (system) => compared(system, (one) => pValue(one.p_adjusted)) },
      { head: "Helped / hurt / same", number: true, cell: (system) => compared(system, (one) => [counts(one), bar([["up", one.helped], ["f0", one.unchanged], ["down", one.hurt]], countWords(one))]) },
    ], systems, { caption: `Means with 95 % intervals; differences in ${measure} to the first stage` }));
  }
  const effort = table([
    { head: "System", class: "words", cell: (system) => nameCell(report, system) },
    column("p50", "p50", duration), column("p95", "p95", duration), column("Texts", "texts"), estimable("Tokens", "tokens", whole), estimable("Cost", "cost", money),
    column("Texts cut", "truncated", share), column("Errors", "errors"), column("Degraded", "degraded"),
  ], rerankers, { caption: "Time and cost, over all queries" });
  const tested = [...new Set(report.comparisons.map((one) => one.measure))];
  const others = report.comparisons.filter((one) => one.baseline !== first.name);
  return section("systems", "Systems", null,
    controls("Difference in", tested.length ? tested : measures.slice(0, 1), fill), el("div", { class: "stack" }, box, rerankers.length > 0 && effort),
    !rerankers.length && empty("Only the first stage was evaluated; there is nothing to compare."),
    others.length > 0 && el("details", {}, el("summary", {}, "Rerankers against each other"), table([
      { head: "System", class: "words", cell: (one) => bdi(one.system) }, { head: "Against", class: "words", cell: (one) => bdi(one.baseline) },
      { head: "Measure", cell: (one) => bdi(one.measure) }, { head: "Difference", number: true, cell: (one) => [signed(one.difference.mean), interval(one.difference, signed)] },
      { head: "p, adjusted", number: true, cell: (one) => pValue(one.p_adjusted) }, { head: "Better / worse / same", number: true, cell: counts },
    ], others, { size: 20 })));
}

// ---- quality against latency and cost

function tradeoffs(report) {
  const { rerankers, measures, data } = report;
  if (!rerankers.length) return null;
  const price = (system) => (isNumber(system.cost) && data.queries ? (system.cost / data.queries) * 1000 : null);
  const box = el("div", { class: "columns" });
  const fill = (measure) => box.replaceChildren(
    el("div", { class: "card" }, pareto(report, measure, "latency", "median seconds a query", (system) => system.p50, duration)),
    el("div", { class: "card" }, pareto(report, measure, "cost", "US dollars for 1,000 queries", price, money)));
  return section("tradeoffs", "Quality against latency and cost", "Up and to the left is better. The line joins the systems that no other beats in both.",
    controls("Measure", measures, fill), systemLegend(report, rerankers), box);
}

function pareto(report, measure, name, unit, of, words) {
  const points = report.rerankers.filter((system) => isNumber(of(system)) && system.measures[measure]);
  const unknown = report.rerankers.length - points.length;
  const heading = `${measure} against ${name}`;
  if (!points.length) return el("figure", {}, el("figcaption", {}, heading), empty(`The ${name} is not known for any system.`));
  const quality = (system) => system.measures[measure];
  const front = points.filter((a) => !points.some((b) => b !== a && of(b) <= of(a) && quality(b).mean >= quality(a).mean && (of(b) < of(a) || quality(b).mean > quality(a).mean)))
    .sort((a, b) => of(a) - of(b));
  const base = report.first.measures[measure];
  return figure(heading, unit + (unknown ? `; not known for ${many(unknown, "system")}` : ""), (width) => {
    const [left, right, top, bottom] = [46, width - 14, 12, 258];
    const costs = points.map(of);
    const logs = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 8;
    const scale = logs ? Math.log10 : (value) => value;
    const [least, most] = [logs ? scale(Math.min(...costs)) - 0.15 : 0, scale(Math.max(...costs)) + (logs ? 0.15 : Math.max(...costs) * 0.08 || 1)];
    const along = linear([least, most], [left, right]);
    const x = (value) => along(scale(value));
    const lows = [...points.map(quality), base].filter(Boolean);
    const [low, high] = stretch(Math.min(...lows.map((one) => one.low)), Math.max(...lows.map((one) => one.high)));
    const y = linear([low, high], [bottom, top]);
    const at = (system) => x(of(system)), up = (system) => y(quality(system).mean);
    const alone = (a) => !points.some((b) => a !== b && Math.abs(at(a) - at(b)) < 90 && Math.abs(up(a) - up(b)) < 16);
    const rows = ticks(low, high, 5);
    const decades = [1, 2, 5].flatMap((factor) => Array.from({ length: 12 }, (_, i) => factor * 10 ** (i - 6))).filter((value) => scale(value) >= least && scale(value) <= most).sort((a, b) => a - b);
    const columns = logs ? thin(decades, Math.floor(width / 75)) : ticks(least, most, Math.floor(width / 110));
    const stairs = front.map((system, i) => (i ? `H${at(system)}V${up(system)}` : `M${at(system)} ${up(system)}`)).join("");
    const crossed = base && points.some((system) => right - at(system) < 90 && Math.abs(up(system) - y(base.mean)) < 26);
    return { height: bottom + 28, shapes: [
      levels(rows, y, [left, right], tickText(rows)),
      axis(columns, x, bottom, (value) => words(value).replace(/\.0+(?= )/, ""), null, [left, right]),
      base && mark([report.first.name, `${measure} ${number(base.mean)}`, range(base)], null,
        shape("line", { class: "hit", x1: left, x2: right, y1: y(base.mean), y2: y(base.mean) }),
        shape("line", { class: "rule", x1: left, x2: right, y1: y(base.mean), y2: y(base.mean) }),
        shape("text", crossed ? { x: left + 4, y: y(base.mean) + 15 } : { x: right, y: y(base.mean) + 15, "text-anchor": "end" }, report.first.name)),
      shape("path", { class: "rest stroke", d: stairs }),
      points.map((system) => mark([system.name, `${measure} ${number(quality(system).mean)} (${range(quality(system))})`, `${words(of(system))} ${name === "latency" ? "a query" : "for 1,000 queries"}`, front.includes(system) ? "on the front" : "another is better in both"], null,
        shape("line", { class: `${colour(report, system)} stroke faint`, x1: at(system), x2: at(system), y1: y(quality(system).low), y2: y(quality(system).high) }),
        sign(report.index.get(system.name), at(system), up(system), 6, front.includes(system) ? "fill" : "hollow"),
        alone(system) && label(system.name, at(system), up(system), left, right))),
    ] };
  });
}

const colour = (report, system) => `s${colourIndex(report.index.get(system.name))}`;

// ---- slices

function slices(report) {
  const all = list(report.slices).filter((slice) => list(slice.comparisons).length);
  if (!report.rerankers.length) return null;
  if (!all.length) return section("slices", "Lift by slice", null, empty("No slice has enough queries to compare."));
  const fields = [...new Set(all.map((slice) => slice.field))];
  const names = [...new Set(all.flatMap((slice) => slice.comparisons.map((one) => one.measure)))];
  const view = { field: fields[0], measure: names.find((name) => name === "nDCG@3") ?? names[0], all: false };
  const box = el("div", { class: "card" });
  const more = el("button", { class: "button", type: "button", click: () => set("all", true) });
  function set(name, value) {
    if (name) view[name] = value;
    if (name === "field") view.all = false;
    const here = all.filter((slice) => slice.field === view.field);
    const largest = view.all ? here : [...here].sort((a, b) => b.queries - a.queries).slice(0, SLICES);
    const rows = here.filter((slice) => largest.includes(slice));
    more.hidden = rows.length === here.length;
    more.textContent = `Show all ${whole(here.length)} values`;
    const note = `${view.measure}, difference to the first stage with its 95 % interval; filled where adjusted p is below 0.05.${rows.length < here.length ? ` The ${SLICES} values with most queries.` : ""}`;
    box.replaceChildren(forest(report, rows, view, note), more);
  }
  set();
  const measures = [...names].sort((a, b) => (b === view.measure) - (a === view.measure));
  return section("slices", "Lift by slice", "A mean over all queries can hide that some kinds of queries lose.",
    el("div", { class: "controls" }, choice("Slices by", fields, (field) => set("field", field)), measures.length > 1 && choice("Lift in", measures, (measure) => set("measure", measure))),
    systemLegend(report, report.rerankers), box);
}

function forest(report, slices, { field, measure }, note) {
  const rows = slices.map((slice) => [slice, report.rerankers.map((system) => [system, comparison(slice.comparisons, system.name, report.first.name, measure)]).filter((row) => row[1])]);
  const estimates = rows.flatMap(([, systems]) => systems.map(([, one]) => one.difference));
  const heading = `${measure} by ${field}`;
  const [low, high] = stretch(Math.min(0, ...estimates.map((one) => one.low)), Math.max(0, ...estimates.map((one) => one.high)));
  return figure(heading, note, (width) => {
    const narrow = width < 560;
    const left = narrow ? 12 : Math.min(280, width * 0.28);
    const figures = narrow ? 46 : 64;
    const right = width - figures;
    const x = linear([low, high], [left, right]);
    let y = 6;
    const shapes = rows.map(([slice, systems]) => {
      const begin = y;
      if (narrow) y += 22;
      const middle = narrow ? begin + 16 : begin + (systems.length * 17 + 10) / 2 + 4;
      const marks = systems.map(([system, one], i) => {
        const at = y + 14 + i * 17;
        return mark([`${slice.value}: ${system.name}`, `${signed(one.difference.mean)} (${range(one.difference, signed)})`, `adjusted p ${pValue(one.p_adjusted)}`, countWords(one)], null,
          shape("rect", { class: "hit", x: left, y: at - 8, width: right - left, height: 16 }),
          shape("line", { class: `${colour(report, system)} stroke`, x1: x(one.difference.low), x2: x(one.difference.high), y1: at, y2: at }),
          sign(report.index.get(system.name), x(one.difference.mean), at, 4.5, significant(one) ? "fill" : "hollow"),
          shape("text", { x: width, y: at + 4, "text-anchor": "end" }, signed(one.difference.mean)));
      });
      y += systems.length * 17 + 10;
      return [begin > 6 && shape("line", { class: "grid", x1: 0, x2: width, y1: begin, y2: begin }), shape("text", { class: "strong", x: 0, y: middle },
        fit(slice.value, (narrow ? width : left) - 84), shape("tspan", { class: "soft", dx: 8 }, `n = ${whole(slice.queries)}`)), marks];
    });
    const columns = ticks(low, high, Math.floor((right - left) / 80));
    return { height: y + 26, shapes: [axis(columns, x, y, tickText(columns), null, [left, right], 4), shape("line", { class: "rule", x1: x(0), x2: x(0), y1: 4, y2: y }), shapes] };
  });
}

// ---- depth

function depths(report) {
  const withCurve = report.rerankers.filter((system) => list(system.depths).length);
  const lead = "The quality of each system if only the first candidates enter it; the others follow in their order.";
  if (!report.rerankers.length) return null;
  if (!withCurve.length) return section("depth", "Depth", lead, empty("No depth curve: a score may depend on the other candidates, or none was measured."));
  const names = report.measures.filter((name) => withCurve.some((system) => system.depths.some((one) => one.measures[name])));
  const box = el("div", { class: "card" });
  const fill = (measure) => box.replaceChildren(curve(report, withCurve, measure));
  const none = report.rerankers.length - withCurve.length;
  return section("depth", "Depth", lead, controls("Measure", names, fill), systemLegend(report, withCurve), box,
    none > 0 && el("p", { class: "small soft" }, `No curve for ${many(none, "system")}, whose scores may depend on the other candidates.`));
}

function curve(report, withCurve, measure) {
  const points = withCurve.map((system) => [system, system.depths.filter((one) => one.measures[measure]).sort((a, b) => a.depth - b.depth)]);
  const all = points.flatMap(([, run]) => run.map((one) => one.measures[measure]));
  const ceiling = report.data.ceiling?.[measure];
  const base = report.first.measures[measure]?.mean;
  const lines = [[ceiling, "ceiling: a perfect order of the candidates"], [base, report.first.name]].filter(([value]) => isNumber(value));
  const [low, high] = stretch(Math.min(...all.map((one) => one.low), ...lines.map(([value]) => value)), Math.max(...all.map((one) => one.high), ...lines.map(([value]) => value)));
  const most = Math.max(...points.flatMap(([, run]) => run.map((one) => one.depth)));
  return figure(`${measure} by depth`, "Bands are 95 % intervals", (width) => {
    const [left, right, top, bottom] = [46, width - 16, 12, 300];
    const [x, y] = [linear([0, most], [left, right]), linear([low, high], [bottom, top])];
    const [rows, columns] = [ticks(low, high, 6), ticks(0, most, Math.floor(width / 80))];
    const path = (run, of) => run.map((one) => `${x(one.depth)} ${y(of(one.measures[measure]))}`);
    return { height: bottom + 42, shapes: [
      levels(rows, y, [left, right], tickText(rows)), axis(columns, x, bottom, whole, "candidates that enter", [left, right]),
      points.map(([system, run]) => [
        shape("path", { class: `${colour(report, system)} band`, d: `M${path(run, (one) => one.high).join("L")}L${path([...run].reverse(), (one) => one.low).join("L")}Z` }),
        shape("path", { class: `${colour(report, system)} stroke`, d: `M${path(run, (one) => one.mean).join("L")}` })]),
      lines.map(([value, words]) => [shape("line", { class: "rule", x1: left, x2: right, y1: y(value), y2: y(value) }), shape("text", { x: right, y: y(value) + 16, "text-anchor": "end" }, fit(words, right - left))]),
      points.map(([system, run]) => run.map((one) => mark([`${system.name}, depth ${whole(one.depth)}`, `${measure} ${number(one.measures[measure].mean)} (${range(one.measures[measure])})`], null,
        sign(report.index.get(system.name), x(one.depth), y(one.measures[measure].mean), 4)))),
    ] };
  });
}

// ---- calibration

function calibration(report) {
  const withBins = report.rerankers.filter((system) => system.reliability);
  if (!report.rerankers.length) return null;
  const lead = "Judged candidates by score. On the diagonal, a score equals the share of relevant candidates; grey bars show how many there are.";
  return section("calibration", "Calibration", lead, withBins.length === 0 ? empty("No system gives scores from 0 to 1.")
    : el("div", { class: "small-columns" }, withBins.map((system) => el("div", { class: "card" }, diagram(report, system)))));
}

function diagram(report, system) {
  const bins = list(system.reliability.bins);
  return figure(short(system.name, 60), `ECE ${number(system.reliability.ece, 3)}, ${system.scale ?? "scale not known"}, ${many(bins.reduce((sum, bin) => sum + bin.count, 0), "candidate")}`, (width) => {
    const [left, right, top] = [38, width - 10, 8];
    const bottom = top + Math.min(right - left, 300);
    const [x, y] = [linear([0, 1], [left, right]), linear([0, 1], [bottom, top])];
    const most = Math.max(1, ...bins.map((bin) => bin.count));
    const steps = [0, 0.25, 0.5, 0.75, 1];
    return { height: bottom + 42, shapes: [
      levels(steps, y, [left, right], String), axis(steps, x, bottom, String, "score", [left, right]),
      bins.map((bin) => shape("rect", { class: "track", x: x(bin.low) + 1, width: Math.max(1, x(bin.high) - x(bin.low) - 2), y: bottom - (bin.count / most) * 60, height: (bin.count / most) * 60 })),
      shape("line", { class: "rule", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
      bins.length > 0 && shape("path", { class: `${colour(report, system)} stroke`, d: `M${bins.map((bin) => `${x(bin.score)} ${y(bin.relevant)}`).join("L")}` }),
      bins.map((bin) => mark([`scores ${number(bin.low, 2)} to ${number(bin.high, 2)}`, `mean score ${number(bin.score, 3)}`, `${share(bin.relevant)} relevant`, many(bin.count, "candidate")], null,
        sign(report.index.get(system.name), x(bin.score), y(bin.relevant), 4.5))),
    ] };
  });
}

// ---- failures

function failures(report) {
  const { systems, settings, data: { queries: total } } = report;
  const kinds = Object.keys(FAILURES);
  const failed = (system) => kinds.reduce((sum, kind) => sum + (system.failures?.[kind] ?? 0), 0);
  const parts = (system) => [["f0", Math.max(0, total - failed(system)), "relevant found"], ...kinds.map((kind) => [FAILURES[kind][0], system.failures?.[kind] ?? 0, FAILURES[kind][1]])];
  const chart = figure("Queries by outcome", null, (width) => {
    const narrow = width < 560;
    const left = narrow ? 0 : Math.min(240, width * 0.26);
    const row = narrow ? 46 : 32;
    return { height: systems.length * row + 4, shapes: systems.map((system, i) => {
      const y = i * row + (narrow ? 18 : 2);
      let at = 0;
      return [
        shape("text", { class: "strong", x: 0, y: narrow ? y - 4 : y + 15 }, fit(system.name, narrow ? width : left - 14)),
        parts(system).filter((part) => part[1] > 0).map(([name, count, words]) => mark([system.name, `${words}: ${many(count, "query", "queries")}`, share(count / total)], null,
          shape("rect", { class: `shape ${name} fill`, x: left + ((at += count) - count) / total * (width - left), y, width: Math.max(1, count / total * (width - left) - 1), height: 22 }))),
      ];
    }) };
  }, legend([[swatch("f0"), "relevant found"], ...kinds.map((kind) => FAILURES[kind]).map(([name, words, meaning]) => [swatch(name), `${words}: ${meaning}`])]));
  const count = (words, of) => ({ head: words, number: true, cell: (system) => [whole(of(system)), soft(share(total ? of(system) / total : null))], key: of });
  return section("failures", "Failures", `Why a query has no relevant document among the first ${whole(settings.top_k)}.`,
    el("div", { class: "stack" }, total > 0 ? el("div", { class: "card" }, chart) : empty("No query counts."),
      table([{ head: "System", class: "words", cell: (system) => bdi(system.name) }, count("Relevant found", (system) => Math.max(0, total - failed(system))),
        ...kinds.map((kind) => count(FAILURES[kind][1][0].toUpperCase() + FAILURES[kind][1].slice(1), (system) => system.failures?.[kind] ?? 0))], systems, { caption: "Queries, and their share" })));
}

// ---- queries

function queries(report) {
  const { outcomes, measures, first, rerankers } = report;
  if (!outcomes.length) return section("queries", "Queries", null, empty("No query was evaluated."));
  const initial = rerankers.find((system) => system.name === report.verdict.system) ?? rerankers[0] ?? first;
  const filter = { text: "", system: initial, measure: measures[0], effect: "all", failure: "any outcome", order: "largest change first" };
  const value = (outcome, system) => outcome.measures?.[system.name]?.[filter.measure];
  const gain = (outcome) => (isNumber(value(outcome, filter.system)) && isNumber(value(outcome, first)) ? value(outcome, filter.system) - value(outcome, first) : null);
  const effects = { all: () => true, helped: (by) => by > 1e-9, hurt: (by) => by < -1e-9, unchanged: (by) => isNumber(by) && Math.abs(by) <= 1e-9 };
  const orders = {
    "largest change first": (a, b) => Math.abs(gain(b)) - Math.abs(gain(a)), "largest gain first": (a, b) => gain(b) - gain(a),
    "largest loss first": (a, b) => gain(a) - gain(b), "as in the data": null,
  };
  const failureOf = (outcome) => outcome.failures?.[filter.system.name];
  const kinds = {
    "any outcome": () => true, "relevant found": (kind) => !kind, "any failure": (kind) => Boolean(kind),
    ...Object.fromEntries(Object.entries(FAILURES).map(([kind, [, words]]) => [words, (other) => other === kind])),
  };
  const words = new Map(outcomes.map((outcome) => [outcome, [outcome.id, outcome.text, ...pairs(outcome.slices).map(([name, of]) => `${name}=${of}`)].join("\n").toLowerCase()]));
  const search = () => {
    const fit = outcomes.filter((outcome) => words.get(outcome).includes(filter.text) && effects[filter.effect](gain(outcome)) && kinds[filter.failure](failureOf(outcome)));
    return orders[filter.order] ? fit.sort(orders[filter.order]) : fit;
  };
  const effect = (outcome) => el("span", { class: gain(outcome) > 1e-9 ? "good" : gain(outcome) < -1e-9 ? "bad" : "" }, signed(gain(outcome)));
  const listing = browse({
    label: "query", items: search(), nothing: "No query fits these filters.",
    item: (outcome) => [bdi(short(outcome.text || outcome.id, 140)), el("span", { class: "under" },
      el("span", {}, filter.system === first ? number(value(outcome, first), 3) : `${number(value(outcome, first), 3)} → ${number(value(outcome, filter.system), 3)}`), filter.system !== first && effect(outcome),
      failureOf(outcome) && el("span", { class: "badge soft" }, FAILURES[failureOf(outcome)]?.[1] ?? failureOf(outcome)))],
    detail: (outcome) => queryDetail(report, outcome),
  });
  const set = (name) => (picked) => { filter[name] = picked; listing.set(search()); };
  const byName = new Map((rerankers.length ? [initial, ...rerankers.filter((system) => system !== initial)] : [first]).map((system) => [system.name, system]));
  return section("queries", "Queries", "The value of the first stage, and that of the chosen system.",
    el("div", { class: "controls" },
      el("label", {}, "Query, id or slice", el("input", { type: "search", input: (event) => set("text")(event.target.value.toLowerCase()) })),
      byName.size > 1 && choice("System", [...byName.keys()], (name) => set("system")(byName.get(name))), measures.length > 1 && choice("Measure", measures, set("measure")),
      rerankers.length > 0 && choice("Effect", Object.keys(effects), set("effect")), choice("Outcome", Object.keys(kinds), set("failure")), rerankers.length > 0 && choice("Order", Object.keys(orders), set("order"))),
    listing.node);
}

function queryDetail(report, outcome) {
  const { systems, measures, settings } = report;
  const rank = (place, system) => {
    const at = place.ranks?.[system.name];
    return isNumber(at) ? el("span", { class: at <= settings.top_k ? "good" : "" }, whole(at)) : el("span", { class: "soft" }, "none");
  };
  return [
    el("h3", { class: "query" }, bdi(outcome.text || outcome.id)),
    el("p", { class: "line" }, el("span", {}, "id ", el("b", {}, bdi(outcome.id))), el("span", {}, many(outcome.candidates, "candidate")), el("span", {}, many(outcome.relevant, "relevant document known", "relevant documents known")),
      pairs(outcome.slices).map(([name, value]) => el("span", {}, bdi(name), " ", el("b", {}, bdi(value))))),
    el("div", {}, el("h3", {}, "Measures"), table([
      { head: "System", class: "words", cell: (system) => nameCell(report, system) },
      ...measures.map((name) => ({ head: name, number: true, cell: (system) => number(outcome.measures?.[system.name]?.[name]) })),
      { head: "Outcome", class: "words", cell: (system) => { const kind = outcome.failures?.[system.name]; return kind ? (FAILURES[kind]?.[1] ?? kind) : "relevant found"; } },
      { head: "Time", number: true, cell: (system) => duration(outcome.seconds?.[system.name]) },
    ], systems)),
    el("div", {}, el("h3", {}, "Ranks of the relevant documents"), list(outcome.places).length ? table([
      { head: "Document", class: "words", cell: (place) => bdi(short(place.id, 80)) }, { head: "Grade", number: true, cell: (place) => whole(place.grade) },
      ...systems.map((system) => ({ head: short(system.name, 30), number: true, cell: (place) => rank(place, system) })),
    ], outcome.places, { caption: outcome.relevant > outcome.places.length ? `The best ${outcome.places.length} of ${whole(outcome.relevant)}` : null }) : empty("No relevant document is known.")),
  ];
}

// ---- data and settings

function about({ data, settings, systems, time, version, measures }) {
  const configs = systems.filter((system) => system.config);
  const problems = [...list(data.problems), ...systems.flatMap((system) => list(system.problems).map((one) => ({ ...one, kind: `${system.name}: ${one.kind}` })))];
  return section("about", "What was evaluated", null, el("div", { class: "stack" },
    el("div", { class: "card" }, facts([
      ["Data", data.name], ["Read from", list(data.sources).join("; ") || null], ["Fingerprint", el("code", {}, bdi(data.fingerprint))], ["Queries", whole(data.queries)], ["Candidates a query", number(data.candidates, 1)],
      ["Candidates with a judgment", share(data.judged)], ["Relevant from grade", whole(data.relevant)],
      ["Ceiling", pairs(data.ceiling).map(([name, value]) => `${name} ${number(value)}`).join(", ") || null],
      ["Measures", measures.join(", ")], ["Depth", whole(settings.depth)], ["Returned (top_k)", whole(settings.top_k)], ["Samples", `${whole(settings.samples)}, seed ${settings.seed}`],
      ["Time", moment(time)], ["Version", `rag_rerank ${version}`],
    ])),
    problems.length > 0 && table([
      { head: "What was left out, corrected, or went wrong", class: "words", cell: (problem) => bdi(problem.kind) }, { head: "Count", number: true, cell: (problem) => whole(problem.count) },
      { head: "For example", class: "long", cell: (problem) => list(problem.examples).map((example) => el("div", { class: "small" }, bdi(example))) },
    ], problems),
    configs.length > 0 && el("details", { class: "card" }, el("summary", {}, "Configs"), configs.map((system) => [el("h3", {}, bdi(system.name)), el("pre", {}, bdi(JSON.stringify(system.config, null, 2)))]))));
}
