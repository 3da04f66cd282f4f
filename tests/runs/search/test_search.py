"""Searches: what is suggested, pruned, told and concluded, and that no kill changes any of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from activjax import cli
from activjax.runs import search, trackers
from activjax.runs.errors import ConfigError, ExperimentError, LockedError, Stopped
from activjax.runs.search import journal as journals, launch, plan as plans, study as studies
from activjax.runs.sweep import Options, index
from activjax.runs.sweep.folder import SweepFolder

pytest.importorskip("optuna")

TINY = Path(__file__).parents[1] / "tiny"

PLAIN = """\
experiment: average.py
seeds: 2
search:
  objective: mean
  direction: maximize
  trials: 7
  space: {n: {int: [2, 200]}}
  parallel: 3
"""

PRUNED = """\
experiment: drill.py
seeds: 2
steps: 20
chunk: 5
search:
  objective: loss
  direction: minimize
  trials: 6
  space: {lr: {log: [1e-3, 0.3]}, model.scale: {uniform: [0.1, 2]}}
  sampler: random
  prune: {metric: loss, at: [5, 8]}
  parallel: 3
"""


@pytest.fixture
def look(tiny, tmp_path):
    """Runs a search in this process; `name` is of its folder of runs."""

    def run(text, *overrides, name="runs", **options):
        (tiny / "s.yaml").write_text(text)
        return search.run(
            tiny / "s.yaml", overrides, out=tmp_path / name, options=Options("inline"),
            progress=False, **options,
        )  # fmt: skip

    run.root = tmp_path / "runs"
    return run


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A finished search with pruning; not to be changed."""
    tiny = shutil.copytree(TINY, tmp_path_factory.mktemp("tiny") / "tiny")
    (tiny / "s.yaml").write_text(PRUNED)
    root = tmp_path_factory.mktemp("runs")
    return search.run(tiny / "s.yaml", out=root, options=Options("inline"), progress=False)


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports are tested elsewhere, and take their time."""
    from activjax.runs.search import conclude
    from activjax.runs.sweep import page

    monkeypatch.setattr(page, "write", lambda folder: None)
    monkeypatch.setattr(conclude, "_history", lambda *arguments: None)


def events(folder):
    return journals.Journal(folder.path).events


def told(folder):
    return {e["told"]: (e["state"], e["value"]) for e in events(folder) if "told" in e}


def points(folder):
    return [e["point"] for e in events(folder) if "asked" in e]


def numbers(folder):
    """Everything that must not depend on kills: the journal, the records but how they were run."""
    found = {c["id"]: {**folder.record(c["id"]), "run": None} for c in folder.cells}
    files = ("trials.jsonl", "result.json", "cells.jsonl", "contents.json")
    return found, [(folder.path / name).read_bytes() for name in files]


def test_a_search_finds_the_best_of_its_trials(look):
    folder = look(PLAIN)
    states = told(folder)
    assert list(states) == list(range(7))
    assert points(folder)[0] == {"n": 10}  # the config's defaults
    means = {}
    for line in index.rows(folder):
        means.setdefault(line.point["n"], []).append(line.summary[0].value)
    assert all(len(values) == 2 for values in means.values())
    for number, point in enumerate(points(folder)):
        assert states[number] == ("complete", np.mean(means[point["n"]]))
    best = max(value for _, value in states.values())
    rows = folder.result().summary
    assert rows[0].name == "best mean"
    assert (rows[0].value, rows[0].n, rows[0].baseline) == (best, 2, 0.5)
    assert rows[0].low < best < rows[0].high
    assert rows[0].where == {"n": points(folder)[[v for _, v in states.values()].index(best)]["n"]}
    assert (rows[1].baseline, rows[1].value) == (states[0][1], best)
    assert [(row.name, row.value) for row in rows[2:]] == [
        ("trials", len(means)), ("pruned", 0), ("failed", 0),
    ]  # fmt: skip
    assert {p["n"] for p in points(folder)[1:]} != {10}
    items = {item["name"]: item for item in folder.read_json("contents.json")["items"]}
    assert (folder.path / items["history"]["file"]).read_bytes().startswith(b"\x89PNG")
    assert len(items["trials"]["rows"]) == 7
    before = numbers(folder)
    assert numbers(look(PLAIN)) == before


@pytest.mark.usefixtures("no_pictures")
def test_a_round_shares_one_program(look):
    text = PRUNED.replace("  prune: {metric: loss, at: [5, 8]}\n", "")
    folder = look(text, "search.trials=3", "search.sampler=tpe")
    (path,) = folder.path.glob("groups/*.json")
    (batch,) = json.loads(path.read_text())["batches"]
    assert len(batch["cells"]) == batch["width"] == 6
    assert all(state == "complete" for state, _ in told(folder).values())


def test_rungs_change_no_bit(look, pruned):
    text = PRUNED.replace("  prune: {metric: loss, at: [5, 8]}\n", "")
    whole = look(text.replace("parallel: 3", "parallel: 1"))
    assert points(pruned) == points(whole)
    done = [line for line in index.rows(pruned) if line.state == "done"]
    assert 0 < len(done) < 12
    for line in done:  # the same program of two cells, once with two pauses on the way
        a, b = pruned.record(line.id), whole.record(line.id)
        assert {**a, "run": None} == {**b, "run": None}
        w = [
            (f.path / "cells" / line.id / "arrays" / "w.npy").read_bytes() for f in (pruned, whole)
        ]
        assert w[0] == w[1]
    reports = [e for e in events(pruned) if "reported" in e]
    assert {e["rung"] for e in reports} == {0, 1}
    for (
        event
    ) in reports:  # the mean over seeds at the very step, though the pause is at a chunk's end
        step = (5, 8)[event["rung"]]
        cells = [c for c in whole.cells if c["point"] == points(whole)[event["reported"]]]
        assert event["value"] == np.mean([metric(whole, c["id"], step) for c in cells])


def metric(folder, cell, step):
    for path in folder.path.glob("groups/*.json"):
        for batch in json.loads(path.read_text())["batches"]:
            if cell in batch["cells"]:
                text = (folder.path / "batches" / batch["id"] / "metrics.jsonl").read_text()
                found = [json.loads(line) for line in text.splitlines()]
                value = next(f["metrics"]["loss"] for f in found if f["step"] == step)
                return value[batch["cells"].index(cell)]
    raise KeyError(cell)


def test_pruned_cells_are_known_everywhere(pruned, tmp_path, capsys):
    folder = SweepFolder(shutil.copytree(pruned.path, tmp_path / "runs" / "s" / pruned.id))
    states = [state for state, _ in told(folder).values()]
    assert "pruned" in states
    count = index.counts(index.rows(folder))
    assert count["pruned"] == 2 * states.count("pruned")
    assert count["pruned"] + count["done"] == 12
    gone = next(line for line in index.rows(folder) if line.state == "pruned")
    record = folder.record(gone.id)
    assert record["pruned"]["why"] == "halving"
    assert record["pruned"]["step"] in (5, 8)
    assert record["config"]["lr"] == gone.point["lr"]
    assert not list(folder.path.glob(f"batches/*{gone.id}*"))
    root = str(tmp_path / "runs")
    for command in (["ls"], ["ls", "s"], ["show", "s"], ["show", f"s/{gone.id}"], ["report", "s"],
                    ["compare", "s", "s"], ["export", "s", str(tmp_path / "t.csv")]):  # fmt: skip
        assert cli.main([*command, "--out", root]) == 0, command
    shown = capsys.readouterr().out
    assert "pruned" in shown
    assert "cells were pruned and are left out" in shown
    table = (tmp_path / "t.csv").read_text().splitlines()
    assert "pruned at step" in table[0]
    assert len(table) == 13
    page = (folder.path / "report.html").read_text()
    assert "activjax search sweep.yaml" in page
    assert f"{count['pruned']} pruned" in page


class Killed(BaseException):
    """Not caught by anybody, as a kill is not."""


def kill_at(monkeypatch, number, *, before):
    """The `number`-th event of the journal is the last thing that happens, or not even that."""
    add, count = journals.Journal.add, [0]

    def counted(self, event):
        count[0] += 1
        if count[0] == number and before:
            raise Killed
        add(self, event)
        if count[0] == number:
            raise Killed

    monkeypatch.setattr(journals.Journal, "add", counted)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_kill_at_any_event_changes_nothing(look, monkeypatch, parallel):
    text = PLAIN.replace("parallel: 3", f"parallel: {parallel}").replace("trials: 7", "trials: 12")
    whole = look(text, name="whole")
    assert len({json.dumps(p) for p in points(whole)}) > 6
    wanted, total = numbers(whole), len(events(whole))
    assert total == 24
    for number in range(1, total, 5):
        with monkeypatch.context() as patch:
            kill_at(patch, number, before=bool(number % 2))
            with pytest.raises(Killed):
                look(text, name=f"killed-{number}")
        assert numbers(look(text, name=f"killed-{number}")) == wanted


@pytest.mark.slow
def test_a_kill_between_rungs_changes_nothing(look, monkeypatch):
    whole = look(PRUNED, "search.trials=3", "search.sampler=tpe", name="whole")
    kinds = [next(iter(event)) for event in events(whole)]
    wanted = numbers(whole)
    numbers_to_try = {kinds.index("reported") + 2, kinds.index("decided") + 2, kinds.index("told")}
    for number in sorted(numbers_to_try):
        with monkeypatch.context() as patch:
            kill_at(patch, number, before=False)
            with pytest.raises(Killed):
                look(PRUNED, "search.trials=3", "search.sampler=tpe", name=f"killed-{number}")
        folder = look(PRUNED, "search.trials=3", "search.sampler=tpe", name=f"killed-{number}")
        assert numbers(folder) == wanted


@pytest.mark.usefixtures("no_pictures")
def test_more_trials_go_on(look):
    first = look(PLAIN, "search.trials=3")
    asked = points(first)
    more = look(PLAIN, "search.trials=6")
    assert more.path == first.path
    assert numbers(more) == numbers(look(PLAIN, "search.trials=6", name="at-once"))
    assert points(more)[:3] == asked


def write_average(tiny, body):
    """Let `average.py` do something before its work."""
    source = (tiny / "average.py").read_text()
    (tiny / "average.py").write_text(source.replace('    out.log("sampling")\n', body))


@pytest.mark.usefixtures("no_pictures")
def test_failed_trials_do_not_end_the_search(look, tiny):
    body = "    if config.n % 2 and 1 in out.seeds:\n        raise RuntimeError('odd')\n"
    write_average(tiny, body)
    folder = look(PLAIN)
    states = told(folder)
    for number, point in enumerate(points(folder)):
        assert states[number][0] == ("failed" if point["n"] % 2 else "complete")
    bad = sum(state == "failed" for state, _ in states.values())
    assert 0 < bad < 7
    assert folder.read_json("result.json")["warnings"] == [f"{bad} of 7 trials failed"]
    assert folder.result().summary[4].value == bad
    write_average(tiny, "")
    (tiny / "average.py").write_text((tiny / "average.py").read_text().replace("% 2 and", "and"))
    with pytest.raises(ExperimentError, match=r"no trial came to its end: RuntimeError: odd"):
        look(PLAIN)


def test_a_seed_that_fails_at_a_rung_fails_its_trial(look, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 4, before=True)
        with pytest.raises(Killed):
            look(PRUNED, "search.trials=3")  # three are asked and trained to the first rung
    (path,) = (tmp for tmp in look.root.glob("s/*"))
    folder = SweepFolder(path)
    first, second = (c["id"] for c in folder.cells if c["point"]["lr"] == 0.05)
    error = {"kind": "crash", "message": "unlucky", "traceback": None, "checkpoint": None}
    record = {"id": first, "status": "failed", "error": error, "run": {}}
    folder.record_path(first).parent.mkdir()
    folder.record_path(first).write_text(json.dumps(record))
    folder = look(PRUNED, "search.trials=3")
    assert told(folder)[0] == ("failed", None)
    assert folder.record(second)["pruned"]["why"] == "another seed of this trial failed"
    assert "complete" in {state for state, _ in told(folder).values()}
    assert not [e for e in events(folder) if e.get("reported") == 0]


@pytest.mark.usefixtures("no_pictures")
def test_a_point_that_no_config_has_fails_alone(look, tiny):
    source = (tiny / "average.py").read_text()
    check = (
        "    def __post_init__(self):\n        if self.n == 3:\n            raise ValueError('3')\n"
    )
    field = "sleep: float = 0.0\n"
    (tiny / "average.py").write_text(source.replace(field, f"{field}\n{check}"))
    folder = look(PLAIN.replace("[2, 200]", "[1, 4]"), "search.trials=12")
    states = told(folder)
    bad = [n for n, point in enumerate(points(folder)) if point["n"] == 3]
    assert bad
    assert all(states[n] == ("failed", None) for n in bad)
    assert sum(state == "complete" for state, _ in states.values()) == 12 - len(bad)
    assert points(folder)[0]["n"] == 10  # the default, outside the space: the sampler is not told


@pytest.mark.usefixtures("no_pictures")
def test_equal_points_are_trained_once(look):
    text = PRUNED.replace("space: {lr: {log: [1e-3, 0.3]}, model.scale: {uniform: [0.1, 2]}}",
                          "space: {lr: {choice: [0.05, 0.1]}}")  # fmt: skip
    folder = look(text)
    assert len(folder.cells) == 4
    assert folder.result().summary[2].value == 2
    by_point = {}
    for number, point in enumerate(points(folder)):
        by_point.setdefault(point["lr"], set()).add(told(folder)[number])
    assert all(len(found) == 1 for found in by_point.values())


def test_wrong_names_are_told_with_those_there_are(look):
    with pytest.raises(ConfigError, match=r"no row 'men'; did you mean 'mean'\? \(rows: mean\)"):
        look(PLAIN.replace("objective: mean", "objective: men"), "search.trials=1")
    with pytest.raises(ConfigError, match=r"search.where: 0 rows 'mean' have"):
        look(PLAIN.replace("maximize\n", "maximize\n  where: {part: x}\n"), "search.trials=1")
    with pytest.raises(ConfigError, match=r"no metric 'lass'; did you mean 'loss'"):
        look(PRUNED.replace("metric: loss", "metric: lass"), "search.trials=1")


def test_a_sampler_that_says_something_else_is_overruled(look):
    folder = look(PLAIN, "search.trials=3")
    said = []
    path = folder.path / "trials.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["point"]["n"] += 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = plans.load(folder.path / "sweep.yaml")
    study = studies.rebuilt(plan, journals.Journal(folder.path).events, said.append)
    assert len(said) == 1
    assert "another version of Optuna" in said[0]
    assert [t.params["n"] for t in study._study.trials] == [
        line["point"]["n"] for line in lines if "asked" in line
    ]


@pytest.mark.usefixtures("no_pictures")
def test_a_stop_is_continued_and_two_do_not_work_at_once(look, monkeypatch):
    seen = []

    def stopping(plan, folder, options, watch, stop):
        seen.append(folder)
        with pytest.raises(LockedError):
            look(PLAIN)
        raise launch.Stopping

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_trials", stopping)
        with pytest.raises(Stopped, match="0 of 7 trials told"):
            look(PLAIN)
    (folder,) = seen
    done = search.resume(folder.path, progress=False)
    assert numbers(done) == numbers(look(PLAIN, name="whole"))
    assert cli.main(["resume", str(folder.path), "--retry-failed"]) == 2


def test_rules_prune_as_they_say(tiny):
    def decided(rule, values, done=()):
        (tiny / "s.yaml").write_text(PRUNED.replace("at: [5, 8]", f"at: [5, 8], rule: {rule}"))
        plan = plans.load(tiny / "s.yaml", ["search.prune.startup=2"])
        study = studies.Study(plan)
        number = 0
        for value in done:
            study.ask(number)
            study.report(number, 0, value)
            study.tell(number, "complete", value)
            number += 1
        out = []
        for value in values:
            study.ask(number)
            study.report(number, 0, value)
            out.append(study.prunes(number, value))
            number += 1
        return out

    assert decided("median", [0.5, 2.5, float("nan")], done=[1.0, 2.0, 3.0]) == [False, True, True]
    assert decided("median", [9.0], done=[1.0]) == [False]  # too few to compare with
    assert decided("halving", [2.0, 3.0, 1.0, 2.5]) == [False, True, False, True]


def test_a_tracker_follows_a_search(pruned, tmp_path):
    folder = SweepFolder(shutil.copytree(pruned.path, tmp_path / "runs" / "s" / pruned.id))
    told = []

    class Notes:
        begin = flush = metrics = summary = figures = lambda self, *a: None

        def end(self, run, status):
            told.append(status)

    with trackers.following(folder, ["fake"], pytest.fail, make=lambda *a: Notes()):
        pass
    states = [line.state for line in index.rows(folder)]
    assert sorted(told) == sorted([*states, "done"])
