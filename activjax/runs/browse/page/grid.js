// A table of any length: sorted by a click on a column; only the lines in view are made.
import { el, framed } from "./dom.js";
import { compareValues } from "./filter.js";

const SPARE = 6; // lines above and below those in view
const GUESS = 28; // pixels

// the table that is shown: one listener for all that have been
let current = null;
addEventListener("beforeprint", () => current?.render(true, 0, 500));
addEventListener("afterprint", () => current?.render(true));

/**
 * A table in a box that scrolls.
 *
 * options: `columns` to show; `cell(column, i)` makes what stands in a cell, or null for its text;
 * `label` of the box; `chosen`, a Set of lines with ticks, and `choose()` told of changes, where
 * `able(i)` may be chosen; `sorting` {name, down} is kept there; `widths` of some columns, in rem.
 */
export function makeGrid(table, options) {
  const { columns, chosen, sorting = { name: null, down: false }, widths = {} } = options;
  let order = [];
  let sorted = { column: columns.find((c) => c.name === sorting.name) || null, down: sorting.down };
  let height = 0; // of a line, 0 until it is measured
  let room = 0; // of the box
  let drawn = "";
  const body = el("tbody", { class: "lines" });
  const heads = columns.map((column) => el("th",
    { scope: "col", class: column.numeric ? "num" : null },
    el("button", { type: "button", onclick: () => press(column) },
      el("span", {}, el("bdi", {}, column.name)),
      column.unit ? el("span", { class: "small" }, column.unit) : null)));
  columns.forEach((column, j) => {
    const name = column.name.length + (column.unit ? column.unit.length + 1 : 0) + 2;
    const most = Math.max(Math.min(widest(column), 32), Math.min(name, 40));
    heads[j].style.width = `${widths[column.name] || most * 0.57 + 1.6}rem`;
  });
  const first = chosen ? el("th", { scope: "col", class: "pick", "aria-label": "compare" }) : null;
  const whole = el("table", {}, el("thead", {}, el("tr", {}, first, heads)), body);
  const box = el("div", { class: "scroll cells live", tabindex: "0", role: "region",
    "aria-label": options.label }, whole);

  /** As wide as the widest of its lines, so that nothing moves while scrolling. */
  function widest(column) {
    let most = 0;
    if (column.levels) for (const v of column.levels) most = Math.max(most, column.text(v).length);
    else {
      for (let i = 0; i < column.values.length; i += 1) {
        most = Math.max(most, column.text(column.values[i]).length);
      }
    }
    return most;
  }

  function sort() {
    if (!sorted.column) {
      order.sort((a, b) => a - b);
      return;
    }
    const { values } = sorted.column;
    const sign = sorted.down ? -1 : 1;
    const last = (v) => (v === null ? 2 : Number.isNaN(v) ? 1 : 0);
    order.sort((a, b) => last(values[a]) - last(values[b])
      || sign * (compareValues(values[a], values[b]) || 0) || a - b);
  }

  function press(column) {
    const again = sorted.column === column;
    sorted = again && sorted.down ? { column: null, down: false } : { column, down: again };
    [sorting.name, sorting.down] = [sorted.column ? column.name : null, sorted.down];
    tellSorted();
    sort();
    box.scrollTop = 0;
    render(true);
  }

  function tellSorted() {
    heads.forEach((head, j) => {
      head.removeAttribute("aria-sort");
      if (sorted.column === columns[j]) {
        head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      }
    });
  }

  // a scroll makes hundreds of cells a frame: each is one copied element, where it can be
  const blanks = columns.map((column) => el("td",
    column.numeric ? { class: "num" } : { dir: "auto" }));

  function cell(column, i, j) {
    const value = column.values[i];
    const td = blanks[j].cloneNode(false);
    const made = options.cell ? options.cell(column, i) : null;
    if (made) {
      td.append(made);
      return td;
    }
    const text = column.text(value);
    td.textContent = text.length > 200 ? text.slice(0, 200) : text;
    if (text.length > 24) td.title = text.slice(0, 2000);
    if (typeof value === "number" && !Number.isFinite(value)) td.classList.add("odd");
    return td;
  }

  function pick(i) {
    if (options.able && !options.able(i)) return el("td", { class: "pick" });
    const box_ = el("input", { type: "checkbox", checked: chosen.has(i), "aria-label": "compare",
      onchange: (event) => {
        if (event.target.checked) chosen.add(i);
        else chosen.delete(i);
        options.choose();
      } });
    return el("td", { class: "pick" }, box_);
  }

  function line(k) {
    const i = order[k];
    return el("tr", { "aria-rowindex": String(k + 2) }, chosen ? pick(i) : null,
      columns.map((column, j) => cell(column, i, j)));
  }

  function space(lines) {
    const tr = el("tr", { class: "space", "aria-hidden": "true" });
    tr.style.height = `${lines * height}px`;
    return tr;
  }

  function render(force, from_, to_) {
    if (!height && order.length) {
      // while it holds a single line the box itself may be low
      room = parseFloat(getComputedStyle(box).maxHeight) || box.clientHeight || 600;
      body.replaceChildren(line(0));
      height = body.rows[0].getBoundingClientRect().height || GUESS;
    }
    const size = height || GUESS;
    const view = Math.ceil(Math.max(box.clientHeight, room) / size);
    const from = from_ ?? Math.max(0, Math.floor(box.scrollTop / size) - SPARE);
    const to = Math.min(order.length, to_ ?? from + view + 2 * SPARE);
    const now = `${from} ${to}`;
    if (!force && now === drawn) return;
    // a short scroll within the spare lines needs none made
    const [a, b] = drawn.split(" ").map(Number);
    const top = Math.floor(box.scrollTop / size);
    if (!force && from_ === undefined && a <= Math.max(0, top - 2)
      && b >= Math.min(order.length, top + view + 2)) return;
    drawn = now;
    const lines = [];
    for (let k = from; k < to; k += 1) lines.push(line(k));
    body.replaceChildren(space(from), ...lines, space(order.length - to));
    whole.setAttribute("aria-rowcount", String(order.length + 1));
  }

  function update(lines) {
    order = lines.slice();
    if (sorted.column) sort();
    box.scrollTop = 0;
    render(true);
  }

  box.addEventListener("scroll", () => render(false)); // once a frame, by the browser
  // not at once: what it draws changes the size again
  new ResizeObserver(framed(() => { height = 0; render(true); })).observe(box);
  current = { render };
  tellSorted();
  return { box, update, redraw: () => render(true) };
}
