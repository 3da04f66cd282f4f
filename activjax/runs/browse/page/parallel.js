// Parallel coordinates: a line a cell through all axes; ranges dragged on an axis filter the page.
import { choice, el, framed, svg, tick } from "./dom.js";
import { ramp } from "./chart.js";
import { count } from "./numbers.js";
import { looksLog, makeScale } from "./scale.js";
import { distinct, titled } from "./table.js";

const HEIGHT = 340;
const [TOP, BOTTOM, SIDE] = [44, 30, 70];
const BINS = 24; // colours
const CHUNK = 2500; // lines a frame
const MOST = 9; // axes at first
const FEW = 12; // values of an axis on which lines are spread
const JITTER = 0.03; // of the axis

// what is shown, drawn again when the colours change: one listener for all that have been
let current = null;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.());

/** `change(condition, words)` is told of the ranges: a test of a line, and each in words. */
export function makeParallel(table, axes, change) {
  const able = table.columns.filter((c) => (axes.includes(c) || c.role === "value" || c.name === "seed")
    && distinct(c).length > 1);
  if (able.length < 2) return null;
  const values = able.filter((c) => c.role === "value");
  const settings = able.filter((c) => axes.includes(c));
  const first = settings.length ? settings : able.filter((c) => c.role !== "value");
  let used = [...first.slice(0, MOST - 3), ...values.slice(0, Math.max(2, MOST - first.length))]
    .slice(0, MOST);
  let colour = values[0] || used[used.length - 1];
  let lines = [...Array(table.cells).keys()];
  let width = 900;
  let drawing = 0;
  const ranges = new Map(); // column -> [low, high], places from 0 to 1
  const places = new Map(); // column -> { scale, at: Float32Array }

  const back = el("canvas", { class: "layer" });
  const front = el("canvas", { class: "layer" });
  const over = svg("svg", { class: "layer", role: "group",
    "aria-label": "Axes; drag on one to choose a range" });
  const stage = el("div", { class: "parallel" }, back, front, over);
  const told = el("p", { class: "caption" });
  const tools = el("div", { class: "tools" });
  const node = el("div", {}, tools, el("div", { class: "wide-stage" }, stage), told);
  tools.append(choice("colour", able.map((c) => [c.name, c.name.slice(0, 80)]), colour.name, (name) => {
    colour = table.byName.get(name);
    redraw();
  }), el("details", { class: "choice" }, el("summary", {}, "axes"),
    el("div", { class: "menu" }, able.map((c) => tick(c.name.slice(0, 60), used.includes(c), (on) => {
      used = able.filter((a) => (a === c ? on : used.includes(a)));
      if (!on) ranges.delete(c);
      tell();
      redraw();
    })))));

  function placed(column) {
    if (!places.has(column)) {
      const all = distinct(column);
      const kind = !all.every((v) => typeof v === "number") ? "ordinal"
        : looksLog(all) ? "log" : "linear";
      const scale = makeScale(all, kind, { room: 0.05, text: (v) => column.text(v), most: 6,
        settings: column.role !== "value" });
      const at = new Float32Array(table.cells);
      for (let i = 0; i < table.cells; i += 1) {
        const value = column.values[i];
        at[i] = value === null ? NaN : scale.place(value);
      }
      // lines that meet in one value are spread a little, so that their number shows
      const spread = all.length <= FEW ? JITTER : 0;
      places.set(column, { scale, at, spread });
    }
    return places.get(column);
  }

  const x = (k) => SIDE + (used.length > 1 ? (k * (width - 2 * SIDE)) / (used.length - 1) : 0);
  const y = (place) => TOP + (1 - place) * (HEIGHT - TOP - BOTTOM);

  /** Draw some lines on a canvas, a share of them a frame, in one colour or by the colour's bins. */
  function paint(canvas, which, flat, alpha, done) {
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = HEIGHT * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.lineWidth = 1;
    pen.globalAlpha = alpha;
    const shades = flat ? [resolved(flat)] : [resolved("var(--soft)"),
      ...[...Array(BINS).keys()].map((k) => resolved(ramp(k / (BINS - 1))))];
    const shade = placed(colour).at;
    const ats = used.map((c) => placed(c).at);
    const spreads = used.map((c) => placed(c).spread);
    const xs = used.map((_, k) => x(k));
    const own = drawing;
    const began = performance.now();
    let spent = 0;
    const part = (from) => {
      if (own !== drawing) return;
      const start = performance.now();
      const bins = shades.map(() => new Path2D());
      const to = Math.min(from + CHUNK, which.length);
      for (let n = from; n < to; n += 1) {
        const i = which[n];
        const of = shade[i];
        const known = of === of && Math.abs(of) < 2; // neither missing nor infinite
        const bin = flat || !known ? 0
          : 1 + Math.min(BINS - 1, Math.max(0, Math.floor(of * BINS)));
        const path = bins[bin];
        let open = false;
        for (let k = 0; k < xs.length; k += 1) {
          const place = ats[k][i];
          // what is not there, or not finite, runs below the axis
          const up = place === place && Math.abs(place) < 2
            ? y(place + spreads[k] * (((i * 0.618034 + k * 0.381966) % 1) - 0.5))
            : HEIGHT - BOTTOM + 14;
          if (open) path.lineTo(xs[k], up);
          else path.moveTo(xs[k], up);
          open = true;
        }
      }
      bins.forEach((path, bin) => {
        pen.strokeStyle = shades[bin];
        pen.stroke(path);
      });
      spent += performance.now() - start;
      if (to < which.length) requestAnimationFrame(() => part(to));
      else if (done) done(spent, performance.now() - began);
    };
    part(0);
  }

  function resolved(wanted) {
    told.style.color = wanted;
    const found = getComputedStyle(told).color;
    told.style.color = "";
    return found;
  }

  function dark() {
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function drawAxes() {
    over.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    over.setAttribute("width", width);
    over.setAttribute("height", HEIGHT);
    const focused = [...over.children].indexOf(document.activeElement);
    const gap = used.length > 1 ? (width - 2 * SIDE) / (used.length - 1) : width;
    over.replaceChildren(...used.map((column, k) => {
      const { scale } = placed(column);
      const tight = gap < 110; // names of neighbours stand on two lines
      const room = Math.max(6, Math.floor((tight ? 2 * gap : gap) / 8.4));
      const name = titled(column);
      const short = name.length > room ? `${name.slice(0, room - 1)}…` : name;
      const group = svg("g", { class: "coordinate", tabindex: "0", role: "slider",
        "aria-label": `range of ${name}`, "aria-valuetext": words(column) || "all" },
      svg("line", { x1: x(k), x2: x(k), y1: TOP, y2: HEIGHT - BOTTOM, class: "axis" }),
      svg("text", { x: x(k), y: tight && k % 2 ? 34 : 18, class: "title middle" }, short, svg("title", {}, name)),
      scale.ticks.map((mark) => svg("text", { x: x(k) + 6, y: y(mark.at) + 4, class: "tick halo" },
        mark.text.length > 14 ? `${mark.text.slice(0, 13)}…` : mark.text)));
      const range = ranges.get(column);
      if (range) {
        group.append(svg("rect", { x: x(k) - 9, width: 18, y: y(range[1]),
          height: Math.max(3, y(range[0]) - y(range[1])), class: "brush" }));
      }
      const grip = svg("rect", { x: x(k) - 16, width: 32, y: TOP - 8,
        height: HEIGHT - TOP - BOTTOM + 16, class: "grip" });
      group.append(grip);
      grip.addEventListener("pointerdown", (event) => drag(event, column, grip));
      group.addEventListener("keydown", (event) => press(event, column));
      return group;
    }));
    over.children[focused]?.focus({ preventScroll: true });
  }

  const update = framed(() => {
    drawAxes();
    tell();
  });

  function placeOf(event) {
    const box = over.getBoundingClientRect();
    const at = ((event.clientY - box.top) / box.height) * HEIGHT;
    return Math.min(1, Math.max(0, 1 - (at - TOP) / (HEIGHT - TOP - BOTTOM)));
  }

  function drag(event, column, grip) {
    event.preventDefault();
    const from = placeOf(event);
    over.setPointerCapture(event.pointerId);
    const move = (next) => {
      const to = placeOf(next);
      if (Math.abs(to - from) > 0.01) ranges.set(column, [Math.min(from, to), Math.max(from, to)]);
      update();
    };
    const up = (next) => {
      over.removeEventListener("pointermove", move);
      if (Math.abs(placeOf(next) - from) <= 0.01) ranges.delete(column); // a click clears
      update();
    };
    over.addEventListener("pointermove", move);
    over.addEventListener("pointerup", up, { once: true });
  }

  /** Arrows move a range, + and - change its size, Escape clears it. */
  function press(event, column) {
    const [low, high] = ranges.get(column) || [0, 1];
    const step = 0.05;
    const moves = { ArrowUp: [step, step], ArrowDown: [-step, -step], "+": [-step, step],
      "-": [step, -step] };
    if (event.key === "Escape" || event.key === "Delete") ranges.delete(column);
    else if (moves[event.key]) {
      const [a, b] = moves[event.key];
      const kept = [Math.max(0, low + a), Math.min(1, high + b)];
      if (kept[1] - kept[0] >= step / 2) ranges.set(column, kept);
    } else return;
    event.preventDefault();
    drawAxes();
    tell();
  }

  function words(column) {
    const range = ranges.get(column);
    if (!range) return "";
    const { scale } = placed(column);
    if (scale.kind === "ordinal") {
      return scale.values.filter((v) => within(scale.place(v), range)).map(column.text).join(", ");
    }
    return range.map((place) => column.text(scale.back(place))).join(" to ");
  }

  function within(place, range) {
    return place >= range[0] - 1e-6 && place <= range[1] + 1e-6;
  }

  function tell() {
    const tests = [...ranges].map(([column, range]) => [placed(column).at, range]);
    const condition = tests.length ? (i) => tests.every(([at, range]) => within(at[i], range)) : null;
    change(condition, [...ranges.keys()].map((column) => ({
      text: `${column.name}: ${words(column)}`,
      clear: () => {
        ranges.delete(column);
        update();
      },
    })));
  }

  function redraw() {
    drawing += 1;
    drawAxes();
    const all = [...Array(table.cells).keys()];
    const some = lines.length < table.cells;
    if (some) paint(back, all, "var(--line)", 0.25);
    else back.width = 0;
    const alpha = Math.min(0.9, Math.max(0.06, 60 / Math.sqrt(lines.length + 1) / 10));
    paint(front, lines, null, alpha, (spent, whole) => {
      node.dataset.spent = spent.toFixed(1);
      node.dataset.whole = whole.toFixed(1);
    });
    told.textContent = `${count(lines.length)} of ${count(table.cells)} cells, a line each, coloured `
      + `by ${colour.name} (${dark() ? "light" : "dark"}: ${dark() ? "high" : "low"}). Drag on an axis to choose a range, click it to clear; `
      + "by keyboard: arrows move a range, + and − size it, Escape clears. Lines below an axis "
      + "have no finite value there; grey ones have no finite colour.";
  }

  new ResizeObserver(framed(() => {
    const now = Math.max(480, Math.floor(stage.clientWidth));
    if (now !== width) {
      width = now;
      redraw();
    }
  })).observe(stage);
  current = redraw;
  return {
    node,
    update(found) {
      lines = found;
      redraw();
    },
  };
}
