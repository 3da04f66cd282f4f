// Where the data comes from: the server, or what stands in the file itself.
import { numeric } from "./numbers.js";

const encoded = (place) => place.map(encodeURIComponent).join("/");

/** The address of a view within the page. */
export const link = {
  list: () => "#/",
  sweep: (place) => `#/s/${encoded(place)}`,
  run: (place) => `#/r/${encoded(place)}`,
  compare: (places) => `#/compare/${places.map((p) => encodeURIComponent(p.join("/"))).join("/")}`,
};

/** What an address says: `view` and its places. */
export function parsed(hash) {
  const [view, ...rest] = hash.replace(/^#\/?/, "").split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return "";
    }
  });
  if (view === "compare") return { view, places: rest.map((ref) => ref.split("/")) };
  if ((view === "s" || view === "r") && rest.length >= 2) return { view, place: rest };
  return { view: "" };
}

async function json(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (!answer.ok) throw new Error(answer.status === 404 ? "there is no such run" : `${answer.status}`);
  const data = await answer.json();
  if (data.kind === "error") throw new Error(data.error);
  return data;
}

/** Curves that grow: buckets that have changed take the place of what was there. */
class Curves {
  constructor(path) {
    this.path = path;
    this.series = new Map();
    this.token = "";
    this.more = true;
  }

  /** Fetch what is new; whether anything was. */
  async refresh() {
    const mark = this.path.includes("?") ? "&" : "?";
    return this.take(await json(`${this.path}${mark}since=${encodeURIComponent(this.token)}`));
  }

  take(answer) {
    if (answer.reset) this.series.clear();
    for (const one of answer.series) {
      const key = `${one.case}\n${one.metric}`;
      const old = this.series.get(key);
      const merged = (name) => one[name].map((values, cell) =>
        (old && old[name][cell] ? old[name][cell].slice(0, one.start) : []).concat(
          values.map(numeric)));
      const lo = merged("lo");
      this.series.set(key, {
        case: one.case, metric: one.metric, to: one.to, last: one.last.map(numeric), lo,
        step: (old ? old.step.slice(0, one.start) : []).concat(one.step),
        hi: one.hi ? merged("hi") : lo,
      });
    }
    const changed = answer.token !== this.token;
    this.token = answer.token;
    this.more = answer.more;
    return changed;
  }
}

class Server {
  constructor() {
    this.still = false;
  }

  list(quick) { return json(`/api/list${quick ? "?quick" : ""}`); }

  sweep(place) { return json(`/api/sweep/${encoded(place)}`); }

  details(place) { return json(`/api/${place.length === 3 ? "cell" : "run"}/${encoded(place)}`); }

  live(place) { return json(`/api/live/${encoded(place)}`); }

  /** The curves of a run, of a batch (`place` names it third), or of one cell of a batch. */
  curves(place, cell) {
    return new Curves(`/api/metrics/${encoded(place)}${cell === null ? "" : `?cell=${cell}`}`);
  }

  file(place, path) { return `/file/${encoded(place.slice(0, 2))}/${encoded(path.split("/"))}`; }
}

/** A file that holds one sweep; records of cells lie beside it. */
class Still {
  constructor(data) {
    this.data = data;
    this.still = true;
  }

  async sweep() { return this.data.sweep; }

  async details(place) {
    const [batch, index] = this.data.cells[place[2]] || ["", null];
    return { kind: "cell", place, still: true, batch, index,
      metrics: Boolean(this.data.curves[batch]) && index !== null };
  }

  curves(place, cell) {
    const found = new Curves("");
    const answer = this.data.curves[place[2]];
    const only = (values) => (cell === null ? values : values.slice(cell, cell + 1));
    found.take({ ...answer, more: false, reset: true, series: answer.series.map((one) => ({
      ...one, lo: only(one.lo), last: only(one.last), ...(one.hi ? { hi: only(one.hi) } : {}) })) });
    found.refresh = async () => false;
    return found;
  }

  file(_, path) { return path.split("/").map(encodeURIComponent).join("/"); }
}

/** The source that this page has. */
export function openSource() {
  const held = document.getElementById("browse-data");
  return held ? new Still(JSON.parse(held.textContent)) : new Server();
}
