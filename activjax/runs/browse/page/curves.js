// Training curves: a plot a metric, a line a case, cell or side; brought up to date while running.
import { el, tick } from "./dom.js";
import { chart, COLOURS, legend } from "./chart.js";
import { number } from "./numbers.js";
import { makeScale } from "./scale.js";

const SECONDS = 2;
const METRICS = 12;
const LINES = 16;

/** Both ends of every bucket, so that a spike of one step shows. */
function pointsOf(series, cell) {
  const points = [];
  const [lo, hi] = [series.lo[cell], series.hi[cell]];
  for (let k = 0; k < series.step.length; k += 1) {
    points.push({ x: series.step[k], y: lo[k] ?? NaN });
    if (hi !== lo && hi[k] !== lo[k]) points.push({ x: series.step[k], y: hi[k] ?? NaN });
  }
  return points;
}

/**
 * The plots of some curves.
 *
 * sides: each {name, curves}; `cells(k)` names the k-th cell of a side with several; `live` looks
 * for more until the plots leave the page.
 */
export function makeCurves(sides, { live = false, cells = (k) => `cell ${k + 1}` } = {}) {
  const state = { logX: false, logY: false };
  const plots = el("div", { class: "plots" });
  const told = el("p", { class: "caption", role: "status" });
  const set = (key) => (on) => {
    state[key] = on;
    draw();
  };
  const node = el("div", { class: "curves" }, el("div", { class: "tools" },
    tick("log steps", false, set("logX")), tick("log values", false, set("logY"))), plots, told);

  function draw() {
    const metrics = new Map();
    for (const side of sides) {
      for (const one of side.curves.series.values()) {
        if (!metrics.has(one.metric)) metrics.set(one.metric, []);
        one.lo.forEach((_, cell) => {
          const names = [];
          if (sides.length > 1) names.push(side.name);
          if (one.case) names.push(one.case);
          if (one.lo.length > 1) names.push(cells(cell));
          metrics.get(one.metric).push({ one, cell, name: names.join(" · ") });
        });
      }
    }
    const names = [...new Set([...metrics.values()].flat().map((line) => line.name))];
    const shown = names.slice(0, LINES);
    const look = (name) => {
      const index = shown.indexOf(name);
      return shown.length > COLOURS ? { index, ramp: index / (shown.length - 1) }
        : { index, dash: Math.floor(index / 4) % 4 };
    };
    let steps = 0;
    plots.replaceChildren(...[...metrics].slice(0, METRICS).map(([metric, lines]) => {
      const series = lines.filter((line) => shown.includes(line.name)).map((line) => {
        const points = pointsOf(line.one, line.cell);
        steps = Math.max(steps, line.one.to || 0);
        return { ...look(line.name), points, line: true, thin: points.length > 300, name: line.name,
          dots: points.length === 1 ? 3 : 0 };
      });
      const xs = series.flatMap((s) => s.points.map((p) => p.x));
      const ys = series.flatMap((s) => s.points.map((p) => p.y)).filter(Number.isFinite);
      const log = state.logY && ys.some((v) => v > 0);
      const last = lines.length === 1 ? `, last ${number(lines[0].one.last[lines[0].cell])}` : "";
      return chart({ width: 470, height: 270, title: `${metric.slice(0, 44)}${last}`, xLabel: "step",
        yLabel: "", label: `${metric} against the step`, series,
        x: makeScale(xs, state.logX ? "log" : "linear", { room: 0.01, most: 5 }),
        y: makeScale(log ? ys.filter((v) => v > 0) : ys, log ? "log" : "linear", { most: 5 }) });
    }));
    if (shown.length > 1 || shown[0]) {
      plots.append(legend("", shown.map((name) => ({ ...look(name), name })),
        names.length > LINES ? `${LINES} of ${names.length} lines are drawn` : ""));
    }
    const more = metrics.size > METRICS ? `; ${METRICS} of ${metrics.size} metrics are drawn` : "";
    told.textContent = metrics.size
      ? `Up to step ${steps.toLocaleString("en")}; long histories show the least and the greatest `
        + `value of neighbouring steps${more}.`
      : "Nothing has been recorded yet.";
  }

  async function refresh() {
    let changed = false;
    try {
      for (const side of sides) {
        do {
          changed = (await side.curves.refresh()) || changed;
        } while (side.curves.more);
      }
    } catch (problem) {
      told.textContent = `The curves cannot be read: ${problem.message}.`;
    }
    if (changed) draw();
  }

  async function follow() {
    await refresh();
    if (!plots.childNodes.length) draw();
    if (live) {
      const timer = setInterval(() => {
        if (!node.isConnected) clearInterval(timer);
        else if (!document.hidden) refresh();
      }, SECONDS * 1000);
    }
  }

  follow();
  return node;
}
