// Some runs or cells side by side: settings that differ, numbers, curves laid over one another.
import { el, section } from "./dom.js";
import { makeCurves } from "./curves.js";
import { curvesOf, detailsOf, scrolled, stateMark } from "./details.js";
import { number, numeric } from "./numbers.js";
import { link } from "./source.js";

export const MOST = 6;

function shown(value) {
  if (value === undefined) return "–";
  const found = numeric(value);
  return typeof found === "number" ? String(found).replace("-", "−") : String(value);
}

/** A line for each key; those in which all sides are equal are left out. */
function differences(heads, sides) {
  const keys = [...new Set(sides.flatMap((side) => Object.keys(side)))];
  const lines = keys.map((key) => [key, sides.map((side) => shown(side[key]))])
    .filter(([, values]) => values.some((value) => value !== values[0]));
  return [scrolled("Settings that differ", sideTable(heads, lines.map(([key, values]) =>
    [key, values.map((text) => el("td", {}, el("bdi", {}, text.slice(0, 2000))))]))),
  el("p", { class: "caption" }, `${lines.length} of ${keys.length} settings differ.`)];
}

function sideTable(heads, lines) {
  return el("table", { class: "sides" },
    el("thead", {}, el("tr", {}, el("td", {}), heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", { class: "lines" }, lines.map(([key, cells]) => el("tr", {},
      el("th", { scope: "row" }, el("bdi", {}, key)), cells))));
}

/** Numbers of equal name, unit and setting in a line. */
function numbers(heads, sides, configs) {
  const found = new Map();
  sides.forEach((rows, s) => {
    const seen = new Map();
    for (const row of rows) {
      // a setting that only repeats the side's own config does not set its number apart
      const rest = Object.entries(row.where || {}).filter(([key, value]) =>
        !Object.entries(configs[s]).some(([k, v]) =>
          (k === key || k.endsWith(`.${key}`)) && shown(v) === shown(value)));
      const name = [row.name, row.unit ? `(${row.unit})` : "",
        rest.length ? `[${rest.map(([k, v]) => `${k}=${v}`).join(", ")}]` : ""].filter(Boolean).join(" ");
      const nth = seen.get(name) || 0;
      seen.set(name, nth + 1);
      const key = nth ? `${name} (${nth + 1})` : name;
      if (!found.has(key)) found.set(key, new Array(sides.length).fill(null));
      found.get(key)[s] = row;
    }
  });
  const lines = [...found].map(([key, rows]) => {
    const values = rows.map((row) => (row ? numeric(row.value) : null));
    const first = values[0];
    return [key, rows.map((row, s) => {
      if (!row) return el("td", { class: "num" }, "–");
      const [low, high, base] = [row.low, row.high, row.baseline].map(numeric);
      const apart = s && typeof first === "number" && typeof values[s] === "number"
        ? values[s] - first : null;
      return el("td", { class: "num" },
        el("span", { class: Number.isFinite(values[s]) ? "value" : "odd" }, number(values[s])),
        typeof low === "number" && typeof high === "number"
          ? el("span", { class: "ci" }, `[${number(low)}, ${number(high)}]`) : null,
        apart !== null && Number.isFinite(apart)
          ? el("span", { class: "ci" }, `${apart >= 0 ? "+" : ""}${number(apart)}`) : null,
        typeof base === "number" ? el("span", { class: "base" }, `baseline ${number(base)}`) : null);
    })];
  });
  return lines.length ? [scrolled("Numbers", sideTable(heads, lines)), el("p", { class: "caption" },
    "Below each value its 95 % interval, if it has one, and its difference from the first column.")]
    : null;
}

export async function showComparison(source, given) {
  const places = given.slice(0, MOST);
  const sides = await Promise.all(places.map((place) => detailsOf(source, place)));
  const names = places.map((place) => place[place.length - 1]);
  const heads = () => places.map((place, s) => el("a", { href: place.length === 3
    ? link.sweep(place) : link.run(place) }, el("span", { class: `swatch s${s}` }), el("bdi", {}, names[s])));
  const drawn = sides.map((data, s) => ({ name: names[s], curves: curvesOf(source, places[s], data) }))
    .filter((side) => side.curves);
  const live = sides.some((data) => data.state === "running" || data.state === "missing");
  const configs = sides.map((data) => data.config);
  const back = places.every((place) => place.length === 3 && place[1] === places[0][1])
    ? el("a", { href: link.sweep(places[0].slice(0, 2)) }, el("bdi", {}, places[0].slice(0, 2).join("/")))
    : el("a", { href: link.list() }, "all runs");
  return { title: `comparison of ${places.length}`, node: el("div", {},
    el("header", {}, el("p", { class: "over" }, back),
      el("h1", {}, `Comparison of ${places.length}`),
      el("p", { class: "meta" }, sides.map((data, s) => [s ? " · " : "", el("bdi", {}, names[s]), " ",
        stateMark(data.state)]))),
    section("Settings that differ", "differences", differences(heads(), configs)),
    section("Numbers", "numbers", numbers(heads(), sides.map((data) => data.summary), configs)),
    section("Curves", "curves", drawn.length ? makeCurves(drawn, { live }) : null)) };
}
