// Baseline, steered and random side by side.
async function steeringView(main) {
  if (!head.steering) {
    main.replaceChildren(el("h1", {}, "Steering"),
      el("p", { class: "note" }, "No steered texts were saved: activjax.codebooks.save_view(path, steering=...) keeps them."));
    return;
  }
  const records = await json("steering");
  const one = records[state.record];
  const columns = [["baseline", one.baseline], ["steered", one.steered], ["random", one.random], ...Object.entries(one.others)];
  const pick = choose("Record", state.record, records.map((r, i) =>
    [i, `${i}: ${visibleText(r.setting)} | ${visibleText(r.prompt)}`.replaceAll("\n", " ").slice(0, 90)]), (value) => go({ record: Number(value) }));
  const step = (name, record) => el("button", {
    type: "button", id: name, disabled: record < 0 || record >= records.length, onclick: () => go({ record }),
  }, name);
  const parts = [
    el("h1", {}, "Steering"),
    el("div", { class: "fields" }, step("‹", state.record - 1), pick, step("›", state.record + 1)),
    el("dl", {}, el("dt", {}, "Setting"), el("dd", {}, visibleText(one.setting)),
      el("dt", {}, "Prompt"), el("dd", { class: "text" }, visibleText(one.prompt))),
    el("div", { class: "sides" }, columns.map(([name, samples]) => el("section", {}, el("h2", {}, visibleText(name)),
      samples.map((text) => el("p", { class: "text sample" }, text ? visibleText(text) : "(nothing)"))))),
  ];
  const metrics = Object.entries(one.metrics);
  if (metrics.length) {
    const names = columns.map(([name]) => name);
    const shown = (v) => (v === null || v === undefined ? "–" : Number(v.toPrecision(4)));
    parts.push(section("Metrics", "", [table(["metric", ...names.map((n) => `${visibleText(n)} `)],
      metrics.map(([name, value]) => [visibleText(name), ...names.map((n, i) =>
        typeof value === "object" && value !== null ? shown(value[n]) : i === 1 ? shown(value) : "")]), "Metrics")]));
  }
  main.replaceChildren(...parts);
}
