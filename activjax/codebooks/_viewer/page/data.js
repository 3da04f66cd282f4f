// What the page holds. Blocks are deflate in base64, opened when they are first needed.
const head = JSON.parse(document.getElementById("head").textContent);
const opened = new Map();

function block(name) {
  if (!opened.has(name)) opened.set(name, open(name));
  return opened.get(name);
}

async function open(name) {
  const node = await arrived(name);
  const text = atob(node.textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The page is read from above; an element is whole once another one follows.
async function arrived(name) {
  for (;;) {
    const node = document.getElementById(name);
    if (node && (node.nextElementSibling || document.readyState !== "loading")) return node;
    if (document.readyState !== "loading") throw new Error(`the page has no ${name}: it was cut off`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

// Numbers are stored as all lowest bytes, then all second ones, and so on.
async function numbers(name) {
  const bytes = await block(name);
  const n = bytes.length / 4;
  const out = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    out[i] = bytes[i] | (bytes[n + i] << 8) | (bytes[2 * n + i] << 16) | (bytes[3 * n + i] << 24);
  }
  return out;
}

const kept = new Map();
function once(name, make) {
  if (!kept.has(name)) kept.set(name, make());
  return kept.get(name);
}

const usage = (book) => once(`use-${book}`, () => numbers(`use-${book}`));
const choices = (book) => once(`ids-${book}`, () => numbers(`ids-${book}`));
const heldTokens = () => once("tokens", () => numbers("tokens"));
const json = (name) =>
  once(name, async () => JSON.parse(new TextDecoder().decode(await block(name))));
const details = (book) =>
  once(`details-${book}`, async () => new Map((await json(`codes-${book}`)).map((c) => [c.code, c])));

// Codebooks are numbered over all sites, loops and groups, in this order.
const books = [];
for (const site of head.sites) {
  const sizes = [...site.loops, site.groups];
  const all = sizes.reduce((a, b) => a * b, 1);
  for (let i = 0; i < all; i++) {
    const at = [];
    let rest = i;
    for (const size of [...sizes].reverse()) {
      at.unshift(rest % size);
      rest = Math.floor(rest / size);
    }
    books.push({ number: books.length, site, loop: at.slice(0, -1), group: at[at.length - 1] });
  }
}

function bookNumber(site, loop, group) {
  let number = 0;
  [...site.loops, site.groups].forEach((size, i) => {
    number = number * size + [...loop, group][i];
  });
  return site.first + number;
}

function bookName(book) {
  const loop = book.loop.length === 1 ? ` layer ${book.loop[0]}` : book.loop.length ? ` loop ${book.loop.join(".")}` : "";
  return `${book.site.name}${loop}${book.site.groups > 1 ? ` group ${book.group}` : ""}`;
}

function shortName(book) {
  return [...book.loop, ...(book.site.groups > 1 ? [book.group] : [])].join(".") || "–";
}
