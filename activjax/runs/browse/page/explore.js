// One sweep: its cells as a table, along its axes and in parallel coordinates, all by one filter.
import { cut, el, framed, section, subsection } from "./dom.js";
import { makeAxisPlot } from "./axis_plot.js";
import { MOST } from "./compare.js";
import { block, stateMark, summaryTable, warningBox } from "./details.js";
import { HELP, select } from "./filter.js";
import { makeGrid } from "./grid.js";
import { count, number, plural } from "./numbers.js";
import { makeParallel } from "./parallel.js";
import { link } from "./source.js";
import { distinct } from "./table.js";

/** A bar of the shares of done, failed, pruned and other cells. */
export function progressBar(done, failed, pruned, total) {
  const part = (name, n) => {
    const span = el("span", { class: `part ${name}` });
    span.style.width = `${total ? (100 * n) / total : 0}%`;
    return span;
  };
  return el("span", { class: "progress", role: "img",
    "aria-label": `${done} done, ${failed} failed, ${pruned} pruned, of ${total}` },
  part("done", done), part("failed", failed), part("pruned", pruned));
}

/** A filter box; `change(text)` is told of it 80 ms after the last letter. */
export function filterBox(id, change) {
  let waiting = 0;
  const box = el("input", { id, type: "search", size: 48, autocomplete: "off", spellcheck: "false",
    oninput: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change(box.value), 80);
    } });
  return box;
}

/** Baselines that are the same for all cells are said once; ends of intervals are in the cells. */
function columnsShown(table) {
  const hidden = (c) => ["low", "high"].includes(c.role)
    || (c.role === "baseline" && distinct(c).length === 1);
  const said = table.columns.filter((c) => c.role === "baseline" && hidden(c)).map((c) =>
    `${c.name.replace("baseline: ", "")} ${number(distinct(c)[0])}${c.note ? ` (${c.note})` : ""}`);
  return { columns: table.columns.filter((c) => !hidden(c)), said };
}

function failureList(source, place, failures) {
  return failures.map((one) => {
    const cells = one.cells.map((id, k) => [k ? ", " : "", el("a", { href: link.sweep([...place, id]) },
      el("bdi", {}, id))]);
    return el("details", {}, el("summary", {}, `${count(one.count)} × `, el("b", {}, cut(one.text, 300))),
      el("p", {}, cells, one.count > one.cells.length
        ? ` and ${count(one.count - one.cells.length)} more` : null),
      one.traceback ? block("Traceback of the first", one.traceback) : null,
      one.checkpoint ? el("p", {}, "Last checkpoint: ", el("code", {}, one.checkpoint)) : null);
  });
}

