// Which codebook, how its codes are used, and the list of its codes.
const ROW = 28;

let built = "";

async function navigator_() {
  const book = currentBook();
  const box = document.getElementById("navigator");
  const site = book.site;
  const key = JSON.stringify([book.number, state.show, state.sort]);
  if (key === built) { // the list stays where it is, and who moves in it by keys stays in it
    document.getElementById("filter").value = state.filter;
    await fill(book);
    return;
  }
  built = key;
  const fields = [
    choose("Site", site.name, head.sites.map((s) => [s.name, s.name]), (name) => {
      const next = head.sites.find((s) => s.name === name);
      go({ site: name, loop: next.loops.map(() => 0).join("."), group: 0, code: -1 });
    }),
  ];
  site.loops.forEach((size, i) => {
    const name = site.loops.length === 1 ? "Layer" : `Loop ${i}`;
    fields.push(choose(name, book.loop[i], range(size), (value) => {
      const loop = [...book.loop];
      loop[i] = Number(value);
      go({ loop: loop.join("."), code: -1 });
    }));
  });
  if (site.groups > 1) {
    fields.push(choose("Group", book.group, range(site.groups), (value) => go({ group: Number(value), code: -1 })));
  }
  const used = head.used[book.number];
  const parts = [
    el("div", { class: "fields" }, fields),
    grid(book),
    el("p", { class: "facts", id: "used" },
      `${count(used)} of ${count(site.codes)} codes used, ${count(site.codes - used)} dead (${percent(1 - used / site.codes)})`),
  ];
  const histogram = el("div", { id: "histogram" });
  const controls = el("div", { class: "fields" },
    choose("Show", state.show, [["used", "used"], ["dead", "dead"], ["labelled", "labelled"], ["all", "all"]],
      (show) => go({ show })),
    choose("Sort", state.sort, [["use", "most used first"], ["rare", "least used first"], ["id", "number"]],
      (sort) => go({ sort })),
    el("label", { class: "field" }, el("span", {}, "Filter"),
      el("input", { type: "search", id: "filter", value: state.filter, placeholder: "number or label", oninput: (event) => {
        go({ filter: event.target.value }, true);
        fill(book);
      } })));
  const list = el("div", { id: "list", role: "listbox", tabindex: 0, "aria-label": "Codes", onscroll: drawRows, onkeydown: moveInList },
    el("div", { id: "rows" }));
  box.replaceChildren(...parts, histogram, controls, el("p", { class: "facts", id: "listed" }), list);
  const counts = await usage(book.number);
  if (currentBook() !== book) return;
  histogram.replaceChildren(...drawHistogram(counts));
  await fill(book);
}

const range = (size) => Array.from({ length: size }, (_, i) => [i, i]);

// All codebooks of a site at once: a column for each loop index, a row for each group.
function grid(book) {
  const site = book.site;
  const loops = site.loops.reduce((a, b) => a * b, 1);
  if (loops * site.groups === 1) return null;
  const cells = [];
  for (let group = 0; group < site.groups; group++) {
    for (let loop = 0; loop < loops; loop++) {
      const other = books[site.first + loop * site.groups + group];
      const share = head.used[other.number] / site.codes;
      const cell = el("a", {
        href: address({ ...place(other), code: -1 }), tabindex: -1, "aria-hidden": "true",
        title: `${bookName(other)}: ${percent(share)} used`, class: other === book ? "here" : null,
      });
      cell.style.setProperty("--share", `${Math.round(15 + 85 * share)}%`);
      cells.push(cell);
    }
  }
  const box = el("div", { class: "grid" }, cells);
  box.style.gridTemplateColumns = `repeat(${loops}, minmax(3px, 1fr))`;
  return el("figure", { class: "map" }, box,
    el("figcaption", {}, `share of codes used; ${loops > 1 ? "layers across" : ""}${loops > 1 && site.groups > 1 ? ", " : ""}${site.groups > 1 ? "groups down" : ""}`));
}

