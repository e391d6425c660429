"use strict";
// Shared by both pages: elements, numbers as text, tables, lists to browse, and charts.
// Data becomes text nodes and plain attributes, never HTML.

// ---- elements

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
const el = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);
const shape = (tag, attributes = {}, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
// Text from the data, isolated in its writing direction.
const bdi = (text, attributes = {}) => el("bdi", attributes, text === null || text === undefined ? "–" : String(text));
const list = (value) => (Array.isArray(value) ? value : []);
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const pairs = (value) => Object.entries(value ?? {});

function short(text, length) {
  const signs = Array.from(String(text ?? ""));
  return signs.length > length ? signs.slice(0, length - 1).join("").trimEnd() + "…" : signs.join("");
}

const section = (id, title, lead, ...body) =>
  el("section", { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), lead && el("p", {}, lead), el("div", { class: "body" }, ...body));

const empty = (words) => el("p", { class: "empty" }, words);

const soft = (...children) => el("small", { class: "soft" }, ...children);

function choice(label, options, pick) {
  const select = el("select", { "aria-label": label, change: () => pick(options[select.selectedIndex]) },
    options.map((option) => el("option", {}, short(option, 60))));
  return el("label", {}, label, select);
}

// A choice, with its first option picked; nothing is shown for a single option.
function controls(label, options, pick) {
  pick(options[0]);
  return options.length > 1 && el("div", { class: "controls" }, choice(label, options, pick));
}

function facts(rows) {
  return el("dl", { class: "facts" }, rows.filter((row) => row[1] !== null && row[1] !== undefined)
    .map(([name, value]) => [el("dt", {}, bdi(name)), el("dd", {}, value instanceof Node ? value : bdi(value))]));
}

// ---- numbers as text; an unknown one is a dash

const isNumber = (value) => typeof value === "number";
const orDash = (words) => (value, ...rest) => (isNumber(value) ? words(value, ...rest) : "–");
const whole = orDash((n) => Math.round(n).toLocaleString("en"));
const minus = (text) => text.replace("-", "−");
const number = orDash((n, digits = 4) => {
  const size = Math.abs(n);
  if (size >= 1e6 || (size > 0 && size < 0.5 / 10 ** digits)) return minus(n.toExponential(1));
  return minus(n.toFixed(size >= 1000 ? 0 : size >= 100 ? Math.min(1, digits) : digits));
});
const signed = orDash((n, digits = 3) => (n > 0 ? "+" : "") + number(n, digits));
const share = orDash((n) => {
  const percent = n * 100;
  if (percent > 0 && percent < 0.1) return "< 0.1\u00a0%";
  return (n < 1 ? Math.min(percent, 99.9) : percent).toFixed(percent < 10 && percent > 0 ? 1 : percent > 99 && n < 1 ? 1 : 0) + "\u00a0%";
});
const duration = orDash((s) => {
  if (s === 0) return "0 ms";
  if (s < 0.001) return "< 1 ms";
  if (s < 0.9995) return `${(s * 1000).toFixed(s < 0.00995 ? 1 : 0)} ms`;
  return s < 59.95 ? `${s.toFixed(s < 9.995 ? 2 : 1)} s` : `${Math.floor(Math.round(s) / 60)} min ${Math.round(s) % 60} s`;
});
const money = orDash((n) => "$" + (n === 0 ? "0" : n < 0.01 ? n.toPrecision(2) : n.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: n < 1 ? 4 : 2 })));
const many = (n, one, more = one + "s") => `${whole(n)} ${n === 1 ? one : more}`;
function moment(text) {
  const at = new Date(text);
  return text && !isNaN(at) ? at.toISOString().slice(0, 19).replace("T", " ") + " UTC" : String(text ?? "–");
}

// ---- tables and lists, some rows at a time

function pages(size, fill) {
  let rows = [];
  let at = 0;
  const status = el("span", { role: "status" });
  const turn = (by) => () => { at += by; show(); };
  const back = el("button", { class: "button", type: "button", click: turn(-size) }, "Previous");
  const next = el("button", { class: "button", type: "button", click: turn(size) }, "Next");
  const bar = el("div", { class: "pager" }, back, status, next);
  function show() {
    const end = Math.min(at + size, rows.length);
    status.textContent = rows.length ? `${whole(at + 1)}–${whole(end)} of ${whole(rows.length)}` : "none";
    back.disabled = at === 0;
    next.disabled = end === rows.length;
    bar.hidden = rows.length <= size;
    fill(rows.slice(at, end));
  }
  return { bar, set(all) { rows = all; at = 0; show(); } };
}

