// What is running now: batches with their step and last values, and their curves on demand.
import { el, section } from "./dom.js";
import { makeCurves } from "./curves.js";
import { scrolled } from "./details.js";
import { age, number, numeric } from "./numbers.js";

const SECONDS = 2;
const METRICS = 4;

/** The mean of what is finite. */
function mean(values) {
  const found = values.map(numeric).filter(Number.isFinite);
  return found.length ? found.reduce((sum, v) => sum + v, 0) / found.length : NaN;
}

/** A section that is there while batches run; `changed(any)` is told each time it has looked. */
export function makeLive(source, place, changed) {
  const node = el("div", { id: "browse-live" });
  const table = el("div", {});
  const curves = el("div", {});
  let shown = null;

  function open(batch) {
    shown = batch;
    curves.replaceChildren(el("h3", {}, "Batch ", el("code", {}, batch)),
      makeCurves([{ name: batch, curves: source.curves([...place, batch], null) }], { live: true }));
  }

  function draw(batches) {
    if (!batches.length && !shown) {
      node.replaceChildren();
      return;
    }
    const metrics = [...new Set(batches.flatMap((b) => Object.keys(b.metrics || {})))].slice(0, METRICS);
    const heads = ["batch", "for", "step", "cells", ...metrics];
    const lines = batches.map((b) => {
      const values = Object.values(b.metrics || {});
      return el("tr", {},
        el("td", {}, el("button", { type: "button", class: "button", onclick: () => open(b.batch) }, b.batch),
          b.case ? ` ${b.case}` : null),
        el("td", { class: "num" }, age(Date.now() / 1000 - b.since)),
        el("td", { class: "num" }, b.step === undefined ? "–" : b.step.toLocaleString("en")),
        el("td", { class: "num" }, values.length ? String(values[0].length) : "–"),
        metrics.map((name) => el("td", { class: "num" },
          b.metrics && b.metrics[name] ? number(mean(b.metrics[name])) : "–")));
    });
    table.replaceChildren(batches.length ? scrolled("Running batches", el("table", {},
      el("thead", {}, el("tr", {}, heads.map((text, j) =>
        el("th", { scope: "col", class: j ? "num" : null }, el("bdi", {}, text.slice(0, 60)))))),
      el("tbody", { class: "lines" }, lines)))
      : el("p", {}, "Nothing is running now."));
    if (!node.childNodes.length) {
      node.append(section("Running now", "running", table, el("p", { class: "caption" },
        "Batches that a worker holds; values are means over a batch's cells, of its last step. "
        + "A batch's button shows its curves."), curves));
    }
  }

  async function look() {
    try {
      const { batches } = await source.live(place);
      draw(batches);
      changed(batches.length > 0);
    } catch (problem) {
      node.replaceChildren(el("p", { class: "small" }, `What runs now cannot be told: ${problem.message}.`));
      shown = null;
    }
  }

  look();
  const timer = setInterval(() => {
    if (!node.isConnected) clearInterval(timer);
    else if (!document.hidden) look();
  }, SECONDS * 1000);
  return node;
}
