"""The report of a sweep: what it says, that it is harmless, that its table sorts and filters.

What its script shows besides is tested with the page that is served, in `tests/runs/browse`.
"""

import base64
import hashlib
import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from sweep_folder import HOSTILE, change, make, row, value_at, write

from activjax.runs import _html, _numbers
from activjax.runs.browse import _still, _sweeps
from activjax.runs.errors import StorageError
from activjax.runs.result import Row
from activjax.runs.sweep import _axis_plots, _cell_table, _plot_layout, page
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import Line, rows

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(HTMLParser):
    """A parsed report: elements with their attributes, scripts, text; everything is closed."""

    VOID = ("meta", "img", "br", "input")

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source, self.elements, self.open, self.texts, self.scripts = source, [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open, self.open
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(path):
    return Page(page.write(path).read_text("utf-8"))


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "demo" / "0123456789ab", failed=[3, 4])


def test_everything_a_sweep_has_is_in_its_report(path):
    text = written(path).text
    for part in (
        "demo", "done · sweep 0123456789ab · 18 cells · 2 failed · 3 seeds", "Is wider better?",
        "It is: 0.54", "best accuracy", "0.540", "a warning: plain",
        "2 of 18 cells failed: in no mean and no plot",
        "accuracy against width, by learning_rate: mean over 1 to 3 seeds, bars: 95 % intervals",
        "Baselines that are the same for all cells: accuracy 0.1 (chance)",
        "ValueError: no plain", "Traceback: plain", "8, 32, 128", "exact: false",
        "experiment: source/e.py", "activjax resume . --retry-failed", "f" * 64, "c" * 40,
    ):  # fmt: skip
        assert part in text, part
    assert text.index("2 warnings") < text.index("Is wider better?")


def test_it_works_without_a_script(path):
    found = written(path)
    links = [a["href"] for a in found.all("a") if not a["href"].startswith("#")]
    records = {f"cells/{cell['id']}.json" for cell in SweepFolder(path).cells}
    assert set(links) == records
    assert all((path / link).is_file() for link in links)
    assert len(found.all("details")) == 1
    assert [a for _, a in found.elements if a.get("id") == "browse"] == [{"id": "browse"}]
    assert found.source.index('id="browse"') < found.source.index(min(records))


def test_nothing_is_loaded_and_nothing_but_our_script_can_run(path):
    found = written(path)
    for tag, attributes in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert re.match(r"data:image/png;base64,|#[a-z]+$|cells/[0-9a-f]{12}\.json$", value)
    data, script = found.scripts
    assert found.all("script") == [{"type": "application/json", "id": "browse-data"}, {}]
    assert json.loads(data)["sweep"]["cells"] == 18
    (policy,) = [m["content"] for m in found.all("meta") if "http-equiv" in m]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    assert "default-src 'none'" in policy
    for word in ("innerHTML", "insertAdjacent", "document.write", "eval("):
        assert word not in script
    # the name of SVG's elements is no address that is loaded
    assert re.findall(r"https?:[^\"]*", script) == ["http://www.w3.org/2000/svg"]


def test_a_page_without_a_script_is_as_it_was():
    text = _html.page("title", _html.tag("p", "body"))
    assert "script" not in text
    assert 'base-uri &#x27;none&#x27;">' in text


def hostile_rows(point, seed):
    return [row(HOSTILE, value_at(point, seed), unit=HOSTILE, baseline_name=HOSTILE, note=HOSTILE)]


@pytest.mark.filterwarnings("error")
def test_hostile_text_stays_text(tmp_path):
    # as hostile in every other way: the tags must not depend on the letters
    def rows(point, seed):
        return [row("q", value_at(point, seed), unit="u", baseline_name="b", note="n")]

    plain = written(make(tmp_path / "a" / "x", grid={"k": [1, 2], "l": ["m", "o"]}, rows=rows,
                         failed=[1]))  # fmt: skip
    grid = {f"1{HOSTILE}": [1, 2], f"2{HOSTILE}": [f"a{HOSTILE}", f"b{HOSTILE}"]}
    path = make(tmp_path / "b" / "x", grid=grid, rows=hostile_rows, failed=[1], text=HOSTILE,
                about={"name": HOSTILE, "options": {HOSTILE: HOSTILE}})  # fmt: skip
    found = written(path)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    shown = HOSTILE.replace("\x1b", "\ufffd").replace("\0", "\ufffd")
    assert found.text.count(shown) > 12
    assert "\x1b" not in found.source
    assert "\0" not in found.source
    assert "<" not in found.scripts[0]
    assert shown in json.dumps(json.loads(found.scripts[0]), ensure_ascii=False).replace(r"\"", '"')