// A column has head and cell(row), and may have number (right-aligned), key(row) to sort by, and class.
const column = (head, name, words = whole) => ({ head, number: true, cell: (row) => words(row[name]), key: (row) => row[name] });
function table(columns, rows, { caption, size = 50 } = {}) {
  const body = el("tbody");
  const kind = (column) => (column.number ? "n" : column.class);
  const run = pages(size, (part) => body.replaceChildren(...part.map((row) =>
    el("tr", {}, columns.map((column, i) =>
      el(i ? "td" : "th", { class: kind(column), scope: i ? null : "row" }, column.cell(row)))))));
  const heads = columns.map((column) => el("th", { class: kind(column), scope: "col" },
    column.key ? el("button", { class: "link", type: "button", click: () => sort(column) }, column.head) : column.head));
  let sortColumn = null;
  let down = false;
  function sort(column) {
    down = sortColumn === column && !down;
    sortColumn = column;
    const key = (row) => column.key(row) ?? Infinity;
    const order = [...rows].sort((a, b) => compare(key(a), key(b)));
    columns.forEach((other, i) => other === column
      ? heads[i].setAttribute("aria-sort", down ? "descending" : "ascending") : heads[i].removeAttribute("aria-sort"));
    run.set(down ? order.reverse() : order);
  }
  run.set(rows);
  return el("div", { class: "frame" }, caption && el("p", { class: "caption" }, caption),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption ?? columns[0].head },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), body)), run.bar);
}

// A list on the left, and the details of the current item on the right.
function browse({ label, items, size = 40, item, detail, nothing }) {
  const rows = el("ul", { keydown: moveFocus });
  const panel = el("div", { class: "detail card", role: "region", "aria-live": "polite", "aria-label": `chosen ${label}` });
  let current;
  const run = pages(size, (part) => rows.replaceChildren(...(part.length ? part.map(row) : [el("li", { class: "empty" }, nothing)])));
  function row(thing) {
    const button = el("button", { type: "button", "aria-current": thing === current ? "true" : null, click: () => choose(thing, button) }, item(thing));
    return el("li", {}, button);
  }
  function choose(thing, button) {
    current = thing;
    rows.querySelector("[aria-current]")?.removeAttribute("aria-current");
    button?.setAttribute("aria-current", "true");
    panel.replaceChildren(...[detail(thing)].flat(9).filter(Boolean));
    if (button && panel.offsetTop > rows.offsetTop + 100) panel.scrollIntoView({ block: "start" });
  }
  function moveFocus(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    event.target.closest("li")?.[step]?.querySelector("button")?.focus();
  }
  function set(matches) {
    if (matches.length && !matches.includes(current)) choose(matches[0]);
    if (!matches.length) panel.replaceChildren(empty("Nothing is chosen."));
    run.set(matches);
    if (!matches.length) current = undefined;
  }
  set(items);
  return { set, node: el("div", { class: "browse" }, el("div", { class: "list card", role: "group", "aria-label": `${label} list` }, rows, run.bar), panel) };
}

// ---- charts

const canvas = document.createElement("canvas").getContext("2d");
function fit(text, width) {
  canvas.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  let signs = Array.from(short(text, 120));
  if (canvas.measureText(signs.join("")).width <= width) return signs.join("");
  while (signs.length && canvas.measureText(signs.join("") + "…").width > width) signs.pop();
  return signs.join("") + "…";
}

