"use strict";
// The page of a recording: overview, calls, one call, one candidate.

const HEAD = 10; // candidates in colour where all were returned
const scales = {
  calibrated: "calibrated: a probability of relevance",
  sigmoid: "sigmoid: of a logit, 0 to 1, not a probability",
  relevance: "relevance: the provider's own number, 0 to 1",
  similarity: "similarity: a cosine or dot product",
  unbounded: "unbounded: only the order has a meaning",
  rank: "rank: the place alone, no score",
};

start(() => "Trace report", ({ overview, calls }) => {
  const left = overview.calls - calls.length;
  const span = overview.first && overview.last !== overview.first
    ? `${moment(overview.first)} to ${moment(overview.last)}` : moment(overview.first);
  return [
    el("header", {}, el("h1", {}, "Trace report"),
      el("p", { class: "lead" }, overview.calls ? `${many(overview.calls, "recorded call")}, ${span}` : "No call was recorded."),
      left > 0 && el("p", { class: "notice" }, `This page holds the last ${many(calls.length, "call")}; ${many(left, "earlier one")} ${left === 1 ? "is" : "are"} left out to keep it small. The overview counts all.`)),
    overview.calls > 0 && summary(overview),
    calls.length > 0 && callList(calls),
  ];
});

function summary(all) {
  const guess = (name) => (all.estimated.includes(name) ? "estimated in part" : null);
  const partly = (count) => (count && count < all.calls ? `known for ${many(count, "call")}` : null);
  const tile = (name, value, ...notes) => el("div", {}, el("dt", {}, name), el("dd", {}, value, notes.filter(Boolean).map((note) => soft(note))));
  const tiles = el("dl", { class: "figures card" },
    tile("Calls", whole(all.calls)),
    tile("Failed", whole(all.errors)),
    tile("Degraded", whole(all.degraded)),
    tile("Latency p50", duration(all.p50)),
    tile("Latency p95", duration(all.p95)),
    tile("Tokens read", whole(all.tokens), partly(all.tokens_known), guess("tokens")),
    tile("Cost", money(all.cost), partly(all.cost_known), guess("cost")),
    tile("Texts cut", all.covered ? share(all.cut / all.covered) : "–", all.covered ? `${whole(all.cut)} of ${whole(all.covered)} read` : "not known"));
  const columns = [
    { head: "Reranker", class: "words", cell: (row) => bdi(short(row.reranker, 80)) },
    column("Calls", "calls"), column("Failed", "errors"), column("Degraded", "degraded"), column("p50", "p50", duration),
    column("p95", "p95", duration), column("Tokens", "tokens"), column("Cost", "cost", money),
    { head: "Texts cut", number: true, cell: (row) => (row.covered ? share(row.cut / row.covered) : "–"), key: (row) => (row.covered ? row.cut / row.covered : null) },
  ];
  return el("section", { class: "stack", "aria-label": "Overview" }, tiles,
    all.rerankers.length > 1 && table(columns, all.rerankers, { caption: "By reranker", size: 10 }));
}

// ---- calls

const cut = (entry) => Boolean(entry.coverage && entry.coverage.seen < entry.coverage.total);
const cuts = (call) => list(call.candidates).filter(cut).length;
const title = (call) => call.query ?? `Query not recorded · ${short(call.query_sha256, 12)}`;
const badge = (words, kind) => el("span", { class: `badge ${kind}` }, words);
const flags = (call) => [
  call.error !== null && call.error !== undefined && badge("failed", "bad"),
  list(call.degraded).length > 0 && badge("degraded", "bad"),
  cuts(call) > 0 && badge(`${cuts(call)} cut`, "soft"),
];