def test_ids_that_we_did_not_make_are_no_links(path):
    bad = ["../../etc", "javascript:alert(1)", "a/b", 'x" onclick="y']
    text = (path / "cells.jsonl").read_text()
    cells = [json.loads(line)["id"] for line in text.splitlines()]
    for cell, name in zip(cells, bad):
        text = text.replace(json.dumps(cell), json.dumps(name))
    (path / "cells.jsonl").write_text(text)
    assert not [a for a in written(path).all("a") if any(b in a["href"] for b in bad)]


def test_what_is_not_finite_is_shown_as_such(tmp_path):
    def rows(point, seed):
        return [row("loss", [math.nan, math.inf, 1.5][seed])]

    found = written(make(tmp_path / "demo" / "x", rows=rows))
    assert "NaN" in found.text
    assert "∞" in found.text
    assert "6 of 6 means are not finite (not drawn)" in found.text
    (values,) = [c for c in json.loads(found.scripts[0])["sweep"]["columns"] if c["name"] == "loss"]
    assert values["levels"] == ["nan", "inf", 1.5]


def test_an_unfinished_sweep_says_so(tmp_path):
    path = make(tmp_path / "demo" / "x", missing=[0, 5], failed=[1])
    found = written(path)
    assert "<title>demo (not finished)</title>" in found.source
    for part in ("16 of 18 cells · sweep x", "1 failed", "2 of 18 cells not recorded yet",
                 "Is it? plain", "There is no answer yet", "How to continue",
                 "activjax resume . "):  # fmt: skip
        assert part in found.text, part
    nothing = written(make(tmp_path / "new" / "x", missing=range(18)))
    assert "0 of 18 cells" in nothing.text
    assert not nothing.all("img")


def test_figures_and_files_of_sweep_and_cells_are_there(path):
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    (path / "figures").mkdir()
    (path / "figures" / "all.png").write_bytes(picture)
    items = [{"kind": "figure", "name": "all", "case": None, "file": "figures/all.png",
              "caption": "Over the whole sweep"},
             {"kind": "table", "name": "t", "columns": ["a"], "rows": [[1.5]], "caption": "T"},
             {"no": "kind"}]  # fmt: skip
    write(path, "contents.json", {"items": items})
    cell = SweepFolder(path).cells[0]["id"]
    change(path, f"cells/{cell}.json", lambda r: r.update(contents=items[:1]))
    found = written(path)
    assert "Figure 1. Over the whole sweep" in found.text
    assert "Table" in found.text
    columns = {c["name"]: c for c in json.loads(found.scripts[0])["sweep"]["columns"]}
    assert columns["files"]["levels"] == [1, None]


def test_equal_folders_give_equal_bytes_and_damage_is_named(path, tmp_path):
    first = page.write(path).read_bytes()
    (path / "index.sqlite").unlink()
    assert page.write(path).read_bytes() == first
    assert page.write(shutil.copytree(path, tmp_path / "elsewhere")).read_bytes() == first
    write(path, "provenance.json", [])
    (path / "sweep.yaml").unlink()
    assert "sweep.yaml is missing" in written(path).text
    write(path, "result.json", {"status": "done"})
    with pytest.raises(StorageError, match=r"result\.json: cannot be read as a result"):
        page.write(path)
    (path / "sweep.json").write_text("[")
    with pytest.raises((StorageError, ValueError)):
        page.write(path)


