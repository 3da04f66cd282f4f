// All runs and sweeps of the folder in one table.
import { el } from "./dom.js";
import { MOST } from "./compare.js";
import { stateMark } from "./details.js";
import { filterBox, progressBar } from "./explore.js";
import { HELP, select } from "./filter.js";
import { makeGrid } from "./grid.js";
import { age, count } from "./numbers.js";
import { link } from "./source.js";
import { makeTable } from "./table.js";

const SECONDS = 5;
const WAIT = 50; // milliseconds between two answers while files are read
const HIDDEN = ["total", "failed", "pruned"];

/** The view; data of it is fetched again while it is shown. */
export function showList(source) {
  const host = el("div", {});
  const told = el("span", { id: "cells-count", role: "status" });
  const reading = el("span", { class: "small", role: "status" });
  const compare = el("a", { class: "button", "aria-disabled": "true" }, "compare");
  const title = el("p", { class: "meta" });
  const ticked = new Map(); // name/id -> place
  const sorting = { name: null, down: false };
  let text = "";
  let shown = null; // { table, grid }
  let last = "";

  const filter = filterBox("cells-filter", (value) => {
    text = value;
    apply();
  });

  function apply() {
    if (!shown) return;
    const began = performance.now();
    const { lines, problems } = select(shown.table, text);
    told.textContent = [`${count(lines.length)} of ${count(shown.table.cells)}`, ...problems].join("; ");
    told.classList.toggle("odd", problems.length > 0);
    const top = shown.grid.box.scrollTop;
    shown.grid.update(lines);
    if (shown.keep) shown.grid.box.scrollTop = top;
    shown.grid.box.dataset.spent = (performance.now() - began).toFixed(1);
  }

  function choose(table, chosen) {
    ticked.clear();
    const names = table.byName.get("name").values;
    const ids = table.byName.get("id").values;
    for (const i of chosen) ticked.set(`${names[i]}/${ids[i]}`, [names[i], ids[i]]);
    const some = [...ticked.values()].slice(0, MOST);
    compare.textContent = `compare${some.length ? ` ${some.length}` : ""}`;
    compare.setAttribute("aria-disabled", String(some.length < 2));
    if (some.length > 1) compare.setAttribute("href", link.compare(some));
    else compare.removeAttribute("href");
  }

  function draw(data) {
    const table = makeTable(data);
    const of = (name) => table.byName.get(name);
    const [names, ids, kinds] = [of("name"), of("id"), of("kind")].map((c) => c.values);
    const [totals, dones, faileds, pruneds] =
      ["cells", "done", "failed", "pruned"].map((name) => of(name).values);
    const now = Date.now() / 1000;
    of("changed").text = (value) => `${age(now - value)} ago`;
    of("done").text = (value) => (value === null ? "" : count(value));
    const chosen = new Set();
    for (let i = 0; i < table.cells; i += 1) if (ticked.has(`${names[i]}/${ids[i]}`)) chosen.add(i);
    const cell = (column, i) => {
      const place = [names[i], ids[i]];
      if (column.role === "record" || column.role === "name") {
        return el("a", { href: kinds[i] === "sweep" ? link.sweep(place) : link.run(place) },
          el("bdi", {}, column.values[i]));
      }
      if (column.role === "state") return stateMark(column.values[i]);
      if (column.role === "done" && totals[i] !== null) {
        const all = dones[i] + faileds[i] + pruneds[i] >= totals[i];
        return el("span", {}, progressBar(dones[i], faileds[i], pruneds[i], totals[i]),
          ` ${all ? count(totals[i]) : `${count(dones[i])} of ${count(totals[i])}`}`
          + `${faileds[i] ? `, ${count(faileds[i])} failed` : ""}`
          + `${pruneds[i] ? `, ${count(pruneds[i])} pruned` : ""}`);
      }
      if (column.role === "total") return el("span", {}, column.text(column.values[i]));
      return null;
    };
    const empty = (c) => c.levels && c.levels.length === 1 && c.levels[0] === null;
    const columns = table.columns.filter((c) => !HIDDEN.includes(c.role) && !empty(c));
    const top = shown ? shown.grid.box.scrollTop : 0;
    const grid = makeGrid(table, { columns, cell, chosen, label: "Runs and sweeps",
      sorting, widths: { done: 19 }, able: (i) => kinds[i] === "run",
      choose: () => choose(table, chosen) });
    grid.box.id = "cells-box";
    grid.box.classList.add("tall");
    host.replaceChildren(grid.box);
    shown = { table, grid, keep: false };
    apply();
    grid.box.scrollTop = top;
    choose(table, chosen);
    reading.textContent = data.complete ? "" : `reading ${count(data.waiting)} more …`;
    title.replaceChildren(el("code", {}, el("bdi", {}, data.root)));
    if (!table.cells) host.replaceChildren(el("p", {}, "No runs or sweeps in this folder yet."));
    node.dataset.ready = data.complete ? "all" : "some";
  }

  async function look(quick) {
    let data;
    try {
      data = await source.list(quick);
    } catch (problem) {
      reading.textContent = `cannot be read: ${problem.message}`;
      setTimeout(() => node.isConnected && look(false), SECONDS * 1000);
      return;
    }
    const now = JSON.stringify(data);
    if (now !== last) draw(data);
    last = now;
    setTimeout(function again() {
      if (!node.isConnected) return;
      if (document.hidden) setTimeout(again, SECONDS * 1000);
      else look(false);
    }, data.complete ? SECONDS * 1000 : WAIT);
  }

  const node = el("div", {},
    el("header", {}, el("p", { class: "over" }, "activjax"), el("h1", {}, "Runs and sweeps"), title),
    el("div", { id: "cells-tools", class: "tools" }, el("label", {}, "Filter ", filter), told,
      compare, reading),
    el("p", { class: "small" }, HELP.replace(/Example: .*/, "Example: state=failed done>=100")),
    host);
  look(true);
  return { title: "Runs and sweeps", node };
}