function callList(calls) {
  const filter = { text: "", degraded: false, cut: false, failed: false, order: "Latest first" };
  const orders = {
    "Latest first": (a, b) => compare(String(b.time), String(a.time)),
    "Earliest first": (a, b) => compare(String(a.time), String(b.time)),
    "Slowest first": (a, b) => (b.seconds ?? 0) - (a.seconds ?? 0),
    "Most moved first": (a, b) => totalMove(b) - totalMove(a),
  };
  const words = new Map(calls.map((call) => [call, searchText(call)]));
  const matches = () => calls.filter((call) => words.get(call).includes(filter.text) && (!filter.degraded || list(call.degraded).length)
    && (!filter.cut || cuts(call)) && (!filter.failed || call.error)).sort(orders[filter.order]);
  const listing = browse({
    label: "call", items: matches(), nothing: "No call fits these filters.",
    item: (call) => [bdi(short(title(call), 140)), el("span", { class: "under" }, el("span", {}, moment(call.time).slice(5, 19)),
      el("span", {}, duration(call.seconds)), el("span", {}, many(list(call.candidates).length, "candidate")), flags(call))],
    detail: callDetail,
  });
  const set = (name, value) => { filter[name] = value; listing.set(matches()); };
  const check = (name, label) => el("label", { class: "check" }, el("input", { type: "checkbox", change: (event) => set(name, event.target.checked) }), label);
  return section("calls", "Calls", null,
    el("div", { class: "controls" },
      el("label", {}, "Query, id, reranker or tag", el("input", { type: "search", input: (event) => set("text", event.target.value.toLowerCase()) })),
      choice("Order", Object.keys(orders), (order) => set("order", order)),
      check("degraded", "only degraded"), check("cut", "only with cut texts"), check("failed", "only failed")),
    listing.node);
}

function searchText(call) {
  const tags = pairs(call.tags).map(([name, value]) => `${name}=${value}`);
  return [call.query, call.query_sha256, call.id, call.reranker, ...tags, ...list(call.candidates).map((entry) => entry.id)].join("\n").toLowerCase();
}

const totalMove = (call) => list(call.candidates).reduce((sum, entry) => sum + (isNumber(entry.rank) ? Math.abs(entry.rank - entry.first_rank) : 0), 0);

// ---- one call

function callDetail(call) {
  const entries = list(call.candidates);
  const usage = call.usage ?? {};
  const pairBox = el("div", { class: "pair card detail", role: "region", "aria-live": "polite", "aria-label": "chosen candidate", hidden: true });
  const choose = (entry) => {
    pairBox.hidden = false;
    pairBox.replaceChildren(...pairDetail(call, entry));
    const window = pairBox.querySelector("mark"); // in a text that scrolls
    if (window) window.parentElement.scrollTop = window.offsetTop - window.parentElement.offsetTop - 8;
    pairBox.scrollIntoView({ block: "nearest" });
  };
  const fact = (name, value) => value !== "–" && el("span", {}, `${name} `, el("b", {}, bdi(value)));
  const ranked = entries.some((entry) => isNumber(entry.rank));
  return [
    el("h3", { class: "query" }, bdi(title(call))),
    el("p", { class: "line" }, fact("by", short(call.reranker, 90)), fact("in", duration(call.seconds)), fact("top_k", isNumber(call.top_k) ? whole(call.top_k) : "all"),
      fact("tokens", whole(usage.tokens)), fact("cost", money(usage.cost)), usage.cached > 0 && fact("from cache", whole(usage.cached)),
      list(usage.estimated).length > 0 && fact("estimated", usage.estimated.join(", "))),
    call.instruction_sha256 && el("p", { class: "line" }, fact("instruction", call.instruction ?? `not recorded · ${short(call.instruction_sha256, 12)}`)),
    pairs(call.tags).length > 0 && el("p", { class: "line" }, pairs(call.tags).map(([name, value]) => fact(name, String(value)))),
    notices(call),
    list(call.contexts).map((context) => el("p", { class: "line" }, fact("packed", contextLine(context)))),
    entries.length === 0 ? empty("There were no candidates.") : el("div", { class: "columns" },
      ranked ? rankMoves(call, entries, choose) : empty("The call failed, so there are no ranks."),
      scoreSpread(call, entries, choose)),
    entries.length > 0 && candidates(call, entries, choose),
    pairBox,
    el("div", {}, el("h3", {}, "Steps"), call.trace ? el("ul", { class: "steps" }, step(call.trace, call.trace.seconds || 0)) : empty("No steps were recorded.")),
    el("p", { class: "small soft" }, "Call ", bdi(call.id), ", ", moment(call.time), ", rag_rerank ", bdi(call.version)),
  ];
}

function notices(call) {
  const lines = [
    call.error && ["Failed. ", call.error],
    isNumber(call.answerable) && ["Answerable. ", `The probability that at least one candidate answers the query is ${call.answerable.toFixed(2)}.`],
    ...list(call.degraded).map((reason) => ["Degraded. ", reason]),
    call.substituted && ["Substituted. ", "The scores are another reranker's, so a threshold for this one does not apply."],
  ].filter(Boolean);
  return lines.length > 0 && el("div", { class: "notice" }, lines.map(([kind, words]) => el("p", {}, el("b", {}, kind), bdi(words))));
}