/** The parts that work together: filter, table, plots, parallel coordinates. */
export function makeExplorer(source, table, data, place) {
  const axes = table.columns.filter((c) => c.role === "axis");
  const { columns, said } = columnsShown(table);
  const ids = table.role("record")[0].values;
  const states = table.role("state")[0].values;
  const chosen = new Set();
  const told = el("span", { id: "cells-count", role: "status" });
  const ranges = el("span", { class: "chips" });
  const compare = el("a", { class: "button", "aria-disabled": "true" }, "compare");
  let text = "";
  let condition = null;

  const cell = (column, i) => {
    const value = column.values[i];
    if (column.role === "record") {
      return el("a", { href: link.sweep([...place, value]) }, el("bdi", {}, value));
    }
    if (column.role === "state") return el("span", { class: `state-${value}` }, value);
    if (column.role === "files" && value && /^[0-9A-Za-z_-]+$/.test(ids[i]) && source.still) {
      return el("a", { href: `cells/${ids[i]}/` }, column.text(value));
    }
    return null;
  };
  const choose = () => {
    const some = [...chosen].slice(0, MOST);
    const enough = some.length > 1;
    compare.textContent = chosen.size > MOST ? `compare the first ${MOST} of ${chosen.size}`
      : `compare${chosen.size ? ` ${chosen.size}` : ""}`;
    compare.setAttribute("aria-disabled", String(!enough));
    if (enough) compare.setAttribute("href", link.compare(some.map((i) => [...place, ids[i]])));
    else compare.removeAttribute("href");
  };
  const grid = makeGrid(table, { columns, cell, chosen, choose, label: "Cells" });
  grid.box.id = "cells-box";
  const plot = makeAxisPlot(table, axes);
  const parallel = makeParallel(table, axes, (test, words) => {
    condition = test;
    ranges.replaceChildren(...words.map(({ text: word, clear }) => el("button",
      { type: "button", class: "chip", title: "remove this range", onclick: clear }, `${word} ×`)));
    later();
  });

  const slow = framed(() => {
    const { lines } = select(table, text, condition);
    if (plot) plot.update(lines);
    if (parallel) parallel.update(lines);
  });
  function apply() {
    const began = performance.now();
    const { lines, problems } = select(table, text, condition);
    told.textContent = [`${count(lines.length)} of ${count(table.cells)} cells`, ...problems].join("; ");
    told.classList.toggle("odd", problems.length > 0);
    grid.update(lines);
    grid.box.dataset.spent = (performance.now() - began).toFixed(1);
    slow();
  }
  const later = framed(apply);

  const filter = filterBox("cells-filter", (value) => {
    text = value;
    apply();
  });
  const clear = el("button", { type: "button", class: "button", onclick: () => {
    chosen.clear();
    choose();
    grid.redraw();
  } }, "untick all");
  choose();
  const failedOnly = states.includes("failed") && states.some((s) => s !== "failed");
  const quick = failedOnly ? el("button", { type: "button", class: "button", onclick: () => {
    filter.value = filter.value === "state=failed" ? "" : "state=failed";
    text = filter.value;
    apply();
  } }, "failed only") : null;
  const notes = [said.length ? `Baselines that are the same for all cells: ${said.join(", ")}.` : "",
    data.cells < data.total ? `Here are the first ${count(data.cells)} of ${count(data.total)} cells.` : "",
    data.left_out.length ? `Not here, but in the records: ${data.left_out.join(", ")}.` : ""];
  const node = el("div", { class: "explorer" },
    el("div", { id: "cells-tools", class: "tools sticky" },
      el("label", {}, "Filter ", filter), told, ranges, quick, compare, clear),
    el("p", { class: "small" }, HELP),
    grid.box, notes.join("") ? el("p", { class: "caption" }, notes.join(" ")) : null,
    plot ? subsection("Along the axes", "browse-axes", plot.node) : null,
    parallel ? subsection("Parallel coordinates", "browse-parallel", parallel.node) : null);
  return { node, start: apply };
}

/** The whole page of a sweep, as the server shows it. */
export function sweepHeader(data, place, progress) {
  return el("header", {}, el("p", { class: "over" }, el("a", { href: link.list() }, "all runs")),
    el("h1", {}, el("bdi", {}, data.name)),
    progress);
}

export function progressLine(data) {
  const { done, failed, missing, pruned = 0 } = data.counts;
  return el("p", { class: "meta" }, stateMark(data.state), " · sweep ", el("code", {}, data.id), " · ",
    progressBar(done, failed, pruned, data.total),
    ` ${count(done)} done${failed ? `, ${count(failed)} failed` : ""}`
    + `${pruned ? `, ${count(pruned)} pruned` : ""}`
    + `${missing ? `, ${count(missing)} to come` : ""} of ${plural(data.total, "cell")} · `
    + plural(data.seeds, "seed"));
}

export function answerSection(data) {
  return el("div", {}, data.question ? el("p", { class: "question" }, data.question) : null,
    data.answer ? el("p", {}, data.answer)
      : el("p", {}, "There is no answer yet: what follows is of the cells that are done."),
    warningBox(data.warnings),
    data.summary.length ? el("details", { open: data.summary.length <= 12 },
      el("summary", {}, plural(data.summary.length, "number")), summaryTable(data.summary)) : null);
}

export function failuresSection(source, data, place) {
  return section("Failed cells", "browse-failures", failureList(source, place, data.failures));
}

