// Labels of codes: those saved with the run, changed here, kept by the browser, saved as JSON.
const STORE = `activjax-codes-${head.id}`;
const FORMAT = "activjax code labels";
const labels = new Map();
const labelKey = (site, loop, group, code) => JSON.stringify([site, loop, group, code]);
const labelOf = (book, code) => labels.get(labelKey(book.site.name, book.loop, book.group, code)) || "";

function readLabels() {
  takeLabels(head.labels);
  try {
    takeLabels(JSON.parse(localStorage.getItem(STORE) || "[]"));
  } catch { /* the browser keeps nothing for files: the JSON file does */ }
}

// Returns how many were of codes that there are.
function takeLabels(entries) {
  let taken = 0;
  for (const one of Array.isArray(entries) ? entries : []) {
    const site = head.sites.find((s) => s.name === one?.site);
    const fits = site && Array.isArray(one.loop) && one.loop.length === site.loops.length
      && one.loop.every((i, n) => Number.isInteger(i) && i >= 0 && i < site.loops[n])
      && Number.isInteger(one.group) && one.group >= 0 && one.group < site.groups
      && Number.isInteger(one.code) && one.code >= 0 && one.code < site.codes && typeof one.label === "string";
    if (!fits) continue;
    labels.set(labelKey(site.name, one.loop, one.group, one.code), one.label);
    taken++;
  }
  return taken;
}

function labelEntries(empty) {
  return Array.from(labels, ([key, label]) => {
    const [site, loop, group, code] = JSON.parse(key);
    return { site, loop, group, code, label };
  }).filter((one) => empty || one.label);
}

function keepLabels() {
  try {
    localStorage.setItem(STORE, JSON.stringify(labelEntries(true)));
    return true;
  } catch {
    return false;
  }
}

function labelField(book, code) {
  return el("label", { class: "field wide" }, el("span", {}, "Label"), el("input", {
    type: "text", id: "label", value: labelOf(book, code), maxlength: 200, placeholder: "what this code stands for",
    onchange: (event) => {
      labels.set(labelKey(book.site.name, book.loop, book.group, code), event.target.value.trim());
      const stored = keepLabels();
      say(stored ? "label kept in this browser" : "label kept until this page is closed: save the labels as JSON");
      if (listed.book === book) fill(book);
    },
  }));
}

async function labelsView(main) {
  const entries = labelEntries(false);
  const file = el("input", { type: "file", accept: ".json,application/json", onchange: (event) => importLabels(event.target.files[0]) });
  main.replaceChildren(
    el("h1", {}, "Labels"),
    el("p", { class: "facts" }, `${count(entries.length)} codes are labelled. Labels are written on a code's page; `,
      "save them as JSON to keep them: codebooks.save_view(path, labels=FILE) makes them part of the next page."),
    el("div", { class: "fields" },
      el("button", { type: "button", onclick: saveLabels }, "Save as JSON"),
      el("label", { class: "field" }, el("span", {}, "Import"), file)),
    entries.length
      ? table(["labelled code"], entries.map((one) => {
        const site = head.sites.find((s) => s.name === one.site);
        return [codeLink(books[bookNumber(site, one.loop, one.group)], one.code)];
      }), "Labels")
      : el("p", { class: "facts" }, "none"));
}

function labelFile() {
  return JSON.stringify({ format: FORMAT, labels: labelEntries(false) }, null, 1);
}

function saveLabels() {
  const url = URL.createObjectURL(new Blob([labelFile()], { type: "application/json" }));
  const link = el("a", { href: url, download: "labels.json" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function importLabels(file) {
  if (!file) return;
  let given = null;
  try { given = JSON.parse(await file.text()); } catch { /* said below */ }
  if (given?.format !== FORMAT) {
    say(`${file.name} is not a file of labels`);
    return;
  }
  const taken = takeLabels(given.labels);
  keepLabels();
  say(`${taken} of ${given.labels?.length ?? 0} labels taken from ${file.name}`);
  render();
}