function colourTest(call, entries) {
  const cutoff = isNumber(call.top_k) ? call.top_k : HEAD;
  return (entry) => isNumber(entry.rank) && entry.rank <= Math.min(cutoff, entries.length);
}
const direction = (entry) => (entry.rank < entry.first_rank ? "up" : entry.rank > entry.first_rank ? "down" : "flat");
const change = (entry) => (!isNumber(entry.rank) ? "" : { up: `▲ ${entry.first_rank - entry.rank}`, down: `▼ ${entry.rank - entry.first_rank}`, flat: "=" }[direction(entry)]);
// What became of a candidate in a context that was packed from the ranking; null where it is not among those packed.
function outcome(context, id) {
  const at = list(context.pieces).findIndex((piece) => list(piece.ids).includes(id));
  if (at >= 0) {
    const { ids, trimmed } = context.pieces[at];
    const others = ids.filter((other) => other !== id);
    return `piece ${at + 1} of ${context.pieces.length}${others.length ? `, merged with ${others.map((other) => short(other, 60)).join(", ")}` : ""}${trimmed ? `, trimmed to characters ${whole(trimmed[0])} to ${whole(trimmed[1])}` : ""}`;
  }
  const drop = list(context.dropped).find((other) => other.id === id);
  return drop ? `dropped by ${drop.reason}: ${drop.detail}` : null;
}
const below = (call, entry) => isNumber(call.top_k) && isNumber(entry.rank) && entry.rank > call.top_k;
const inContext = (call, context, entry) => outcome(context, entry.id) ?? (below(call, entry) ? "below top_k" : "not among the hits that were packed");
function contextLine(context) {
  const [pieces, dropped] = [list(context.pieces), list(context.dropped)];
  const kept = pieces.reduce((sum, piece) => sum + piece.ids.length, 0);
  const reasons = new Map();
  dropped.forEach((drop) => reasons.set(drop.reason, (reasons.get(drop.reason) ?? 0) + 1));
  return [`${whole(kept)} of ${many(kept + dropped.length, "hit")} in ${many(pieces.length, "piece")}`,
    isNumber(context.tokens) && `${whole(context.tokens)} of ${many(context.tokens_before, "token")}${context.tokens_estimated ? " (estimated)" : ""}`,
    ...[...reasons].map(([reason, count]) => `${whole(count)} dropped by ${reason}`), ...list(context.notes)].filter(Boolean).join("; ");
}

const outline = (entry) => [
  short(entry.id, 60), isNumber(entry.rank) ? `rank ${entry.first_rank} → ${entry.rank}` : `rank ${entry.first_rank} in the first stage`,
  isNumber(entry.score) ? `score ${number(entry.score)}` : null, isNumber(entry.first_score) ? `first-stage score ${number(entry.first_score)}` : null, entry.dropped,
];

function rankMoves(call, entries, choose) {
  const inColour = colourTest(call, entries);
  const head = entries.filter(inColour).length;
  const last = entries.reduce((most, entry) => Math.max(most, entry.rank ?? 0, entry.first_rank ?? 0), 1);
  const dense = last > Math.max(24, head + 4);
  const name = isNumber(call.top_k) ? `the ${head} returned` : head < entries.length ? `the first ${head}` : "all candidates";
  return figure("Rank moves", `First stage on the left, final on the right; ${name} in colour.${dense ? " Lower ranks are drawn closer together." : ""}`, (width) => {
    const row = 19;
    const rest = dense ? Math.max(0.4, Math.min(8, 190 / (last - head))) : row;
    const y = (rank) => 30 + (rank <= head ? (rank - 0.5) * row : head * row + (rank - head - 0.5) * rest);
    const [left, right] = [34, Math.max(110, width - Math.min(190, width * 0.42))];
    const path = (entry) => {
      const [a, b, bend] = [y(entry.first_rank), y(entry.rank), (right - left) / 3];
      return `M${left} ${a}C${left + bend} ${a} ${right - bend} ${b} ${right} ${b}`;
    };
    const draw = (entry) => {
      const bright = inColour(entry);
      const kind = bright ? direction(entry) : "rest";
      return mark(outline(entry), () => choose(entry),
        shape("path", { class: "hit", d: path(entry) }),
        shape("path", { class: `${kind} stroke ${bright ? "" : "thin faint"}`, d: path(entry) }),
        bright && [shape("circle", { class: `shape ${kind} fill`, cx: left, cy: y(entry.first_rank), r: 3 }),
          shape("circle", { class: `shape ${kind} fill`, cx: right, cy: y(entry.rank), r: 3 }),
          shape("text", { class: "strong", x: right + 32, y: y(entry.rank) + 4 }, `${fit(entry.id, width - right - 76)}  ${change(entry)}`)]);
    };
    const ranked = entries.filter((entry) => isNumber(entry.rank) && isNumber(entry.first_rank));
    const bright = ranked.filter(inColour).sort((a, b) => a.rank - b.rank);
    const free = (used, at) => !used.some((other) => Math.abs(other - at) < 11) && used.push(at);
    const used = [];
    const numbers = (x, anchor, rank) => shape("text", { x, y: y(rank) + 4, "text-anchor": anchor }, whole(rank));
    return {
      height: y(last) + 16,
      shapes: [
        shape("text", { x: left, y: 14, "text-anchor": "start" }, "First stage"), shape("text", { x: right, y: 14, "text-anchor": "end" }, "Final"),
        ranked.filter((entry) => !inColour(entry)).map(draw), bright.map(draw),
        [...bright].sort((a, b) => a.first_rank - b.first_rank).map((entry) => free(used, y(entry.first_rank)) && numbers(left - 9, "end", entry.first_rank)),
        bright.map((entry) => numbers(right + 9, "start", entry.rank)),
      ],
    };
  });
}