const tip = el("div", { id: "tip", role: "tooltip", hidden: true });
function showTip(at, lines) {
  tip.replaceChildren(...lines.filter(Boolean).map((line) => el("div", {}, bdi(short(line, 200)))));
  tip.hidden = false;
  const box = at.getBoundingClientRect();
  const middle = box.left + box.width / 2 - tip.offsetWidth / 2;
  const left = Math.max(8, Math.min(middle, document.documentElement.clientWidth - tip.offsetWidth - 8));
  const top = box.top - tip.offsetHeight - 8;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(top < 4 ? box.bottom + 8 : top) + scrollY}px`;
}
const hideTip = () => { tip.hidden = true; };

// A part of a chart with a tooltip, reached by pointer or arrow keys; with `choose`, a button.
function mark(lines, choose, ...shapes) {
  const words = lines.filter(Boolean).map((line) => short(line, 200)).join(", ");
  const node = shape("g", { class: "mark", role: choose ? "button" : "img", tabindex: -1, "aria-label": words,
    pointerenter: () => showTip(node, lines), pointerleave: hideTip, focus: () => showTip(node, lines), blur: hideTip,
    click: choose, keydown: choose && ((event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
    }) }, ...shapes);
  return node;
}

// A chart with its title; paint(width) returns its shapes and height, again for each new width.
function figure(title, note, paint, ...above) {
  const id = `figure-${figure.count = (figure.count ?? 0) + 1}`;
  const box = el("div", { class: "plot" });
  let width = 0;
  function repaint() {
    const now = Math.floor(box.clientWidth);
    if (now < 40 || now === width) return;
    width = now;
    const { height, shapes } = paint(width);
    const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-labelledby": id }, shapes);
    arrowKeys(svg);
    box.replaceChildren(svg);
  }
  new ResizeObserver(() => requestAnimationFrame(repaint)).observe(box);
  return el("figure", {}, el("figcaption", { id }, title, note && soft(note)), ...above, box);
}

function arrowKeys(svg) {
  const marks = [...svg.querySelectorAll(".mark")];
  marks[0]?.setAttribute("tabindex", 0);
  svg.addEventListener("keydown", (event) => {
    const at = marks.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (!marks[to]) return;
    marks[at].setAttribute("tabindex", -1);
    marks[to].setAttribute("tabindex", 0);
    marks[to].focus();
  });
}

function linear([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const stretch = (low, high) => { const room = (high - low || Math.abs(high) || 1) * 0.06; return [low - room, high + room]; };
const thin = (values, room) => values.filter((_, i) => i % Math.ceil(values.length / Math.max(2, room)) === 0);

// The number of digits that distinguish neighbouring ticks.
function digits(values) {
  const gap = values.length > 1 ? Math.abs(values[1] - values[0]) : Math.abs(values[0]) || 1;
  return Math.max(0, Math.min(6, Math.ceil(-Math.log10(gap) - 1e-9)));
}
const tickText = (values) => { const places = digits(values); return (value) => number(value, places); };

function axis(values, x, y, words, label, [from, to], top) {
  return [
    top !== undefined && values.map((value) => shape("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: y })),
    shape("line", { class: "axis", x1: from, x2: to, y1: y, y2: y }),
    values.map((value) => shape("text", { x: x(value), y: y + 17, "text-anchor": "middle" }, words(value))),
    label && shape("text", { x: to, y: y + 36, "text-anchor": "end" }, fit(label, to - from)),
  ];
}
function levels(values, y, [from, to], words) {
  return values.map((value) => [
    shape("line", { class: "grid", x1: from, x2: to, y1: y(value), y2: y(value) }),
    shape("text", { x: from - 8, y: y(value) + 4, "text-anchor": "end" }, words(value)),
  ]);
}

// The name of a point, on the side with more room.
function label(words, x, y, left, right) {
  const after = right - x > x - left;
  return shape("text", { class: "strong", x: after ? x + 11 : x - 11, y: y - 7, "text-anchor": after ? "start" : "end" }, fit(words, Math.max(60, (after ? right - x : x - left) - 14)));
}

// Systems differ in colour and in shape; from the seventh on, colours repeat with other shapes.
const colourIndex = (index) => (index ? ((index - 1) % 6) + 1 : 0);
function sign(index, x, y, size = 5, kind = "fill") {
  const i = colourIndex(index + Math.floor((index - 1) / 6));
  const name = `shape s${colourIndex(index)} ${kind}`;
  const path = (d) => shape("path", { class: name, d });
  if (i === 2) return shape("rect", { class: name, x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8 });
  if (i === 3) return path(`M${x} ${y - size * 1.2}L${x + size * 1.15} ${y + size * 0.9}H${x - size * 1.15}Z`);
  if (i === 4) return path(`M${x} ${y - size * 1.3}L${x + size * 1.3} ${y}L${x} ${y + size * 1.3}L${x - size * 1.3} ${y}Z`);
  if (i === 5) return path(`M${x} ${y + size * 1.2}L${x + size * 1.15} ${y - size * 0.9}H${x - size * 1.15}Z`);
  if (i === 6) return shape("rect", { class: name, x: x - size * 1.3, y: y - size * 0.55, width: size * 2.6, height: size * 1.1 });
  return shape("circle", { class: name, cx: x, cy: y, r: size });
}
const icon = (index, kind) => shape("svg", { width: 14, height: 12, "aria-hidden": "true" }, sign(index, 7, 6, 4.5, kind));
const legend = (entries) => el("ul", { class: "legend" }, entries.map(([swatch, words]) => el("li", {}, swatch, bdi(words))));
const swatch = (name) => shape("svg", { width: 14, height: 12, "aria-hidden": "true" }, shape("rect", { class: `${name} fill`, x: 1, y: 1, width: 10, height: 10, rx: 2 }));

// Parts of a whole side by side, as a thin bar.
function bar(parts, words) {
  const total = parts.reduce((sum, [, size]) => sum + size, 0) || 1;
  let at = 0;
  return shape("svg", { class: "bar", role: "img", "aria-label": words, viewBox: "0 0 100 8", preserveAspectRatio: "none" },
    shape("rect", { class: "track", width: 100, height: 8 }),
    parts.map(([name, size]) => shape("rect", { class: `${name} fill`, x: ((at += size) - size) * 100 / total, width: size * 100 / total, height: 8 })));
}

// ---- the page

// Draw the page once all scripts are read.
function start(title, draw) {
  document.addEventListener("DOMContentLoaded", () => {
    const data = JSON.parse(document.getElementById("data").textContent);
    document.title = title(data);
    document.body.append(tip);
    addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
    const page = document.getElementById("page");
    page.append(...[draw(data)].flat(9).filter(Boolean));
    const sections = [...page.querySelectorAll("section[id]")];
    page.querySelector(".contents")?.append(...sections.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
    if (data.not_finite) page.querySelector("header").append(el("p", { class: "notice" },
      `${many(data.not_finite, "number")} in the data ${data.not_finite === 1 ? "is" : "are"} not finite, and shown as unknown.`));
  });
}