function drawHistogram(counts) {
  const bins = new Array(33).fill(0);
  for (const n of counts) bins[n === 0 ? 0 : 1 + Math.floor(Math.log2(n))]++;
  const last = bins.findLastIndex((n) => n > 0);
  const most = Math.max(...bins);
  const bars = bins.slice(0, last + 1).map((n, i) => {
    const low = i === 0 ? 0 : 2 ** (i - 1);
    const uses = i < 2 ? `${low}` : `${count(low)} to ${count(2 ** i - 1)}`;
    const column = el("span", { class: i === 0 ? "column dead" : "column", title: `${count(n)} codes used ${uses} times` });
    column.style.height = n === 0 ? "0" : `${Math.max(2, (100 * n) / most)}%`;
    return column;
  });
  return [
    el("div", { class: "columns", role: "img", "aria-label": "Histogram of the codes' use" }, bars),
    el("div", { class: "axis" }, el("span", {}, "dead"), el("span", {}, "uses, doubling"),
      el("span", {}, last < 1 ? "" : `≥ ${count(2 ** (last - 1))}`)),
  ];
}

let listed = { book: null, codes: [], counts: null };

async function fill(book) {
  const counts = await usage(book.number);
  if (currentBook() !== book) return;
  const wanted = state.filter.trim().toLowerCase();
  const codes = [];
  for (let code = 0; code < counts.length; code++) {
    if (state.show === "used" && !counts[code]) continue;
    if (state.show === "dead" && counts[code]) continue;
    const label = labelOf(book, code);
    if (state.show === "labelled" && !label) continue;
    if (wanted && !(`${code}` === wanted.replace(/^#/, "") || label.toLowerCase().includes(wanted))) continue;
    codes.push(code);
  }
  if (state.sort === "use") codes.sort((a, b) => counts[b] - counts[a] || a - b);
  if (state.sort === "rare") codes.sort((a, b) => counts[a] - counts[b] || a - b);
  listed = { book, codes, counts };
  document.getElementById("listed").textContent = `${count(codes.length)} codes listed`;
  document.getElementById("rows").style.height = `${codes.length * ROW}px`;
  const at = codes.indexOf(state.code);
  const list = document.getElementById("list");
  if (at >= 0 && (at * ROW < list.scrollTop || (at + 1) * ROW > list.scrollTop + list.clientHeight)) {
    list.scrollTop = Math.max(0, (at - 3) * ROW);
  }
  drawRows();
}

// Of thousands of codes only those in sight are elements.
function drawRows() {
  const list = document.getElementById("list");
  const { book, codes, counts } = listed;
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
  const last = Math.min(codes.length, first + Math.ceil((list.clientHeight || 600) / ROW) + 10);
  const most = Math.log(1 + head.most[book ? book.number : 0]) || 1;
  const rows = [];
  for (let i = first; i < last; i++) {
    const code = codes[i];
    const label = labelOf(book, code);
    const row = el("a", {
      class: "row", role: "option", id: `row-${i}`, tabindex: -1, "aria-selected": String(code === state.code),
      href: address({ view: "code", code }),
    }, el("span", { class: "id" }, `#${code}`), el("span", { class: "label" }, visibleText(label).replaceAll("\n", " ")),
      bar(Math.log(1 + counts[code]) / most, `${counts[code]} uses`), el("span", { class: "uses" }, count(counts[code])));
    row.style.top = `${i * ROW}px`;
    rows.push(row);
  }
  document.getElementById("rows").replaceChildren(...rows);
  const at = codes.indexOf(state.code);
  if (at >= first && at < last) list.setAttribute("aria-activedescendant", `row-${at}`);
  else list.removeAttribute("aria-activedescendant");
}

function moveInList(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (!step || !listed.codes.length) return;
  event.preventDefault();
  const at = clamp(listed.codes.indexOf(state.code) + step, listed.codes.length);
  go({ view: "code", code: listed.codes[at] });
}
