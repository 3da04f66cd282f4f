// The page of one run or one cell: answer, numbers with baselines, figures, curves, config, log.
import { el, section } from "./dom.js";
import { makeCurves } from "./curves.js";
import { number, numeric, plural } from "./numbers.js";
import { link } from "./source.js";

/** A box that scrolls by itself, by keyboard too. */
export function scrolled(label, ...content) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

export function block(label, text) {
  return el("pre", { tabindex: "0", role: "region", "aria-label": label }, el("code", {}, text));
}

/** Names and values in two columns. */
export function facts(label, pairs) {
  const lines = pairs.map(([name, value]) => el("tr", {},
    el("th", { scope: "row" }, el("bdi", {}, name)), el("td", {}, el("bdi", {}, String(value ?? "null")))));
  return lines.length
    ? scrolled(label, el("table", { class: "facts" }, el("tbody", { class: "lines" }, lines))) : null;
}

function where(row) {
  return Object.entries(row.where || {}).map(([key, value]) => `${key}=${value}`).join(", ");
}

/** The numbers of a result: value, interval, trials, baseline. */
export function summaryTable(rows) {
  if (!rows.length) return null;
  const heads = ["number", "where", "value", "95 % interval", "n", "baseline", ""];
  const lines = rows.map((row) => {
    const [value, low, high, base] = ["value", "low", "high", "baseline"].map((k) => {
      const found = numeric(row[k]);
      return typeof found === "number" ? found : null;
    });
    const odd = value !== null && !Number.isFinite(value);
    const interval = low === null || high === null ? "" : `[${number(low)}, ${number(high)}]`;
    return el("tr", {}, el("td", {}, el("bdi", {}, row.name)), el("td", {}, el("bdi", {}, where(row))),
      el("td", { class: `num value${odd ? " odd" : ""}` }, number(value), row.unit ? ` ${row.unit}` : ""),
      el("td", { class: "num" }, interval), el("td", { class: "num" }, String(row.n ?? "")),
      el("td", { class: "num" }, number(base)), el("td", {}, el("bdi", {}, row.baseline_name || "")));
  });
  return scrolled("Numbers", el("table", { class: "wide" },
    el("thead", {}, el("tr", {}, heads.map((text, j) =>
      el("th", { scope: "col", class: j >= 2 && j <= 5 ? "num" : null }, text)))),
    el("tbody", { class: "lines" }, lines)));
}

export function warningBox(texts) {
  return texts.length ? el("aside", { class: "note" }, el("h2", {}, plural(texts.length, "warning")),
    el("ul", {}, texts.map((text) => el("li", {}, text)))) : null;
}

export function stateMark(state) {
  return el("b", { class: `state-${/^[a-z]+$/.test(state) ? state : "unknown"}` }, state);
}

function savedTable(item) {
  const columns = Array.isArray(item.columns) ? item.columns : [];
  const lines = (Array.isArray(item.rows) ? item.rows : []).filter(Array.isArray);
  return el("figure", {}, el("p", { class: "caption" }, item.caption || item.name),
    scrolled(item.name, el("table", {}, el("thead", {}, el("tr", {},
      columns.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", { class: "lines" }, lines.map((row) => el("tr", {}, row.map((value) =>
      el("td", { class: typeof value === "number" ? "num" : null },
        typeof value === "number" ? number(value) : String(value ?? "–")))))))));
}

/** Of a file that holds one sweep: what its table says of a cell. */
function fromTable(table, i) {
  const of = (column) => column.values[i];
  const found = [];
  for (const column of table.role("value")) {
    if (of(column) === null) continue;
    const part = (name) => {
      const other = table.byName.get(`${name}: ${column.name}`);
      return other ? of(other) : null;
    };
    found.push({ name: column.name, unit: column.unit, value: of(column), low: part("low"),
      high: part("high"), baseline: part("baseline"), n: null, where: {}, // n is in the record
      baseline_name: table.byName.get(`baseline: ${column.name}`)?.note });
  }
  const point = table.columns.filter((c) => c.role === "axis" || c.name === "seed");
  return { summary: found, state: of(table.role("state")[0]), config: Object.fromEntries(
    point.map((c) => [c.name, of(c)])), error: table.role("error")[0]
    ? of(table.role("error")[0]) || "" : "" };
}