function scoreSpread(call, entries, choose) {
  const inColour = colourTest(call, entries);
  const strips = [
    ["First stage", "scale not recorded", entries.filter((entry) => isNumber(entry.first_score)), (entry) => entry.first_score, "The first stage gave no scores."],
    ["Final", call.scale ?? "no scale", entries.filter((entry) => isNumber(entry.score)), (entry) => entry.score, "No candidate was scored."],
  ];
  return figure("Score spread", `Before and after; filled: ${isNumber(call.top_k) ? "returned" : "the first " + Math.min(HEAD, entries.length)}. ${scales[call.scale] ?? ""}`, (width) => {
    let top = 0;
    const shapes = strips.map(([name, scale, scored, value, nothing]) => {
      const here = top;
      const heading = [shape("text", { class: "strong", x: 0, y: here + 16 }, name), shape("text", { x: width, y: here + 16, "text-anchor": "end" }, scored.length ? fit(scale, width - 90) : "")];
      if (!scored.length) {
        top += 62;
        return [heading, shape("text", { x: 0, y: here + 40 }, fit(nothing, width))];
      }
      const values = scored.map(value);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = (high - low || Math.abs(high) || 1) * 0.04;
      const x = linear([low - room, high + room], [8, width - 8]);
      const piles = new Map();
      const places = [...scored].sort((a, b) => inColour(b) - inColour(a)).map((entry) => {
        const bin = Math.round(x(value(entry)) / 9);
        piles.set(bin, (piles.get(bin) ?? 0) + 1);
        return [entry, piles.get(bin) - 1];
      });
      const tallest = Math.max(...piles.values());
      const lift = Math.min(9, 100 / tallest);
      const base = here + 34 + (tallest - 1) * lift + 6;
      top = base + 58;
      const marks = ticks(low - room, high + room, Math.max(4, Math.floor(width / 90)));
      return [heading, axis(marks, x, base + 9, tickText(marks), null, [0, width]), places.reverse().map(([entry, up]) =>
        mark(outline(entry), () => choose(entry), shape("circle", { class: `shape ${inColour(entry) ? "up fill" : "rest hollow"}`, cx: x(value(entry)), cy: base - up * lift, r: 4 })))];
    });
    return { height: top, shapes };
  });
}

