"use strict";
// The table of cells: sorted by a click on a column, filtered by the text box, all lines there but
// only those in view made. Nothing but text ever becomes part of the page.
(() => {
  const source = document.getElementById("cells-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const box = document.getElementById("cells-box");
  const table = document.getElementById("cells-table");
  const body = table.tBodies[0];
  const filter = document.getElementById("cells-filter");
  const count = document.getElementById("cells-count");
  const heads = [...table.tHead.rows[0].cells];
  const ODD = new Map([["nan", NaN], ["inf", Infinity], ["-inf", -Infinity]]);
  const OPERATORS = {
    "=": (order) => order === 0, "!=": (order) => order !== 0,
    "<": (order) => order < 0, "<=": (order) => order <= 0,
    ">": (order) => order > 0, ">=": (order) => order >= 0,
  };
  const collator = new Intl.Collator("en", { numeric: true });

  const columns = data.columns.map((column) => {
    const plain = column.values || column.codes.map((code) => column.levels[code]);
    const numeric = column.kind === "integer" || column.kind === "number";
    const values = numeric ? plain.map((v) => (ODD.has(v) ? ODD.get(v) : v)) : plain;
    return { ...column, values, numeric };
  });

  const state = columns.find((column) => column.role === "state").values;

  // ---- numbers as in the rest of the report

  function superscript(text) {
    return [...text].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] || "⁻").join("");
  }

  function number(value, places) {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    let text;
    if (places === undefined || (value !== 0 && Number(value.toFixed(places)) === 0)) {
      text = value.toPrecision(4);
      if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e4)) {
        text = value.toExponential(3);
      }
      const [mantissa, exponent] = text.split("e");
      text = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
      if (exponent) text += ` × 10${superscript(String(Number(exponent)))}`;
    } else {
      text = (Number(value.toFixed(places)) + 0).toFixed(places);
    }
    return text.replace("-", "−");
  }

  function shown(column, i) {
    const value = column.values[i];
    if (value === null) return column.role === "error" ? "" : "–";
    if (column.kind === "number" && typeof value === "number") return number(value, column.places);
    return column.numeric ? String(value).replace("-", "−") : String(value);
  }

  // ---- which lines, in which order

  let order = [...Array(data.cells).keys()];
  let sorted = { column: null, down: false };
  let texts = null;

  /** -1, 0 or 1; null where the two cannot be compared. */
  function compare(column, value, other) {
    if (value === null || Number.isNaN(value) || Number.isNaN(other)) return null;
    if (typeof value === "number" && typeof other === "number") return Math.sign(value - other);
    return Math.sign(collator.compare(String(value), String(other)));
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
      || sign * (compare(sorted.column, values[a], values[b]) || 0) || a - b);
  }

  function same(text) {
    return text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_+|_+$/g, "");
  }

  function named(name) {
    const wanted = same(name);
    const ways = [(c) => same(c.name) === wanted, (c) => same(c.name.split(".").pop()) === wanted,
      (c) => same(c.name).startsWith(wanted)];
    for (const way of ways) {
      const found = columns.filter(way);
      if (found.length) return found[0];
    }
    return null;
  }

  /** A condition on the index of a cell; an Error says what is wrong with the term. */
  function term(text) {
    const unquoted = (part) => part.replaceAll('"', "");
    const parts = /^((?:"[^"]*"|[^"<>=!])+)(<=|>=|!=|=|<|>)(.*)$/s.exec(text);
    if (!parts) {
      const word = unquoted(text).toLowerCase();
      texts ||= [...Array(data.cells).keys()].map((i) =>
        columns.map((column) => shown(column, i)).join("\n").toLowerCase());
      return (i) => texts[i].includes(word);
    }
    const [name, operator, value] = [unquoted(parts[1]), parts[2], unquoted(parts[3])];
    const column = named(name);
    if (!column) throw new Error(`no column “${name}”`);
    if (value === "") return () => true;
    const equality = operator === "=" || operator === "!=";
    const negative = operator === "!=";
    const wanted = value.toLowerCase();
    if (column.numeric && !(equality && wanted === "null")) {
      const other = ODD.has(wanted) ? ODD.get(wanted) : Number(value);
      if (Number.isNaN(other) && wanted !== "nan") {
        throw new Error(`“${value}” is not a number`);
      }
      if (Number.isNaN(other) && equality) {
        return (i) => Number.isNaN(column.values[i]) !== negative;
      }
      return (i) => {
        const found = compare(column, column.values[i], other);
        return found === null ? negative : OPERATORS[operator](found);
      };
    }
    if (equality) {
      return (i) => (String(column.values[i] ?? "").toLowerCase() === wanted) !== negative;
    }
    return (i) => {
      const value_ = column.values[i];
      return value_ !== null && OPERATORS[operator](collator.compare(String(value_), wanted));
    };
  }

  function select() {
    const problems = [];
    const conditions = [];
    for (const text of filter.value.match(/(?:"[^"]*"?|[^\s"])+/g) || []) {
      try {
        conditions.push(term(text));
      } catch (problem) {
        problems.push(problem.message);
      }
    }
    order = [];
    for (let i = 0; i < data.cells; i += 1) {
      if (conditions.every((condition) => condition(i))) order.push(i);
    }
    sort();
    const told = `${order.length.toLocaleString("en")} of ${data.cells.toLocaleString("en")} cells`;
    count.textContent = [told, ...problems].join("; ");
    count.classList.toggle("odd", problems.length > 0);
    box.scrollTop = 0;
    render();
  }

  // ---- the lines in view

  let height = 0;

  function cell(column, i) {
    const td = document.createElement("td");
    const value = column.values[i];
    const text = shown(column, i);
    if (column.numeric) td.className = "num";
    if (column.role === "record" && /^[0-9A-Za-z_-]+$/.test(value) && state[i] !== "missing") {
      td.append(link(value, `cells/${value}.json`));
    } else if (column.role === "files" && value) {
      const id = columns[0].values[i];
      td.append(/^[0-9A-Za-z_-]+$/.test(id) ? link(text, `cells/${id}/`) : text);
    } else if (column.role === "state") {
      td.append(span(text, `state-${value}`));
    } else if (typeof value === "number" && !Number.isFinite(value)) {
      td.append(span(text, "odd"));
    } else {
      td.textContent = text;
      if (text.length > 24) td.title = text;
    }
    return td;
  }

  function link(text, href) {
    const a = document.createElement("a");
    a.textContent = text;
    a.setAttribute("href", href);
    return a;
  }

  function span(text, name) {
    const element = document.createElement("span");
    element.textContent = text;
    element.className = name;
    return element;
  }

  function line(k) {
    const tr = document.createElement("tr");
    tr.setAttribute("aria-rowindex", String(k + 2));
    tr.append(...columns.map((column) => cell(column, order[k])));
    return tr;
  }

  function space(lines) {
    const tr = document.createElement("tr");
    tr.className = "space";
    tr.style.height = `${lines * height}px`;
    tr.setAttribute("aria-hidden", "true");
    return tr;
  }

  function render(first, last) {
    if (!height && order.length) {
      body.replaceChildren(line(0));
      height = body.rows[0].getBoundingClientRect().height || 28;
    }
    const from = first ?? Math.max(0, Math.floor(box.scrollTop / (height || 28)) - 15);
    const view = Math.ceil(box.clientHeight / (height || 28)) + 30;
    const to = Math.min(order.length, last ?? from + view);
    const lines = [];
    for (let k = from; k < to; k += 1) lines.push(line(k));
    body.replaceChildren(space(from), ...lines, space(order.length - to));
    table.setAttribute("aria-rowcount", String(order.length + 1));
  }

  // ---- the page

  function press(column, head) {
    const again = sorted.column === column;
    sorted = again && sorted.down ? { column: null, down: false } : { column, down: again };
    for (const other of heads) other.removeAttribute("aria-sort");
    if (sorted.column) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    sort();
    box.scrollTop = 0;
    render();
  }

  heads.forEach((head, j) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => press(columns[j], head));
    head.append(button);
    // as wide as the widest of its lines, so that nothing moves while scrolling
    let widest = 0;
    for (let i = 0; i < data.cells; i += 1) {
      widest = Math.max(widest, shown(columns[j], i).length);
    }
    head.style.minWidth = `${Math.min(widest, 32) * 0.56 + 1.4}rem`;
  });
  box.classList.add("live");
  const tools = document.getElementById("cells-tools");
  tools.hidden = false;
  box.before(tools);
  let waiting = 0;
  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, 80);
  });
  box.addEventListener("scroll", () => render());  // once a frame, by the browser
  new ResizeObserver(() => { height = 0; render(); }).observe(box);
  addEventListener("beforeprint", () => render(0, 500));
  addEventListener("afterprint", () => render());
  select();
})();
