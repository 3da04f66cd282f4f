// Codes that go with what an expression matches, counted here, over the texts of the page.
const SHOWN = 100;
const SECONDS = 10;
const MATCHES = 12;
let searched = { key: "", rows: [], note: "", matches: [] };

async function searchView(main) {
  const input = el("input", { type: "search", id: "q", value: state.q, size: 32, spellcheck: "false", placeholder: "self\\.(\\w+)" });
  const form = el("form", { class: "fields", onsubmit: (event) => {
    event.preventDefault();
    go({ q: input.value });
  } },
  el("label", { class: "field" }, el("span", {}, "Regular expression (JavaScript)"), input),
  choose("In", state.scope, [["book", "this codebook"], ["site", "this site"], ["all", "all codebooks"]], (scope) => go({ scope })),
  el("button", { type: "submit" }, "Search"));
  const results = el("div", { id: "results" });
  const slider = (name) => {
    const shown = el("b", {}, state[name].toFixed(2));
    return el("label", { class: "field" }, el("span", {}, `${name} at least `, shown), el("input", {
      type: "range", min: 0, max: 1, step: 0.01, value: state[name], oninput: (event) => {
        go({ [name]: Number(event.target.value) }, true);
        shown.textContent = state[name].toFixed(2);
        results.replaceChildren(...found());
      },
    }));
  };
  const total = head.held.lengths.reduce((a, b) => a + b, 0);
  main.replaceChildren(
    el("h1", {}, "Search"),
    el("p", { class: "facts" },
      `Over the ${count(total)} tokens of the ${count(head.held.lengths.length)} examples in the page (the index has ${count(head.tokens)}). `,
      "Tokens that overlap capture group 1, or without one the match, count as meant; in JavaScript \\w and \\d are ASCII. The best of many codes is good by luck, too: ",
      "activjax.codebooks.find chooses on one half, measures on the other, and has controls."),
    form, el("div", { class: "fields" }, slider("precision"), slider("recall")), results);
  if (head.vocabulary === null) {
    results.replaceChildren(el("p", { class: "note" }, "The index has no vocabulary, so there is no text to search."));
  } else if (state.q) {
    results.replaceChildren(el("p", { class: "facts" }, "searching …"));
    await search();
    results.replaceChildren(...found());
  }
}

// A search goes on for itself when another one is asked for.
function search() {
  const book = currentBook();
  const scope = books.filter((b) => state.scope === "all" || (state.scope === "site" ? b.site === book.site : b === book));
  const key = JSON.stringify([state.q, scope.map((b) => b.number)]);
  if (searched.key !== key) {
    searched = { key, rows: [], note: "", matches: [] };
    searched.done = fillSearch(searched, state.q, scope);
  }
  return searched.done;
}

async function fillSearch(mine, query, scope) {
  let pattern;
  try {
    pattern = new RegExp(query, "gud");
  } catch (error) {
    mine.note = `not a regular expression: ${error.message}`;
    return;
  }
  const [tokens] = await Promise.all([heldTokens(), loadVocabulary()]);
  const { marks, meant, matches, stopped } = label(pattern, tokens);
  Object.assign(mine, { tokens, matches });
  const base = meant / stopped;
  const cut = stopped < marks.length ? ` (stopped after ${SECONDS} s, at ${count(stopped)} tokens)` : "";
  mine.note = `${count(meant)} of ${count(stopped)} tokens meant, base rate ${percent(base)}${cut}`;
  if (!meant) return;
  for (const b of scope) {
    const rows = tally(b, await choices(b.number), marks, stopped);
    for (const [code, both, own] of rows) {
      const precision = both / own;
      const recall = both / meant;
      mine.rows.push({ book: b, code, both, own, precision, recall, lift: precision / base, f1: (2 * precision * recall) / (precision + recall) });
    }
  }
  mine.rows.sort((a, b) => b.f1 - a.f1 || a.book.number - b.book.number || a.code - b.code);
}

// Which tokens are meant, how many, where first; up to which token the time sufficed.
function label(pattern, tokens) {
  const marks = new Uint8Array(tokens.length);
  const matches = [];
  const end = performance.now() + 1000 * SECONDS;
  let start = 0;
  for (let example = 0; example < head.held.lengths.length; example++) {
    if (performance.now() > end) break;
    const length = head.held.lengths[example];
    const { bytes, ends, lengths } = joined(tokens.subarray(start, start + length));
    const { text, at } = decode(bytes);
    let next = 0; // matches come in order, and so do tokens
    for (const match of text.matchAll(pattern)) {
      const span = match.length > 1 ? match.indices[1] : match.indices[0];
      if (!span || span[0] === span[1]) continue;
      const [low, high] = [at[span[0]], at[span[1]]];
      while (next > 0 && ends[next - 1] > low) next--;
      while (next < length && ends[next] <= low) next++;
      let last = next;
      for (let i = next; i < length && ends[i] - lengths[i] < high; i++) {
        if (lengths[i]) marks[start + i] = 1;
        last = i;
      }
      if (matches.length < MATCHES) matches.push([example, start, next, last]);
    }
    start += length;
  }
  let meant = 0;
  for (const mark of marks) meant += mark;
  return { marks, meant, matches, stopped: start };
}

// [code, tokens with both, tokens with the code] of the codes that go with any meant token.
function tally(book, ids, marks, tokens) {
  const { k, codes } = book.site;
  const own = new Uint32Array(codes);
  const both = new Uint32Array(codes);
  const last = new Int32Array(codes).fill(-1);
  for (let t = 0; t < tokens; t++) {
    for (let i = t * k; i < t * k + k; i++) {
      const code = ids[i];
      if (code >= codes || last[code] === t) continue;
      last[code] = t;
      own[code]++;
      both[code] += marks[t];
    }
  }
  const rows = [];
  both.forEach((n, code) => { if (n) rows.push([code, n, own[code]]); });
  return rows;
}

function matchLine([example, start, first, last]) {
  const low = Math.max(0, first - 12);
  const high = Math.min(head.held.lengths[example], last + 13);
  const ids = Array.from(searched.tokens.subarray(start + low, start + high));
  return el("div", { class: "context" },
    el("p", { class: "where" }, el("a", { href: address({ view: "prompt", example, row: first }) },
      `example ${head.held.examples[example]}, token ${first}`)),
    el("p", { class: "text" }, ids.map((id, i) =>
      piece(id, low + i >= first && low + i <= last))));
}

function found() {
  const kept = searched.rows.filter((r) => r.precision >= state.precision && r.recall >= state.recall);
  const parts = [el("p", { class: "facts", id: "found" }, searched.note,
    searched.rows.length ? `; ${count(kept.length)} of ${count(searched.rows.length)} codes that go with any are above both limits${kept.length > SHOWN ? `, the best ${SHOWN} by F1 are shown` : ""}` : "")];
  if (searched.rows.length) {
    parts.push(table(["code", "precision ", "recall ", "F1 ", "lift ", "code & meant ", "code "],
      kept.slice(0, SHOWN).map((r) => [codeLink(r.book, r.code), r.precision.toFixed(3), r.recall.toFixed(3), r.f1.toFixed(3),
        r.lift.toFixed(1), count(r.both), count(r.own)]), "Codes found"));
  }
  if (searched.matches.length) {
    parts.push(section("First matches", "", searched.matches.map(matchLine)));
  }
  return parts;
}
