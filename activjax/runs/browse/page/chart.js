// A plot as SVG: frame, marks, labels, and on it lines, bands, bars and dots.
import { el, svg } from "./dom.js";

export const COLOURS = 8; // that differ in lightness too, --c0 to --c7 in the style
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const MARKS = [
  (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0z`,
  (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (x, y, r) => `M${x},${y - 1.25 * r}l${1.2 * r},${2.2 * r}h${-2.4 * r}z`,
  (x, y, r) => `M${x},${y - 1.35 * r}l${1.35 * r},${1.35 * r}l${-1.35 * r},${1.35 * r}`
    + `l${-1.35 * r},${-1.35 * r}z`,
];

/** The colour of a series: a class of its own, or a place on the ramp from 0 to 1. */
export function colourOf(series) {
  return series.ramp === undefined ? `var(--c${series.index % COLOURS})` : ramp(series.ramp);
}

/** From dark to light (or the other way round where the page is dark), through hues that all see. */
export function ramp(p) {
  const stops = 5;
  const at = Math.min(Math.max(p, 0), 1) * (stops - 1);
  const i = Math.min(Math.floor(at), stops - 2);
  return `color-mix(in oklab, var(--r${i}) ${Math.round((1 - at + i) * 100)}%, var(--r${i + 1}))`;
}

const r1 = (value) => Math.round(value * 10) / 10;

/** A mark of a series, as the legend and the plot draw it. */
function mark(series, x, y, r, title) {
  const shape = MARKS[(series.index || 0) % MARKS.length];
  const node = svg("path", { d: shape(r1(x), r1(y), r), class: "mark" },
    title ? svg("title", {}, title) : null);
  node.style.fill = colourOf(series);
  return node;
}

/**
 * A plot.
 *
 * width, height in pixels; `x`, `y` scales; `xLabel`, `yLabel`, `title`; `series`: each with
 * `points` {x, y, low, high, title}, `index` or `ramp`, and `line`, `dots`, `band`, `bars`;
 * `rules`: horizontal dashed lines {y, label}.
 */
export function chart({ width, height, x, y, xLabel, yLabel, title, series, rules = [], label }) {
  const longest = Math.max(2, ...y.ticks.map((tick) => tick.text.length));
  const left = Math.min(20 + 7.2 * longest + (yLabel ? 16 : 0), width * 0.4);
  const slanted = x.kind === "ordinal"
    && x.ticks.reduce((sum, tick) => sum + tick.text.length + 2, 0) * 6.6 > width - left;
  const deepest = Math.min(14, Math.max(1, ...x.ticks.map((tick) => tick.text.length)));
  const bottom = (xLabel ? 40 : 24) + (slanted ? deepest * 4.6 : 0);
  const [top, right] = [title ? 26 : 10, 12];
  const [wide, high] = [width - left - right, height - top - bottom];
  const px = (v) => left + x.place(v) * wide;
  const py = (v) => top + (1 - y.place(v)) * high;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "chart",
    role: "img", "aria-label": label || title || yLabel });
  for (const tick of y.ticks) {
    const at = r1(top + (1 - tick.at) * high);
    root.append(svg("line", { x1: left, x2: left + wide, y1: at, y2: at, class: "grid" }),
      svg("text", { x: left - 7, y: at + 4, class: "tick end" }, tick.text));
  }
  let free = -Infinity; // where the next label may begin
  for (const tick of [...x.ticks].sort((a, b) => a.at - b.at)) {
    const at = r1(left + tick.at * wide);
    const base = top + high + 17;
    const text = tick.text.length > 14 && slanted ? `${tick.text.slice(0, 13)}…` : tick.text;
    root.append(svg("line", { x1: at, x2: at, y1: top + high, y2: top + high + 4, class: "axis" }));
    const half = slanted ? 6 : text.length * 3.6;
    if (at - half < free) continue;
    free = at + half + 5;
    root.append(svg("text", slanted
        ? { x: at, y: base - 4, class: "tick end", transform: `rotate(-35 ${at} ${base - 4})` }
        : { x: at, y: base, class: "tick middle" }, text));
  }
  root.append(svg("path", { d: `M${left},${top}V${top + high}H${left + wide}`, class: "axis" }));
  if (title) root.append(svg("text", { x: left, y: 15, class: "title" }, title));
  if (xLabel) {
    root.append(svg("text", { x: left + wide / 2, y: height - 6, class: "label middle" }, xLabel));
  }
  if (yLabel) {
    const middle = top + high / 2;
    root.append(svg("text", { x: 13, y: middle, class: "label middle",
      transform: `rotate(-90 13 ${middle})` }, yLabel));
  }
  for (const rule of rules) {
    const at = r1(py(rule.y));
    if (!(at >= top && at <= top + high)) continue;
    root.append(svg("line", { x1: left, x2: left + wide, y1: at, y2: at, class: "rule" }),
      svg("text", { x: left + wide - 4, y: at - 4, class: "tick end" }, rule.label));
  }
  for (const one of series) draw(root, one, px, py, { top, base: top + high });
  return root;
}

function draw(root, series, px, py, { top, base }) {
  const colour = colourOf(series);
  const clamp = (v) => Math.min(Math.max(v, top), base);
  const points = series.points.filter((p) => Number.isFinite(px(p.x)) && Number.isFinite(py(p.y)));
  const ends = points.filter((p) => p.low !== null && p.low !== undefined);
  const low = (p) => {
    const at = py(p.low);
    return r1(clamp(Number.isFinite(at) ? at : base));
  };
  const high = (p) => {
    const at = py(p.high);
    return r1(clamp(Number.isFinite(at) ? at : top));
  };
  if (series.band && ends.length > 1) {
    const there = ends.map((p) => `${r1(px(p.x))},${high(p)}`);
    const back = ends.map((p) => `${r1(px(p.x))},${low(p)}`).reverse();
    const band = svg("path", { d: `M${[...there, ...back].join("L")}z`, class: "band" });
    band.style.fill = colour;
    root.append(band);
  }
  if (series.line && points.length > 1) {
    // a point without a value breaks the line
    let d = "";
    let open = false;
    for (const p of series.points) {
      const [at, up] = [px(p.x), py(p.y)];
      const there = Number.isFinite(at) && Number.isFinite(up);
      if (there) d += `${open ? "L" : "M"}${r1(at)},${r1(clamp(up))}`;
      open = there;
    }
    const line = svg("path", { d, class: series.thin ? "line thin" : "line" });
    line.style.stroke = colour;
    if (series.dash) line.style.strokeDasharray = DASHES[series.dash % DASHES.length];
    root.append(line);
  }
  if (series.bars) {
    for (const p of ends) {
      const at = r1(px(p.x));
      const bar = svg("path", { class: "bar",
        d: `M${at},${low(p)}V${high(p)}M${at - 4},${low(p)}h8M${at - 4},${high(p)}h8` });
      bar.style.stroke = colour;
      root.append(bar);
    }
  }
  if (series.dots) {
    for (const p of points) root.append(mark(series, px(p.x), py(p.y), series.dots, p.title));
  }
}

/** The series' names beside their marks; a ramp shows its two ends. */
export function legend(name, series, note) {
  const items = series.map((one) => {
    const sample = svg("svg", { width: 26, height: 14, "aria-hidden": "true" });
    const line = svg("path", { d: "M1,7H25", class: "line" });
    line.style.stroke = colourOf(one);
    if (one.dash) line.style.strokeDasharray = DASHES[one.dash % DASHES.length];
    sample.append(line);
    if (one.dots) sample.append(mark(one, 13, 7, 3.6));
    return el("li", {}, sample, el("bdi", {}, one.name));
  });
  return el("div", { class: "legend" }, name ? el("span", { class: "small" }, name) : null,
    el("ul", {}, items), note ? el("span", { class: "small" }, note) : null);
}
