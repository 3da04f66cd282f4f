// The tabs, and which view is shown.
const VIEWS = [
  ["code", "Codes", codeView], ["prompt", "Prompts", promptView], ["search", "Search", searchView],
  ["steering", "Steering", steeringView], ["labels", "Labels", labelsView],
];
let drawn = 0;

async function render() {
  const mine = ++drawn;
  readAddress();
  document.title = `${head.title}: ${state.view}`;
  document.getElementById("tabs").replaceChildren(...VIEWS.map(([name, text]) =>
    el("a", { href: address({ view: name }), "aria-current": name === state.view ? "page" : null }, text)));
  // a view that takes long must not replace one that was asked for later
  const main = document.getElementById("main");
  const view = { replaceChildren: (...parts) => { if (mine === drawn) main.replaceChildren(...parts.filter(Boolean)); },
    querySelector: (selector) => main.querySelector(selector) };
  const focused = document.activeElement?.id;
  document.body.dataset.view = state.view;
  document.documentElement.dataset.state = "working";
  try {
    await Promise.all([navigator_(), VIEWS.find(([name]) => name === state.view)[2](view)]);
  } catch (error) {
    view.replaceChildren(el("p", { class: "note" }, `This cannot be shown: ${error.message}`));
    console.error(error);
  }
  if (mine !== drawn) return;
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  document.documentElement.dataset.state = "ready";
}

document.getElementById("name").textContent = head.title;
readLabels();
addEventListener("hashchange", render);
render();
requestAnimationFrame(() => requestAnimationFrame(() => {
  document.documentElement.dataset.painted = Math.round(performance.now());
}));
