// Any number against any axis: means over seeds with 95 % intervals, by colour and by panel.
import { choice, el, tick } from "./dom.js";
import { chart, COLOURS, legend } from "./chart.js";
import { meanInterval, number, plural } from "./numbers.js";
import { looksLog, makeScale } from "./scale.js";
import { distinct, titled } from "./table.js";

const PANELS = 9;
const LINES = 24; // series in a panel
const GROUPED = 40; // values of x from which on there are dots and no lines
const MOST_DOTS = 4000;

/** Lines of the table by the value of a column; one group without a column. */
function grouped(lines, column) {
  const found = new Map();
  for (const i of lines) {
    const key = column ? column.values[i] : null;
    if (column && key === null) continue;
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  return found;
}

/** One trial a seed: the mean of its numbers. */
function overSeeds(lines, y, seed) {
  const means = [];
  for (const cells of grouped(lines, seed).values()) {
    means.push(cells.reduce((sum, i) => sum + y.values[i], 0) / cells.length);
  }
  return meanInterval(means);
}

/** The plot with its choices; `update(lines)` draws what is left by the filter. */
export function makeAxisPlot(table, axes) {
  const numbers = table.columns.filter((c) => c.numeric
    && ["value", "axis", "cell"].includes(c.role) && distinct(c).length > 1);
  const values = numbers.filter((c) => c.role === "value");
  const varied = axes.filter((c) => distinct(c).length > 1);
  const seed = table.byName.get("seed");
  const given = varied.filter((c) => c !== seed);
  const seeded = seed && distinct(seed).length > 1 ? [seed] : [];
  if (!values.length) return null;
  const state = { y: values[0], x: firstAxis(given) || seeded[0] || numbers[0], colour: null,
    panel: null, logX: null, logY: false, dots: false };
  [state.colour, state.panel] = [...given.filter((c) => c !== state.x
    && distinct(c).length <= PANELS), null, null];
  let lines = [];
  const tools = el("div", { class: "tools" });
  const plots = el("div", { class: "plots" });
  const told = el("p", { class: "caption", role: "status" });
  const node = el("div", {}, tools, plots, told);

  const pick = (name) => table.byName.get(name) || null;
  const asOptions = (columns) => columns.map((c) => [c.name, c.name.slice(0, 80)]);
  const none = [["", "none"]];
  const among = [...given, ...seeded];
  const set = (key, turn) => (value) => {
    state[key] = turn ? turn(value) : value;
    if (key === "x") state.logX = null;
    draw();
  };
  const xs = [...new Set([...among, ...numbers])];
  const logBox = tick("log x", false, set("logX"));
  tools.append(
    choice("number", asOptions(values), state.y.name, set("y", pick)),
    choice("against", asOptions(xs), state.x.name, set("x", pick)),
    choice("colour", [...none, ...asOptions(among)], state.colour?.name || "", set("colour", pick)),
    choice("panels", [...none, ...asOptions(among.filter((c) => distinct(c).length <= 40))],
      state.panel?.name || "", set("panel", pick)),
    logBox, tick("log y", false, set("logY")), tick("single cells", false, set("dots")),
  );

  function scaleOf(column, wanted, used) {
    const all = distinct(column, used);
    const ordered = all.every((v) => typeof v === "number");
    const able = ordered && all.some((v) => v > 0) && all.every((v) => v > 0);
    const log = wanted === null ? looksLog(all) : wanted;
    const kind = !ordered ? "ordinal" : log && able ? "log" : "linear";
    return { all, kind, able };
  }

  /** The series of one panel. */
  function seriesOf(cells, colours, lined) {
    const found = [];
    const by = grouped(cells, state.colour);
    colours.forEach((value, k) => {
      const own = by.get(value);
      if (!own || found.length >= LINES) return;
      const points = [];
      const several = colours.length > COLOURS;
      for (const [at, at_] of grouped(own, state.x)) {
        if (!lined) {
          for (const i of at_) {
            points.push({ x: at, y: state.y.values[i], title: describe(at, value, [i]) });
          }
          continue;
        }
        const finite = at_.filter((i) => Number.isFinite(state.y.values[i]));
        if (!finite.length) continue;
        const mean = overSeeds(finite, state.y, seed === state.x ? null : seed);
        points.push({ x: at, y: mean.mean, low: mean.low, high: mean.high, n: mean.n,
          title: describe(at, value, finite, mean) });
      }
      const order = lined ? new Map(distinct(state.x).map((v, i) => [v, i])) : null;
      if (lined) points.sort((a, b) => order.get(a.x) - order.get(b.x));
      found.push({ name: state.colour ? state.colour.text(value) : "", index: k, points,
        ramp: several ? k / (colours.length - 1) : undefined, line: lined,
        dash: several ? 0 : Math.floor(k / 4) % 4, dots: lined ? 3.4 : 2.4,
        bars: lined && points.length <= 12, band: lined && points.length > 12 });
      if (lined && state.dots) {
        found.push({ ...found[found.length - 1], line: false, bars: false, band: false, dots: 1.8,
          name: null, points: own.map((i) => ({ x: state.x.values[i], y: state.y.values[i] })) });
      }
    });
    return found;
  }

  function describe(at, value, cells, mean) {
    const named = [`${state.x.name} ${state.x.text(at)}`];
    if (state.colour) named.push(`${state.colour.name} ${state.colour.text(value)}`);
    const told_ = mean ? `${number(mean.mean, state.y.places)}${mean.low === null ? ""
      : ` [${number(mean.low, state.y.places)}, ${number(mean.high, state.y.places)}]`}`
      : state.y.text(state.y.values[cells[0]]);
    return `${named.join(", ")}\n${state.y.name} ${told_} (${plural(cells.length, "cell")})`;
  }

  function draw() {
    const there = lines.filter((i) => state.y.values[i] !== null && state.x.values[i] !== null);
    const used = there.filter((i) => Number.isFinite(state.y.values[i]));
    const x = scaleOf(state.x, state.logX, used);
    logBox.firstChild.checked = x.kind === "log";
    logBox.firstChild.disabled = !x.able;
    const lined = x.kind === "ordinal" || x.all.length <= GROUPED;
    const shown = lined ? used : used.slice(0, MOST_DOTS);
    const colours = state.colour ? distinct(state.colour, used) : [null];
    const panels = state.panel ? distinct(state.panel, used) : [null];
    const drawn = panels.slice(0, PANELS).map((value) => {
      const cells = state.panel ? shown.filter((i) => state.panel.values[i] === value) : shown;
      return { value, series: seriesOf(cells, colours, lined) };
    });
    const ys = drawn.flatMap((p) => p.series.flatMap((s) => s.points.map((q) => q.y)));
    const least = Math.min(...ys);
    const most = Math.max(...ys);
    const spread = most - least || Math.abs(most) || 1;
    const ends = drawn.flatMap((p) => p.series.flatMap((s) => s.points.flatMap((q) =>
      (q.low === null || q.low === undefined ? [] : [q.low, q.high]))))
      .filter((v) => v > least - 1.5 * spread && v < most + 1.5 * spread);
    const base = baseline(used);
    const near = base && base.value > least - 0.6 * spread && base.value < most + 0.6 * spread;
    const yKind = state.logY && ys.every((v) => v > 0) ? "log" : "linear";
    const yScale = makeScale([...ys, ...ends, ...(near ? [base.value] : [])], yKind, { most: 5 });
    const room = Math.min(plots.clientWidth || 1000, 1240);
    const across = drawn.length === 4 ? 2 : Math.min(drawn.length, room < 1100 ? 2 : 3);
    const width = across === 1 ? Math.min(room, 760) : Math.floor((room - 40) / across);
    plots.replaceChildren(...drawn.map((panel) => chart({
      width, height: across === 1 ? 360 : 290, y: yScale,
      x: makeScale(x.all, x.kind, { text: (v) => state.x.text(v), most: across === 1 ? 8 : 5,
        settings: true }),
      xLabel: titled(state.x).slice(0, 60), yLabel: titled(state.y).slice(0, 40),
      title: state.panel ? `${state.panel.name} ${state.panel.text(panel.value)}`.slice(0, 48) : "",
      rules: near ? [{ y: base.value, label: base.name.slice(0, 40) }] : [],
      series: panel.series, label: `${state.y.name} against ${state.x.name}`,
    })));
    if (!ys.length) plots.replaceChildren(el("p", { class: "small" }, "No numbers to draw."));
    if (state.colour && ys.length) {
      const named = colours.slice(0, LINES).map((value, k) => ({
        name: state.colour.text(value).slice(0, 40), index: k, dots: lined ? 3.4 : 2.4,
        dash: colours.length > COLOURS ? 0 : Math.floor(k / 4) % 4,
        ramp: colours.length > COLOURS ? k / (colours.length - 1) : undefined }));
      plots.append(legend(state.colour.name, named));
    }
    caption({ there, used, shown, lined, panels, colours, base, near });
  }

  /** The mean of the baselines of the lines shown, where there are any. */
  function baseline(used) {
    const column = table.byName.get(`baseline: ${state.y.name}`);
    if (!column) return null;
    const found = used.map((i) => column.values[i]).filter(Number.isFinite);
    if (!found.length) return null;
    const value = found.reduce((sum, v) => sum + v, 0) / found.length;
    const same = found.every((v) => Math.abs(v - value) <= 1e-6 * Math.abs(value));
    return { value, name: `${same ? "" : "mean "}baseline${column.note ? ` (${column.note})` : ""}` };
  }

  function caption({ there, used, shown, lined, panels, colours, base, near }) {
    const notes = [];
    let text = `${state.y.name} against ${state.x.name}`;
    if (state.colour) text += `, by ${state.colour.name}`;
    if (state.panel) text += `, a panel for each ${state.panel.name}`;
    if (lined) {
      const seeds = seed && seed !== state.x ? distinct(seed, used).length : 1;
      text += seeds > 1 ? `: mean over ${seeds} seeds, bars or bands: 95 % intervals`
        : ": one seed, no intervals";
      const rest = given.filter((c) => ![state.x, state.colour, state.panel].includes(c)
        && distinct(c, used).length > 1);
      if (rest.length) {
        notes.push(`averaged over ${rest.map((c) => c.name).join(", ")} (filter to fix them)`);
      }
    } else {
      text += ": a dot a cell";
      if (shown.length < used.length) notes.push(`the first ${plural(shown.length, "cell")}`);
    }
    if (panels.length > PANELS) notes.push(`${PANELS} of ${panels.length} panels`);
    if (colours.length > LINES) notes.push(`${LINES} of ${colours.length} colours`);
    if (there.length > used.length) {
      notes.push(`${there.length - used.length} of ${there.length} are not finite (not drawn)`);
    }
    if (base && near) notes.push(`dashed: ${base.name}`);
    else if (base) notes.push(`outside the plot: ${base.name}, ${number(base.value)}`);
    told.textContent = `${[text, ...notes].join("; ")}.`;
  }

  return {
    node,
    update(found) {
      lines = found;
      draw();
    },
  };
}

/** The axis with the most values, numbers before words. */
function firstAxis(axes) {
  const rank = (c) => (c.numeric ? 1000 : 0) + distinct(c).length;
  return [...axes].sort((a, b) => rank(b) - rank(a))[0];
}
