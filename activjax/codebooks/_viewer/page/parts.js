// Elements are made here and nowhere else; text becomes a text node, never markup.
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined).map((c) =>
    c instanceof Node ? c : document.createTextNode(String(c))));
  return node;
}

const count = (n) => n.toLocaleString("en-US");
const percent = (share) =>
  share === 0 ? "0 %" : share < 0.0001 ? `${(100 * share).toExponential(1)} %` : `${Number((100 * share).toPrecision(3))} %`;

function table(columns, rows, caption) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {},
      el("thead", {}, el("tr", {}, columns.map((c) =>
        el("th", { scope: "col", class: c.endsWith(" ") ? "num" : null }, c.trim())))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) =>
        el("td", { class: columns[i].endsWith(" ") ? "num" : null }, cell)))))));
}

// A token among others, and one that stands alone.
function piece(id, hit, here = false) {
  return el(hit ? "mark" : "span", { class: here ? "token here" : "token", title: `token ${id}` },
    visibleBytes(pieceBytes(id)));
}

function token(id) {
  return el("span", { class: "token", title: `token ${id}` }, visible(id));
}

function bar(share, label) {
  const inner = el("span", { class: "fill" });
  inner.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
  return el("span", { class: "bar", role: "img", "aria-label": label }, inner);
}

function choose(label, value, options, act) {
  const select = el("select", { id: `choose-${label}`, onchange: (event) => act(event.target.value) },
    options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text)));
  return el("label", { class: "field" }, el("span", {}, label), select);
}

function codeLink(book, code) {
  const name = visibleText(labelOf(book, code)).replaceAll("\n", " ");
  return el("a", { href: address({ ...place(book), view: "code", code }), title: bookName(book) },
    `${bookName(book)} #${code}`, name ? `: ${name}` : "");
}

// The colour of a code: equal codes of a codebook look equal.
const hue = (code) => (code * 137.508) % 360;

function say(text) {
  document.getElementById("say").textContent = text;
}
