// One code: how often, at which rank, where, with what, and what it does to the output.
async function codeView(main) {
  const book = currentBook();
  const counts = await usage(book.number);
  let code = state.code;
  if (code < 0) code = counts.reduce((best, n, i) => (n > counts[best] ? i : best), 0);
  const title = el("h1", {}, `${bookName(book)} `, el("span", { class: "id" }, `#${code}`));
  const facts = el("p", { class: "facts" }, counts[code]
    ? `chosen at ${count(counts[code])} of ${count(head.tokens)} tokens, density ${percent(counts[code] / head.tokens)}`
    : `never chosen at any of ${count(head.tokens)} tokens: dead`);
  const parts = [title, labelField(book, code), facts];
  const [all] = await Promise.all([details(book.number), loadVocabulary()]);
  const one = all.get(code);
  if (!one) {
    if (counts[code]) {
      parts.push(el("p", { class: "note" },
        `The page has contexts of the ${count(all.size)} most used codes of this codebook, and this is not one of them. `,
        "Label it (save_view), or write the page again with a larger --contexts."));
    }
    main.replaceChildren(...parts);
    return;
  }
  facts.append(`, in ${count(one.examples)} of ${count(head.examples)} examples, mean cosine ${one.similarity}; `
    + `it has at most ${percent(one.most)} of an example's tokens, over half of them in ${count(one.half)}`);
  parts.push(
    section("Contexts", "The first are those of highest cosine, the others from all over the examples.",
      one.contexts.map((context) => contextLine(context))),
    el("div", { class: "pair" },
      section("Top tokens", "Lift: share among the code's tokens as a multiple of the share among all.",
        [table(["token", "count ", "lift "], one.tokens.map(([id, n, lift]) => [token(id), count(n), lift]), "Top tokens")]),
      section("Chosen at rank", "0 is the nearest of the codes chosen at a token.", [ranks(one.ranks)])),
    section("Co-active codes", books.length > 32
      ? "Chosen at the same tokens, by lift; in this codebook and in those of other sites at the same place."
      : "Chosen at the same tokens, by lift; in all codebooks.",
      [one.codes.length
        ? table(["code", "both ", "lift "], one.codes.map(([b, c, n, lift]) => [codeLink(books[b], c), count(n), lift]), "Co-active codes")
        : el("p", { class: "facts" }, "none often enough")]),
  );
  if (one.effects) parts.push(effects(one.effects));
  main.replaceChildren(...parts);
}

function section(title, note, children) {
  return el("section", {}, el("h2", {}, title), note ? el("p", { class: "facts" }, note) : null, children);
}

function contextLine([example, position, rank, cosine, at, ids, hits]) {
  const held = head.held.examples.indexOf(example);
  const where = `example ${example}, token ${position}`;
  const link = held >= 0
    ? el("a", { href: address({ view: "prompt", example: held, row: position }) }, where)
    : el("span", {}, where);
  const also = new Set(hits);
  return el("div", { class: "context" },
    el("p", { class: "where" }, link, ` · rank ${rank}${cosine === null ? "" : ` · cosine ${cosine}`}`),
    el("p", { class: "text" }, ids.map((id, i) => piece(id, also.has(i), i === at))));
}

function ranks(counts) {
  const most = Math.max(...counts, 1);
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const shown = counts.slice(0, 16);
  const rows = shown.map((n, i) => [i, bar(n / most, `${n} times`), percent(n / total)]);
  const rest = counts.slice(16).reduce((a, b) => a + b, 0);
  if (counts.length > 16) rows.push([`16 to ${counts.length - 1}`, bar(Math.min(1, rest / most), `${rest} times`), percent(rest / total)]);
  return table(["rank", "", "share "], rows, "Ranks");
}

function effects(list) {
  const half = Math.ceil(list.length / 2);
  const top = list.slice(0, half).filter(([, v]) => v > 0);
  const low = list.slice(half).filter(([, v]) => v < 0).reverse();
  const rows = (part) => part.map(([id, v]) => [token(id), v > 0 ? `+${v}` : v]);
  return section("Direct effect on the output", "The tokens whose logits this code raises and lowers most.", [
    el("div", { class: "pair" },
      table(["raised", "logit "], rows(top), "Raised tokens"),
      table(["lowered", "logit "], rows(low), "Lowered tokens")),
  ]);
}