def test_ten_thousand_cells_make_a_small_page(tmp_path):
    def line(i):
        rows = [row(f"quantity {k}", math.sin(i * k) / 3, baseline=1 / (i + 1)) for k in range(8)]
        point = {"width": i % 100, "learning_rate": i / 7}
        return Line(f"{i:012x}", "g", i % 5, point, "done", json.dumps({"summary": rows}))

    lines = [line(i) for i in range(10_000)]
    source = "".join(map(str, filter(None, _cell_table.cell_table(lines, []))))
    assert source.count("<tr>") == 1 + _cell_table.PLAIN
    assert "These are the first 500 of 10,000 cells" in source
    path = make(tmp_path / "demo" / "x", grid={"w": [1]})
    data = _still.still_data(SweepFolder(path), lines)
    assert len(data) + len(source) < 4e6


def test_what_there_is_no_room_for_is_named(tmp_path, monkeypatch):
    path = make(tmp_path / "demo" / "x")
    monkeypatch.setattr(_sweeps, "MOST_NUMBERS", 18 * 6)
    data = json.loads(_still.still_data(SweepFolder(path), rows(SweepFolder(path))))["sweep"]
    assert len(data["columns"]) == 6
    assert data["left_out"] == ["baseline: accuracy", "time"]


def test_curves_are_there_as_far_as_there_is_room(tmp_path, monkeypatch):
    path = make(tmp_path / "demo" / "x")
    cells = SweepFolder(path).cells
    for k, cell in enumerate(cells[:3]):
        ids = [cell["id"]]
        batch = {"id": f"{cell['group']}-0", "cells": ids, "owes": ids, "width": 1}
        write_text(path, f"groups/{cell['group']}.json", json.dumps({"batches": [batch]}))
        lines = [{"case": None, "step": s, "metrics": {"loss": [s + k]}} for s in range(1, 301)]
        write_text(path, f"batches/{batch['id']}/metrics.jsonl",
                   "".join(json.dumps(line) + "\n" for line in lines))  # fmt: skip
    data = json.loads(written(path).scripts[0])
    assert list(data["cells"]) == [cell["id"] for cell in cells[:3]]
    batch, index = data["cells"][cells[1]["id"]]
    (series,) = data["curves"][batch]["series"]
    assert index == 0
    assert 32 <= len(series["step"]) <= 64
    assert (series["lo"][0][0], series["hi"][0][-1], series["to"]) == (2.0, 301.0, 300)
    monkeypatch.setattr(_still, "MOST_KEPT", 1)
    assert len(json.loads(written(path).scripts[0])["curves"]) == 1


def write_text(path, name, text):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(text)


def test_numbers_at_the_end_of_the_range_do_not_stop_the_report(tmp_path):
    found = written(make(tmp_path / "demo" / "x", rows=lambda point, seed: [row("loss", 1e308)]))
    assert "6 of 6 means are not finite (not drawn)" in found.text


# ---- plots


def means(points, name="q", n=3):
    return [Row(name, 0.5 + i / 100, 0.4, 0.7, n, "", 0.1, "chance", point)
            for i, point in enumerate(points)]  # fmt: skip


def grid(**axes):
    points = [{}]
    for key, values in axes.items():
        points = [{**point, key: value} for point in points for value in values]
    return points


W = [8, 16, 32, 64]


@pytest.mark.parametrize(
    ("points", "kind", "x", "lines", "panels"),
    [
        (grid(w=W, a=["x", "y"]), "lines", "w", "a", None),
        (grid(a=["x", "y"], b=[1, 2], w=W), "lines", "w", "a", "b"),
        (grid(a=["x", "y"]), "lines", "a", None, None),
        (grid(w=list(range(9)), v=list(range(8))), "heat", "w", "v", None),
        (grid(w=list(range(9)), v=list(range(8)), a=["x", "y"]), "heat", "w", "v", "a"),
        ([{"w": w, "b": 1024 // w} for w in W], "lines", "w", None, None),
        ([{"w": i, "v": i * 7 % 31, "a": "xy"[i % 2]} for i in range(31)],
         "scatter", "w", "a", None),
        ([*grid(w=W, o=["sgd"], m=[0, 0.9]), *grid(w=W, o=["adam"])], "lines", "w", "o, m", None),
        (grid(w=W, flag=[True, False]), "lines", "w", "flag", None),
    ],
)  # fmt: skip
def test_axes_are_laid_out_by_what_they_are(points, kind, x, lines, panels):
    laid = _plot_layout.layout(means(points), list(points[0]))
    assert (laid.kind, laid.x.name) == (kind, x)
    assert (laid.lines and laid.lines.name) == lines
    assert (laid.panel_axis and laid.panel_axis.name) == panels
    assert _axis_plots.draw(means(points), list(points[0]))[0]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1e-4, 1e-3, 1e-2], "log"), (W, "log"), ([1, 2, 3], "linear"), ([0, 10, 20], "linear"),
        ([0, 1e-4, 1e-3, 1e-2], "ordinal"), ([-8, 8, 80], "linear"), ([1, 3], "linear"),
        (["a", "b"], "ordinal"), ([10, 20, 30, 40, 50, 60, 70, 80], "linear"),
    ],
)  # fmt: skip
def test_axes_are_logarithmic_where_the_values_are(values, scale):
    assert _plot_layout.layout(means(grid(k=values)), []).x.scale == scale