function candidates(call, entries, choose) {
  const context = list(call.contexts).at(-1);
  const some = (of) => entries.some((entry) => of(entry) !== null && of(entry) !== undefined);
  const texts = some((entry) => entry.text);
  const ranked = some((entry) => entry.rank);
  const over = (main, below) => [main, isNumber(below) && soft(number(below, 3))];
  const columns = [
    ranked && { head: "Rank", number: true, cell: (entry) => whole(entry.rank), key: (entry) => entry.rank },
    ranked && { head: "Move", number: true, cell: (entry) => el("span", { class: { up: "good", down: "bad" }[isNumber(entry.rank) ? direction(entry) : ""] }, change(entry)), key: (entry) => entry.rank - entry.first_rank },
    { head: "Candidate", class: texts ? "long" : "words", cell: (entry) => [el("button", { class: "link", type: "button", click: () => choose(entry) }, bdi(short(entry.id, 80))), texts && soft(bdi(short(entry.text, 90)))] },
    some((entry) => entry.score) && { head: "Score", number: true, cell: (entry) => over(number(entry.score), entry.raw_score), key: (entry) => -entry.score },
    { head: "First stage", number: true, cell: (entry) => over(whole(entry.first_rank), entry.first_score), key: (entry) => entry.first_rank },
    some((entry) => entry.coverage) && { head: "Read", number: true, cell: (entry) => (entry.coverage ? el("span", { class: cut(entry) ? "bad" : "" }, read(entry.coverage)) : "–"), key: (entry) => (entry.coverage ? entry.coverage.seen / entry.coverage.total : null) },
    context && { head: "Context", class: "words", cell: (entry) => bdi(inContext(call, context, entry)) },
    !context && some((entry) => entry.dropped) && { head: "Dropped", class: "words", cell: (entry) => (entry.dropped ? bdi(entry.dropped) : "") },
  ].filter(Boolean);
  return el("div", {}, el("h3", {}, "Candidates"), table(columns, entries, { caption: "Small figures: raw score, first-stage score. Choose a candidate to see its steps.", size: 10 }));
}
const read = (coverage) => share(coverage.total ? coverage.seen / coverage.total : 1);

// ---- one query and candidate

function pairDetail(call, entry) {
  const windows = call.trace ? windowsOf(call.trace, String(entry.id)) : [];
  return [
    el("h3", {}, "Candidate ", bdi(entry.id), entry.id === String(entry.first_rank - 1) && el("span", { class: "soft" }, " (its position in the input)")),
    facts([
      ["Score", isNumber(entry.score) ? `${number(entry.score)} (${call.scale ?? "scale not recorded"})` : null],
      ["Raw score", isNumber(entry.raw_score) ? number(entry.raw_score) : null],
      ["Entered", `at rank ${whole(entry.first_rank)} of ${whole(list(call.candidates).length)}${isNumber(entry.first_score) ? `, with the first stage's score ${number(entry.first_score)}` : ""}`],
      ["Rank", rankReason(call, entry)],
      ["Returned", below(call, entry) ? `no: below top_k (${whole(call.top_k)})` : !isNumber(entry.rank) ? "no: the call failed" : `by the reranker${entry.dropped ? `, without a score: ${entry.dropped}` : ""}`],
      ...(list(call.contexts).length ? call.contexts.map((context) => ["Context", inContext(call, context, entry)]) : [["Context", isNumber(entry.rank) && !below(call, entry) ? "not recorded: no context was packed from the ranking" : null]]),
      ["Read", entry.coverage ? reading(entry.coverage) : null],
    ]),
    el("div", {}, el("h4", {}, "Text"), textOf(entry)),
    entry.metadata && pairs(entry.metadata).length > 0 && el("div", {}, el("h4", {}, "Metadata"), facts(pairs(entry.metadata).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]))),
    el("div", {}, el("h4", {}, "Its steps"), stepTable(list(entry.visits))),
    windows.length > 0 && el("div", {}, el("h4", {}, "Windows"), table([
      { head: "Window", class: "words", cell: (window) => bdi(window.name) },
      { head: "Step", class: "words", cell: (window) => bdi(window.step) },
      { head: "Raw score", number: true, cell: (window) => number(window.score), key: (window) => -window.score },
    ], windows, { size: 10 })),
  ].filter(Boolean);
}

function rankReason(call, entry) {
  if (!isNumber(entry.rank)) return null;
  const next = [[-1, "below"], [1, "above"]].map(([by, word]) => [list(call.candidates).find((other) => other.rank === entry.rank + by), word]);
  return [whole(entry.rank), ...next.filter(([other]) => other).map(([other, word]) => `${word} ${short(other.id, 60)}${decision(entry, other)}`)].join("; ");
}

// What decided between two neighbours, as far as the record says: the last scores that both have.
function decision(entry, other) {
  const [own, its] = [entry.raw_score, other.raw_score];
  if (isNumber(own) && isNumber(its)) return own === its ? " by the order of arrival, since the raw scores are equal" : `, which has the raw score ${number(its)}`;
  if (isNumber(own) || isNumber(its)) return `, which has ${isNumber(its) ? "a" : "no"} score`;
  const theirs = new Map(list(other.visits).map((visit) => [visit.step, visit.raw_score]));
  const last = list(entry.visits).findLast((visit) => theirs.has(visit.step) && visit.raw_score !== theirs.get(visit.step));
  if (last) {
    const [mine, others] = [last.raw_score, theirs.get(last.step)];
    return isNumber(mine) && isNumber(others) ? ` by ${last.step}, with ${number(mine)} against ${number(others)}` : `, which had ${isNumber(others) ? "a" : "no"} score in ${last.step}`;
  }
  return list(entry.visits).length || list(other.visits).length ? "" : " by the order of arrival";
}

