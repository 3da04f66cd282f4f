// Which view is shown: the part of the address after # decides.
import { el, section } from "./dom.js";
import { showComparison } from "./compare.js";
import { savedSections, showDetails } from "./details.js";
import { answerSection, failuresSection, makeExplorer, progressLine, sweepHeader } from "./explore.js";
import { makeLive } from "./live.js";
import { showList } from "./list.js";
import { openSource, parsed } from "./source.js";
import { makeTable } from "./table.js";

const SECONDS = 5; // until cells that have been recorded since are shown
const source = openSource();
const mount = document.getElementById("browse");
const title = document.title;
let asked = 0;

/** The sweep whose table is shown, kept so that coming back to it is at once. */
const kept = { place: "", data: null, table: null, view: null };

async function loaded(place) {
  const data = await source.sweep(place);
  return { data, table: data.cells ? makeTable(data) : null };
}

source.table = async () => {
  if (!kept.table) Object.assign(kept, await loaded([]));
  return kept.table;
};

/** A sweep as the server shows it: whole, and growing while it runs. */
async function showSweep(place) {
  let { data, table } = await loaded(place);
  const head = el("div", {});
  const body = el("div", {});
  const fill = () => {
    head.replaceChildren(progressLine(data), data.report ? el("p", { class: "meta" },
      el("a", { href: source.file(place, "report.html") }, "report")) : "");
    const explorer = table ? makeExplorer(source, table, data, place) : null;
    body.replaceChildren(...[answerSection(data), explorer ? section("Cells", "cells", explorer.node) : null,
      failuresSection(source, data, place), ...savedSections(source, place, data)].filter(Boolean));
    explorer?.start();
  };
  let looked = Date.now();
  let mark = "";
  const marked = () => JSON.stringify([data.counts, data.state, data.answer]);
  const note = el("p", { class: "small", role: "status" });
  const live = makeLive(source, place, async (any) => {
    if (Date.now() - looked < SECONDS * 1000 || (!any && data.state === "done")) return;
    looked = Date.now();
    const next = await source.sweep(place);
    const now = JSON.stringify([next.counts, next.state, next.answer]);
    head.replaceChildren(progressLine(next));
    if (now === mark) return;
    // what somebody is looking at does not change under the hand
    note.replaceChildren(el("button", { type: "button", class: "button", onclick: () => {
      data = next;
      table = data.cells ? makeTable(data) : null;
      mark = marked();
      note.replaceChildren();
      fill();
    } }, "cells have been recorded since: show them"));
  });
  fill();
  mark = marked();
  return { title: data.name, node: el("div", {}, sweepHeader(data, place, head), note, live, body) };
}

/** The same in a file, where the document says all but the table and the plots. */
async function showStill() {
  if (!kept.data) await source.table();
  const { data, table } = kept;
  if (!kept.view) kept.view = makeExplorer(source, table, data, [data.name, data.id]);
  return { title, node: kept.view.node, start: kept.view.start };
}

function chosen(route) {
  if (route.view === "compare") return showComparison(source, route.places);
  if (route.view === "r" && !source.still) return showDetails(source, route.place);
  if (route.view === "s" && route.place.length === 3) return showDetails(source, route.place);
  if (source.still) return showStill();
  return route.view === "s" ? showSweep(route.place) : showList(source);
}

async function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // a place in the document
  asked += 1;
  const own = asked;
  const route = parsed(location.hash);
  let view;
  try {
    view = await chosen(route);
  } catch (problem) {
    view = { title, node: el("div", {}, el("p", { class: "bad" }, `This cannot be shown: ${problem.message}.`),
      el("p", {}, el("a", { href: "#/" }, "back"))) };
  }
  if (own !== asked) return; // something else has been asked for since
  mount.replaceChildren(view.node);
  if (view.start) view.start();
  document.title = source.still ? title : `${view.title} · activjax`;
  if (!source.still) scrollTo(0, 0);
  else if (location.hash) mount.scrollIntoView();
  mount.dataset.shown = route.view || (source.still ? "s" : "list");
}

addEventListener("hashchange", show);
show().then(() => {
  // a link to a place in the document: first the tables and plots, then the place
  if (!mount.childNodes.length || (location.hash && !location.hash.startsWith("#/"))) {
    const place = location.hash;
    if (source.still && !mount.querySelector(".explorer")) {
      showStill().then((view) => {
        mount.replaceChildren(view.node);
        view.start();
        document.getElementById(place.slice(1))?.scrollIntoView();
      });
    }
  }
});