/** What is known of a run or a cell; of a cell in a file, from its table. */
export async function detailsOf(source, place) {
  const data = await source.details(place);
  const none = { question: "", answer: "", warnings: [], figures: [], tables: [], texts: [],
    summary: [], provenance: {}, config: {}, error: "", traceback: "", log: "" };
  if (!data.still) return { ...none, ...data };
  const sweep = await source.table();
  const i = sweep.role("record")[0].values.indexOf(place[2]);
  if (i < 0) throw new Error("there is no such cell");
  return { ...none, ...data, ...fromTable(sweep, i) };
}

/** The curves of a run or a cell, or null where there are none. */
export function curvesOf(source, place, data) {
  if (!data.metrics) return null;
  if (data.kind === "run") return source.curves(place, null);
  return data.index === null ? null : source.curves([...place.slice(0, 2), data.batch], data.index);
}

/** Figures, tables and texts that an experiment saved. */
export function savedSections(source, place, data) {
  return [
    section("Figures", "figures", data.figures.map((item) => el("figure", {},
      el("div", { class: "plot" }, el("img", { src: source.file(place, item.file), loading: "lazy",
        alt: `Plot: ${item.name}` })),
      el("figcaption", {}, [item.case, item.caption || item.name].filter(Boolean).join(": "))))),
    section("Tables", "tables", data.tables.map(savedTable)),
    section("Texts", "texts", data.texts.map((item) => el("figure", {}, block(item.name, item.text),
      el("figcaption", {}, item.caption || item.name)))),
  ].filter(Boolean);
}

/** The name of the k-th seed of a run, from its config. */
function seedName(config, k) {
  try {
    const seeds = JSON.parse(config.seeds);
    return `seed ${Array.isArray(seeds) && k in seeds ? seeds[k] : k}`;
  } catch {
    return `seed number ${k + 1}`;
  }
}

export async function showDetails(source, place) {
  const data = await detailsOf(source, place);
  const curves = curvesOf(source, place, data);
  const live = data.state === "running" || data.state === "missing";
  const id = place[place.length - 1];
  const up = data.kind === "cell" ? el("a", { href: link.sweep(place.slice(0, 2)) },
    el("bdi", {}, `${place[0]}/${place[1]}`)) : el("a", { href: link.list() }, "all runs");
  const links = [];
  if (data.kind === "cell" && data.state !== "missing" && /^[0-9A-Za-z_-]+$/.test(id)) {
    links.push(el("a", { href: source.file(place, `cells/${id}.json`) }, "record"));
  }
  if (data.report) links.push(el("a", { href: source.file(place, "report.html") }, "report"));
  const sections = [
    section("Numbers", "numbers", summaryTable(data.summary)),
    section("Curves", "curves", curves && makeCurves([{ name: id, curves }], { live,
      cells: (k) => seedName(data.config, k) })),
    savedSections(source, place, data),
    section("Configuration", "config", facts("Configuration", Object.entries(data.config))),
    section("Log", "log", data.log ? block("The end of the log", data.log) : null),
    section("How it was run", "provenance", facts("How it was run", Object.entries(data.provenance))),
  ];
  const name = data.kind === "cell" ? `cell ${id}` : `${place[0]}/${id}`;
  return { title: name, node: el("div", {},
    el("header", {}, el("p", { class: "over" }, up), el("h1", {}, el("bdi", {}, name)),
      el("p", { class: "meta" }, stateMark(data.state),
        data.batch ? [" · batch ", el("code", {}, data.batch)] : null,
        links.map((a) => [" · ", a]))),
    data.question ? el("p", { class: "question" }, data.question) : null,
    data.answer ? el("p", {}, data.answer) : null, warningBox(data.warnings),
    data.error ? el("aside", { class: "bad" }, el("h2", {}, "It failed"), el("p", {}, data.error),
      data.traceback ? block("Traceback", data.traceback) : null) : null,
    sections) };
}