// The windows of a long text that a step read, best first: their scores are in the tree of steps, under ID#NUMBER.
function windowsOf(node, id) {
  const mine = pairs(node.scores).filter(([name]) => name.startsWith(`${id}#`) && /^#+\d+$/.test(name.slice(id.length)));
  return [...mine.map(([name, score]) => ({ name, step: node.step, score })), ...list(node.children).flatMap((child) => windowsOf(child, id))];
}

function reading(coverage) {
  const words = `${whole(coverage.seen)} of ${many(coverage.total, "token")} (${read(coverage)})`;
  const cutOff = coverage.seen < coverage.total;
  return el("div", {}, bar([["up", coverage.seen], ["down", Math.max(0, coverage.total - coverage.seen)]], words),
    el("span", { class: "small" }, words, cutOff ? "; the rest was cut off" : ""));
}

function textOf(entry) {
  if (!isNumber(entry.text?.length)) return el("p", { class: "soft" }, "The text was not recorded. SHA-256 ", el("code", {}, bdi(entry.sha256)));
  const signs = Array.from(entry.text); // offsets count characters, not UTF-16 units
  const [from, to] = entry.window ?? [0, 0];
  const marked = to > from;
  return [
    el("p", { class: "text", dir: "auto", tabindex: 0 }, marked ? [signs.slice(0, from).join(""), el("mark", {}, signs.slice(from, to).join("")), signs.slice(to).join("")] : entry.text || el("span", { class: "soft" }, "(empty)")),
    marked && el("p", { class: "small soft" }, `The score comes from the marked window, characters ${whole(from)} to ${whole(to)}.`),
  ];
}

function stepTable(visits) {
  if (!visits.length) return empty("No step read it.");
  return table([
    { head: "Step", class: "words", cell: (visit) => bdi(visit.step) },
    { head: "Rank", number: true, cell: (visit) => whole(visit.rank) },
    { head: "Raw score", number: true, cell: (visit) => number(visit.raw_score) },
    { head: "Score", number: true, cell: (visit) => number(visit.score) },
    { head: "Scale", cell: (visit) => bdi(visit.scale) },
    { head: "Read", number: true, cell: (visit) => (visit.coverage ? read(visit.coverage) : "–") },
    visits.some((visit) => visit.cached) && { head: "Cache", cell: (visit) => (visit.cached ? "from the cache" : "") },
    visits.some((visit) => visit.unscored) && { head: "Not scored", class: "words", cell: (visit) => (visit.unscored ? bdi(visit.unscored) : "") },
  ].filter(Boolean), visits, { size: 30 });
}

function step(node, total) {
  const usage = node.usage ?? {};
  const fact = (words) => el("span", {}, words);
  return el("li", {},
    el("b", {}, bdi(node.step)), node.error && [" ", badge("failed", "bad")],
    el("div", { class: "line" }, fact(duration(node.seconds)), node.kind && fact(bdi(node.kind)), node.model && fact(bdi(node.model)), node.template && fact(["prompt ", bdi(node.template)]), node.scale && fact(bdi(node.scale)),
      usage.texts > 0 && fact(many(usage.texts, "text")), usage.cached > 0 && fact(`${whole(usage.cached)} from cache`), isNumber(usage.tokens) && fact(many(usage.tokens, "token")),
      usage.requests > 0 && fact(many(usage.requests, "request")), isNumber(usage.search_units) && fact(many(usage.search_units, "search unit")), isNumber(usage.cost) && fact(money(usage.cost)),
      node.attempts > 1 && fact(many(node.attempts, "attempt"))),
    total > 0 && bar([["flat", Math.min(node.seconds || 0, total)], ["f0", Math.max(0, total - (node.seconds || 0))]], `${duration(node.seconds)} of ${duration(total)}`),
    node.error && el("p", { class: "bad" }, bdi(node.error)),
    list(node.failures).map((words) => el("p", { class: "bad" }, bdi(words))),
    list(node.notes).map((words) => el("p", { class: "soft" }, bdi(words))),
    list(node.children).length > 0 && el("ul", {}, node.children.map((child) => step(child, total))));
}
