"""The report: what it says, that it is one harmless file, and that Chromium shows it whole."""

import html
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_folder import HOSTILE, change, make, png, row, write

from activjax import runs
from activjax.runs import _curves, _numbers, _summary, report
from activjax.runs.result import Row
from activjax.runs.store import RunFolder

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(HTMLParser):
    """A parsed report: elements with their attributes, the text, what is not closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = Path(path).read_text("utf-8")
        self.elements, self.open, self.texts = [], [], []
        self.feed(self.source)
        self.close()
        assert not self.open, self.open
        self.text = re.sub(r"\s+", " ", "".join(self.texts))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "demo" / "0123456789ab")


def written(folder):
    return Page(report.write(folder))


def plain(text):
    """Text without the typographic signs that look like letters."""
    for sign, letters in ((_numbers.TIMES, "x"), (_numbers.MINUS, "-"), (_numbers.MISSING, "none")):
        text = text.replace(sign, letters)
    return text


def test_everything_a_run_has_is_in_its_report(folder):
    change(folder, "result.json", lambda r: r.update(warnings=["metric 'loss' is not finite"]))
    page = written(folder)
    for text in (
        "demo", "Is it? plain", "It is: 0.54", "accuracy", "0.540", "[0.520, 0.560]", "chance",
        "3.14", "no interval", "Figure 1.", "About the first", "Figure 2, w8.", "Figure 3.",
        "0.12", "weights", "2 x 3", "note: plain", "0123456789ab", "f" * 64, "c" * 40,
        "with uncommitted changes", "jax 0.10.2", "2 x cpu (plain)", "2 min 5 s", "2.00 GiB",
        "once", "killed", "activjax run config.yaml", "metric 'loss' is not finite",
    ):  # fmt: skip
        assert text in plain(page.text), text
    assert page.text.index("1 warning") < page.text.index("Is it?")


def test_it_is_a_well_formed_accessible_document(folder):
    page = written(folder)
    assert page.source.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>demo</title>" in page.source
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    anchors = {a["id"] for _, a in page.elements if "id" in a}
    assert {a["href"] for a in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    assert all(image["alt"] and image["width"] for image in page.all("img"))
    assert all(cell.get("scope") for cell in page.all("th"))


def test_nothing_is_loaded_and_nothing_is_run(folder):
    page = written(folder)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster", "style"):
                assert value.startswith(("data:image/png;base64,", "#"))
    assert len(page.all("img")) == 3
    style = page.source.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert "default-src 'none'" in policy[0]


def test_a_text_keeps_its_lines_and_shows_what_cannot_be_seen(folder):
    page = written(folder)
    assert "def f():\n\treturn 1\\x00 # plain</pre>" in page.source
    assert "Text 1. a sample" in plain(page.text)


@pytest.mark.parametrize("state", ["done", "failed"])
def test_hostile_text_stays_text(tmp_path, state):
    plain = written(make(tmp_path / "a" / "b", state=state))
    page = written(make(tmp_path / "c" / "d", text=HOSTILE, state=state))
    change(tmp_path / "c" / "d", "provenance.json", lambda p: p.update(name=HOSTILE))
    named = written(tmp_path / "c" / "d")
    shown = HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert named.text.count(shown) > page.text.count(shown) > (8 if state == "done" else 3)
    assert "\x1b" not in page.source
    tags = [tag for tag, _ in plain.elements]
    assert [tag for tag, _ in page.elements] == tags
    assert [tag for tag, _ in named.elements] == tags


def test_equal_folders_give_equal_bytes(folder, tmp_path):
    first = report.write(folder).read_bytes()
    assert report.write(folder).read_bytes() == first
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert report.write(moved).read_bytes() == first
    assert not list(folder.glob(".*tmp"))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (Path.unlink, "the file figures/first.png is missing"),
        (lambda path: path.write_bytes(b"<html>"), "is not a whole PNG"),
        (lambda path: path.write_bytes(png()[:-20]), "is not a whole PNG"),
    ],
)
def test_a_figure_that_cannot_be_shown_leaves_a_note(folder, damage, problem):
    damage(folder / "figures" / "first.png")
    page = written(folder)
    assert problem in page.text
    assert "About the first" in page.text
    assert len(page.all("img")) == 2


def test_a_figure_outside_the_folder_is_not_shown(folder):
    (folder.parent / "secret.png").write_bytes(png())
    change(folder, "contents.json", lambda c: c["items"][0].update(file="../secret.png"))
    assert "lies outside the run's folder" in written(folder).text


@pytest.mark.parametrize(
    ("state", "says"),
    [("failed", "This run failed"), ("interrupted", "This run is not finished")],
)
def test_an_unfinished_run_says_so(tmp_path, state, says):
    page = written(make(tmp_path / "demo" / "x", state=state))
    assert f"<title>demo ({state})</title>" in page.source
    assert says in page.text
    assert "There is no result" in page.text
    assert "activjax run config.yaml --out ../.." in page.text
    assert "Question and answer" not in page.text
    assert ("Traceback: plain" in page.text) == (state == "failed")


def test_a_run_that_goes_on_says_so(tmp_path):
    folder = RunFolder(make(tmp_path / "demo" / "x", state="running"))
    with folder.lock():
        assert "still going on" in written(folder.path).text


def test_a_bare_folder_and_a_damaged_one_are_reported(tmp_path):
    bare = tmp_path / "demo" / "x"
    bare.mkdir(parents=True)
    page = written(bare)
    assert "config.yaml is missing" in page.text
    (bare / "config.yaml").write_text("a: [1\n\xff")
    (bare / "provenance.json").write_text("[]")
    (bare / "metrics.jsonl").write_text('{"case": null, "st\n[1]\n{"case":1,"step":1,"metrics":{}}')
    assert "a: [1" in written(bare).text
    write(bare, "result.json", {"status": "done", "summary": [{"name": "x"}]})
    with pytest.raises(runs.StorageError, match=r"result\.json: cannot be read as a result"):
        report.write(bare)


def test_what_is_not_finite_is_shown_as_such(tmp_path):
    odd = row("loss", 1.0) | {"value": None, "low": None, "high": None, "flag": {"value": "nan"}}
    page = written(make(tmp_path / "demo" / "x", rows=[odd]))
    assert "not finite in the summary: loss" in page.text
    assert "NaN" in page.text


def rows(*settings, **more):
    return [Row("accuracy", 0.5, 0.4, 0.6, 5, "", 0.45, "chance", {**s, **more}) for s in settings]


def test_rows_are_laid_out_by_the_setting_that_varies():
    layers = [r for i in (0, 1) for r in rows({"width": 32}, {"width": 8}, layer=i)]
    alone = Row("other", 1.0, None, None, 1, "", None, "none")
    pivot, rest = _summary.arrange([*layers, alone])
    assert (pivot.key, pivot.columns, pivot.others) == ("width", [8, 32], ["layer"])
    assert [[r.where["layer"] for r in line] for line in pivot.lines] == [[0, 0], [1, 1]]
    assert rest == [alone]


@pytest.mark.parametrize(
    "given",
    [
        rows({}),
        rows({"w": 1}, {"w": 1}),  # two numbers for one cell
        rows(*({"w": i} for i in range(7))),  # too many columns
        rows({"w": 1}),
    ],
)
def test_other_rows_are_listed(given):
    assert _summary.arrange(given) == (None, given)


def test_every_number_of_thirty_rows_is_in_the_tables(tmp_path):
    many = [row(f"q{i}", i + w / 100, width=w) for w in (8, 32, 64) for i in range(10)]
    page = written(make(tmp_path / "demo" / "x", rows=many))
    exact = {attributes["value"] for attributes in page.all("data")}
    assert {repr(r["value"]) for r in many} <= exact


def test_a_baseline_inside_the_interval_is_marked(tmp_path):
    marked = make(tmp_path / "a" / "x", rows=[row("q", 0.5, baseline=0.51)])
    clear = make(tmp_path / "b" / "x", rows=[row("q", 0.5, baseline=0.53)])
    assert "†0.51" in written(marked).text
    assert "†" not in written(clear).text


@pytest.mark.parametrize(
    ("values", "halves", "shown"),
    [
        ([0.54844, 0.1], [0.0247], ["0.548", "0.100"]),
        ([0.98671], [0.0012], ["0.9867"]),
        ([1347.0, 82.0], [], ["1347", "82"]),
        ([1234.567], [3.4], ["1235"]),
        ([3.14159, None], [], ["3.14", "none"]),
        ([1.5e-7, 2e-9], [], ["1.5 x 10⁻⁷", "2 x 10⁻⁹"]),
        ([-0.5, 1e-9, -0.0], [0.02], ["-0.500", "1 x 10⁻⁹", "0.000"]),
        ([float("nan"), float("-inf")], [], ["NaN", "-∞"]),
        ([0.0], [0.0], ["0"]),
    ],
)
def test_numbers_have_the_digits_their_intervals_support(values, halves, shown):
    places = _numbers.decimals(values, halves)
    assert [plain(_numbers.number(v, places)) for v in values] == shown


def test_columns_of_tables_keep_their_digits():
    def column(*values):
        return [plain(text) for text in _numbers.column(values)]

    assert column(0.5, 12.25, None, True) == ["0.50", "12.25", "none", "yes"]
    assert column(1e-5, 12.25) == ["1 x 10⁻⁵", "12.25"]
    assert column(-3, 12, "x") == ["-3", "12", "x"]


def test_a_run_ends_with_a_report_and_its_command_finds_the_same_run(tiny, tmp_path):
    folder = runs.run(tiny / "regression.yaml", out=tmp_path / "runs", progress=False)
    page = Page(folder.report)
    assert "Does SGD fit lines?" in page.text
    assert len(page.all("img")) == 3  # two figures and the training curves
    again = runs.run(folder.path / "config.yaml", out=tmp_path / "again", progress=False)
    assert again.id == folder.id
    assert again.read_json("result.json") == folder.read_json("result.json")


def test_a_report_that_fails_does_not_lose_the_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "_render", lambda run: 1 / 0)
    folder = runs.run(tiny / "average.yaml", out=tmp_path / "runs", progress=False)
    assert folder.state() == "done"
    assert "the report could not be written: ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    runs.run(tiny / "average.yaml", out=tmp_path / "runs", progress=False)  # made good
    assert "Is it a half?" in Page(folder.report).text


def test_long_and_wide_histories_are_thinned_and_say_so(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.touch()
    assert _curves.draw(path) is None
    metrics = {f"m{i}": [i + 1.0] for i in range(8)}
    lines = [
        json.dumps({"case": f"c{case}", "step": step, "metrics": metrics}) + "\n"
        for case in range(16)
        for step in range(1, 402)
    ]
    path.write_text("".join(lines))
    caption = _curves.draw(path).caption
    for text in ("up to 3 steps", "Not drawn: m6, m7", "the first 14 of 16 cases"):
        assert text in caption
    assert "95 %" not in caption  # one seed


def test_nothing_is_plotted_before_there_is_something_to_plot():
    code = "import sys, activjax.runs.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PROBE = """<!DOCTYPE html><title>probe</title>{frames}<pre id="found">nothing</pre><script>
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    return {{
      width: root.clientWidth, needs: Math.max(root.scrollWidth, page.body.scrollWidth),
      images: [...page.images].map((image) => image.complete && image.naturalWidth),
      title: page.title, scripts: page.scripts.length,
      sticking: [...page.querySelectorAll("body *")].filter((e) =>
        e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest(".scroll, .plot, pre"))
        .map((e) => e.tagName),
    }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here")
@pytest.mark.parametrize("text", ["plain", HOSTILE], ids=["plain", "hostile"])
def test_chromium_shows_it_whole(tmp_path, text):
    folder = make(tmp_path / "demo" / "x", text=text)
    source = report.write(folder).read_text("utf-8")
    frames = [
        f'<iframe srcdoc="{html.escape(source)}" width={width} height=600></iframe>'
        for width in (400, 1280)
    ]
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(frames="".join(frames)), "utf-8")

    dom, _ = browse(tmp_path, "--dump-dom", probe.as_uri())
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)[1]))
    assert len(found) == 2
    for page in found:
        assert page["images"] == [1500, 300, page["images"][2]]
        assert page["images"][2] > 500
        assert page["needs"] <= page["width"] <= 1280
        assert page["sticking"] == []
        assert (page["title"], page["scripts"]) == ("demo", 0)

    shot = tmp_path / "shot.png"
    _, log = browse(tmp_path, f"--screenshot={shot}", (folder / "report.html").as_uri())
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


def browse(tmp_path, *arguments):
    """Runs Chromium on a page: (stdout, log)."""
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={profile}", "--window-size=1280,2000",
         "--enable-logging=stderr", "--v=0", *arguments],
        capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr
