// Tokens by codebooks: the nearest code of each.
const COLUMNS = 16;
const ROWS = 160;

async function heldExample(number) {
  const [tokens] = await Promise.all([heldTokens(), loadVocabulary()]);
  const start = head.held.lengths.slice(0, number).reduce((a, b) => a + b, 0);
  return { start, ids: tokens.subarray(start, start + head.held.lengths[number]) };
}

async function promptView(main) {
  const many = head.held.lengths.length;
  const all = books.filter((b) => !state.columns || b.site.name === state.columns);
  const from = Math.min(Math.max(0, Math.trunc(state.from / COLUMNS) * COLUMNS), Math.max(0, all.length - 1));
  const columns = all.slice(from, from + COLUMNS);
  const { start, ids } = await heldExample(state.example);
  const chosen = await Promise.all(columns.map((b) => choices(b.number)));
  const first = Math.min(Math.max(0, Math.trunc(state.row / ROWS) * ROWS), Math.max(0, ids.length - 1));
  const step = (name, changes, allowed) =>
    el("button", { type: "button", id: name, disabled: !allowed, onclick: () => go(changes) }, name);
  const controls = el("div", { class: "fields" },
    step("‹ example", { example: state.example - 1, row: 0 }, state.example > 0),
    el("label", { class: "field" }, el("span", {}, "Example"), el("input", {
      type: "number", id: "example", min: 0, max: many - 1, value: state.example,
      onchange: (event) => go({ example: clamp(Number(event.target.value), many), row: 0 }),
    })),
    step("example ›", { example: state.example + 1, row: 0 }, state.example + 1 < many),
    choose("Sites", state.columns, [["", "all"], ...head.sites.map((s) => [s.name, s.name])],
      (value) => go({ columns: value, from: 0 })),
    step("‹ codebooks", { from: from - COLUMNS }, from > 0),
    step("codebooks ›", { from: from + COLUMNS }, from + COLUMNS < all.length),
    step("‹ tokens", { row: first - ROWS }, first > 0),
    step("tokens ›", { row: first + ROWS }, first + ROWS < ids.length));
  const names = [];
  for (const b of columns) {
    if (names.length && names[names.length - 1][0] === b.site.name) names[names.length - 1][1]++;
    else names.push([b.site.name, 1]);
  }
  const thead = el("thead", {},
    el("tr", {}, el("th", {}), el("th", {}), names.map(([name, span]) => el("th", { colspan: span, scope: "colgroup" }, name))),
    el("tr", {}, el("th", { class: "num" }, "#"), el("th", {}, "token"),
      columns.map((b) => el("th", { scope: "col", title: bookName(b) }, shortName(b)))));
  const rows = Array.from(ids.subarray(first, first + ROWS), (id, i) => {
    const position = first + i;
    return el("tr", { class: position === state.row && state.row ? "here" : null },
      el("td", { class: "num" }, position), el("th", { scope: "row" }, token(id)),
      columns.map((b, c) => cell(b, chosen[c], start + position)));
  });
  main.replaceChildren(
    el("h1", {}, `Example ${count(head.held.examples[state.example])}`),
    el("p", { class: "facts" },
      `${count(ids.length)} tokens; ${count(state.example + 1)} of the ${count(many)} examples in the page, of ${count(head.examples)} in the index. `,
      `Codebooks ${from + 1} to ${from + columns.length} of ${count(all.length)}; each cell is the nearest code, named by layer and group.`),
    controls,
    el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Codes of each token" },
      el("table", { class: "cells" }, thead, el("tbody", {}, rows))));
  const here = main.querySelector("tr.here");
  if (here) { // within its box only
    const box = here.closest(".tall");
    box.scrollTop = here.offsetTop - box.clientHeight / 2;
  }
}

function cell(book, ids, at) {
  const { k, codes } = book.site;
  const mine = Array.from(ids.subarray(at * k, at * k + k)).filter((id) => id < codes);
  if (!mine.length) return el("td", { class: "none" }, "–");
  const link = el("a", {
    href: address({ ...place(book), view: "code", code: mine[0] }),
    title: `${bookName(book)}: ${mine.slice(0, 16).join(", ")}${mine.length > 16 ? ", …" : ""}`,
  }, mine[0]);
  const node = el("td", { class: "code" }, link);
  node.style.setProperty("--hue", hue(mine[0]));
  return node;
}
