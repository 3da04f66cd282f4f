// What is shown is written in the address after #, so that a link leads back to it.
const DEFAULTS = {
  view: "code", site: "", loop: "", group: 0, code: -1, show: "used", sort: "use", filter: "",
  example: 0, columns: "", from: 0, row: 0, q: "", scope: "book", precision: 0, recall: 0, record: 0,
};
let state = { ...DEFAULTS };

function readAddress() {
  let given = new URLSearchParams();
  try { given = new URLSearchParams(location.hash.slice(1)); } catch { /* not one of ours */ }
  const next = { ...DEFAULTS };
  for (const [name, value] of given) {
    if (!(name in DEFAULTS)) continue;
    if (typeof DEFAULTS[name] !== "number") next[name] = value;
    else if (Number.isFinite(Number(value))) next[name] = Number(value);
  }
  const site = head.sites.find((s) => s.name === next.site) || head.sites[0];
  const loop = next.loop.split(".").map(Number);
  next.site = site.name;
  next.loop = site.loops.map((size, i) => clamp(loop[i] || 0, size)).join(".");
  next.group = clamp(next.group, site.groups);
  next.code = next.code < 0 ? -1 : clamp(next.code, site.codes);
  next.example = clamp(next.example, head.held.lengths.length);
  next.record = clamp(next.record, Math.max(head.steering, 1));
  if (!VIEWS.some(([name]) => name === next.view)) next.view = DEFAULTS.view;
  state = next;
}

function clamp(value, size) {
  return Math.min(Math.max(Math.trunc(value) || 0, 0), size - 1);
}

function address(changes) {
  const next = { ...state, ...changes };
  const given = new URLSearchParams();
  for (const name of Object.keys(DEFAULTS)) {
    if (String(next[name]) !== String(DEFAULTS[name])) given.set(name, next[name]);
  }
  return `#${given}`;
}

// Shows something else; `quiet` leaves no step to go back to, for what changes with every key.
function go(changes, quiet = false) {
  const to = address(changes);
  if (to === (location.hash || "#")) return;
  if (!quiet) {
    location.hash = to;
    return;
  }
  try { history.replaceState(null, "", to); } catch { location.replace(to); }
  readAddress();
}

function currentBook() {
  const site = head.sites.find((s) => s.name === state.site);
  const loop = state.loop === "" ? [] : state.loop.split(".").map(Number);
  return books[bookNumber(site, loop, state.group)];
}

const place = (book) => ({ site: book.site.name, loop: book.loop.join("."), group: book.group });