def test_no_more_plots_than_enough_and_the_rest_is_named(tmp_path):
    def rows(point, seed):
        return [row(f"quantity {k}", seed + k) for k in range(_axis_plots.MOST + 2)]

    found = written(make(tmp_path / "demo" / "x", grid={"w": [1, 2]}, rows=rows))
    assert len(found.all("img")) == _axis_plots.MOST
    assert "Not drawn, as 12 plots are enough: quantity 12, quantity 13." in found.text


def test_panels_of_two_keys_are_ordered_by_the_first():
    points = grid(w=W, a=["x", "y"], b=[True, False], c=["m", "k"])
    laid = _plot_layout.layout(means(points), ["w", "a", "b", "c"])
    assert laid.panels == ((True, "m"), (True, "k"), (False, "m"), (False, "k"))


def test_captions_say_what_is_left_out():
    rows = means(grid(w=W, a=list("abcdefghijkl"), b=list("uvwxyzrst")), n=1)
    (plot,), _ = _axis_plots.draw(rows, ["w", "a", "b"])
    assert "one seed, no intervals" in plot.caption
    assert "only the first 6 of 9 panels (b)" in plot.caption
    assert "only the first 10 of 12 lines (a)" in plot.caption
    (plot,), _ = _axis_plots.draw(means([{"w": w, "b": 1024 // w} for w in W]), ["w", "b"])
    assert "b varies along with w" in plot.caption
    assert _axis_plots.draw(means([{}]), []) == ([], [])


# ---- Chromium

PROBE = """<!DOCTYPE html><title>probe</title>
<iframe id="frame" srcdoc="{source}" width={width} height=900></iframe>
<pre id="found">nothing</pre><script>
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("load", async () => {{
  const page = document.getElementById("frame").contentDocument, root = page.documentElement;
  let box, filter;
  let heads;
  const table = "#cells-box table";
  const column = (name) => heads.findIndex((h) => h.textContent.startsWith(name));
  const values = (name) => [...page.querySelectorAll(`${{table}} tbody tr:not(.space)`)]
    .map((tr) => tr.cells[column(name)].textContent);
  const found = {{ steps: [] }};
  const note = (what, name) => found.steps.push([what, values(name).slice(0, 4),
    page.getElementById("cells-count").textContent, heads[column(name)].ariaSort]);
  const type = async (text) => {{
    filter.value = text;
    filter.dispatchEvent(new Event("input"));
    await pause(300);
  }};
  try {{
    for (let i = 0; i < 100 && !page.getElementById("cells-box"); i += 1) await pause(100);
    await pause(300);
    box = page.getElementById("cells-box");
    filter = page.getElementById("cells-filter");
    heads = [...page.querySelectorAll(`${{table}} thead th`)];
    note("start", "accuracy");
    for (let i = 0; i < 3; i += 1) {{
      heads[column("accuracy")].querySelector("button").click();
      note("click", "accuracy");
    }}
    for (const text of {filters}) {{ await type(text); note(text, "accuracy"); }}
    await type("");
    box.scrollTop = box.scrollHeight;
    box.dispatchEvent(new Event("scroll"));
    await pause(300);
    found.last = values("width").at(-1) + " " + values("seed").at(-1);
    found.lines = page.querySelectorAll(`${{table}} tbody tr:not(.space)`).length;
    found.title = page.title;
    found.scripts = page.scripts.length;
    found.width = root.clientWidth;
    found.needs = Math.max(root.scrollWidth, page.body.scrollWidth);
    found.focus = heads.slice(1).every((h) => h.querySelector("button").tabIndex === 0);
  }} catch (problem) {{ found.problem = String(problem.stack); }}
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""

FILTERS = [
    "width>=32 accuracy<0.1 state=done", "width=8", "nowhere", 'state=failed "valueerror: no"',
    "accuracy=nan", "depth=3", "width>x", "learning_rate=1e-3 seed!=0", "learning=0.01 width<32",
    "constructor=1",
]  # fmt: skip


def browse(tmp_path, *arguments):
    """Runs Chromium on a page: (stdout, log)."""
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={profile}", "--window-size=1280,2000",
         "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", *arguments],
        capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def probed(tmp_path, path, width):
    source = page.write(path).read_text("utf-8")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(source=html.escape(source), width=width,
                                  filters=json.dumps(FILTERS)), "utf-8")  # fmt: skip
    dom, log = browse(tmp_path, "--dump-dom", probe.as_uri())
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)[1]))
    assert "problem" not in found, found["problem"]
    return found


def numbered(point, seed):
    """The accuracy of a cell is its number of a hundred; one is NaN."""
    if point["width"] == 32 and seed == 1:
        return [row("accuracy", math.nan)]
    return [row("accuracy", [8, 32, 128].index(point["width"]) * 0.1 + seed / 100)]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here")
@pytest.mark.parametrize(("text", "width"), [("plain", 1280), (HOSTILE, 400)],
                         ids=["plain", "hostile"])  # fmt: skip
def test_a_click_sorts_and_words_filter(tmp_path, text, width):
    path = make(tmp_path / "demo" / "x", failed=[0], rows=numbered, text=text)
    found = probed(tmp_path, path, width)
    steps = {name: (values, count, sort) for name, values, count, sort in found["steps"]}
    assert found["steps"][0][1:3] == [
        [_numbers.MISSING, "0.0100", "0.0200", "0.0000"],
        "18 of 18 cells",
    ]
    up, down, none = (found["steps"][i][1::2] for i in (1, 2, 3))
    assert up == [["0.0000", "0.0100", "0.0100", "0.0200"], "ascending"]
    assert down == [["0.2200", "0.2200", "0.2100", "0.2100"], "descending"]
    assert none == [[_numbers.MISSING, "0.0100", "0.0200", "0.0000"], None]
    assert steps["width>=32 accuracy<0.1 state=done"][1] == "0 of 18 cells"
    assert steps["width=8"][1] == "6 of 18 cells"
    assert steps["nowhere"][:2] == ([], "0 of 18 cells")
    assert steps['state=failed "valueerror: no"'][1] == "1 of 18 cells"
    assert steps["accuracy=nan"][:2] == (["NaN", "NaN"], "2 of 18 cells")
    assert steps["depth=3"][1] == "18 of 18 cells; no column “depth”"
    assert steps["width>x"][1] == "18 of 18 cells; “x” is not a number"
    assert steps["learning_rate=1e-3 seed!=0"][1] == "6 of 18 cells"
    assert steps["learning=0.01 width<32"][1] == "3 of 18 cells"
    assert steps["constructor=1"][1] == "18 of 18 cells; no column “constructor”"
    assert found["last"] == "128 2"
    assert (found["title"], found["scripts"], found["focus"]) == ("demo", 2, True)
    assert found["needs"] <= found["width"] <= width


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here")
def test_of_thousands_of_cells_only_those_in_view_are_made(tmp_path):
    grid = {"width": list(range(40)), "learning_rate": [i / 100 for i in range(20)]}
    path = make(tmp_path / "demo" / "x", grid=grid, seeds=range(5),
                rows=lambda point, seed: [row("accuracy", point["width"] / 100)])  # fmt: skip
    found = probed(tmp_path, path, 1280)
    assert found["steps"][0][2] == "4,000 of 4,000 cells"
    assert found["last"] == "39 4"
    assert 10 < found["lines"] < 120
