"""Reading a `search:` section: what is accepted, and the exact words for what is not."""

import pytest

from activjax.runs import config
from activjax.runs.errors import ConfigError
from activjax.runs.search import plan as plans

pytest.importorskip("optuna")

GOOD = """\
experiment: drill.py
seeds: 2
search:
  objective: loss
  direction: minimize
  trials: 5
  space:
    lr: {log: [1e-3, 0.5]}
    model.size: {int: [1, 4]}
    model.scale: {uniform: [0.5, 2]}
    chunk: {choice: [5, 10]}
  prune: {metric: loss, at: [5, 10]}
"""


def load(tiny, text=GOOD, overrides=(), **options):
    (tiny / "s.yaml").write_text(text)
    return plans.load(tiny / "s.yaml", overrides, **options)


def test_a_section_is_read_whole(tiny):
    plan = load(tiny)
    assert list(plan.space) == ["lr", "model.size", "model.scale", "chunk"]
    assert plan.defaults == {"lr": 0.05, "model.size": 3, "model.scale": 1.0, "chunk": 5}
    assert plan.default_in_space
    assert (plan.settings.parallel, plan.settings.sampler, plan.settings.seed) == (1, "tpe", 0)
    assert plan.settings.prune.rule == "halving"
    cells = plan.cells({"lr": 0.1, "model.size": 2, "model.scale": 1.0, "chunk": 5})
    assert [cell.seed for cell in cells] == [0, 1]
    assert plan.cells(plan.defaults)[0].config.model.size == 3


def test_cells_have_the_ids_of_runs(tiny):
    cell = load(tiny).cells({"lr": 0.1, "model.size": 2, "model.scale": 1.0, "chunk": 5})[1]
    (tiny / "r.yaml").write_text("experiment: drill.py\nseeds: [1]\nlr: 0.1\nmodel: {size: 2}\n")
    assert config.load(tiny / "r.yaml").id == cell.id


def test_more_trials_are_the_same_search(tiny):
    plan = load(tiny)
    assert load(tiny, overrides=["search.trials=9"]).id == plan.id
    assert load(tiny, overrides=["search.seed=1"]).id != plan.id
    assert load(tiny, overrides=["seeds=3"]).id != plan.id
    assert load(tiny, exact=True).id != plan.id


LR = "{log: [1e-3, 0.5]}"
WRONG = [
    ("objective: loss\n", "objektive: loss\n",
     "s.yaml:4: search.objektive: unknown key; did you mean 'objective'?"),
    ("  trials: 5\n", "", "search: missing key 'trials'"),
    ("trials: 5", "trials: 0", "s.yaml:6: search.trials: expected a value >= 1"),
    ("minimize", "down", "s.yaml:5: search.direction: expected one of 'maximize', 'minimize'"),
    ("    lr: {log", "    lrr: {log", "s.yaml:8: search.space.lrr: unknown key; did you mean 'lr'"),
    (LR, "{lag: [1e-3, 0.5]}",
     "s.yaml:8: search.space.lr.lag: unknown distribution; did you mean 'log'?"),
    (LR, "{log: [0, 0.5]}", "search.space.lr.log: expected a low end above zero"),
    (LR, "{log: [0.5, 0.1]}", "search.space.lr.log: expected low < high"),
    (LR, "{log: [1e-3]}", "expected two numbers [low, high], got the list [0.001]"),
    (LR, "[1e-3, 0.5]", "search.space.lr: expected one of {log: [1e-4, 1e-1]}"),
    (LR, "{log: [1e-3, 2.0]}",
     "s.yaml:8: search.space.lr: at lr=2.0: expected a value > 0 and <= 1"),
    ("{int: [1, 4]}", "{int: [1, 4.5]}",
     "s.yaml:9: search.space.model.size.int: expected two integers"),
    ("{int: [1, 4]}", "{uniform: [1, 4]}", "at model.size=2.5: expected an integer"),
    ("model.size: {int", "model: {int", "'model.scale' and 'model' overlap"),
    ("{choice: [5, 10]}", "{choice: [5, 5]}", "search.space.chunk.choice: a choice is given twice"),
    ("{choice: [5, 10]}", "{choice: [5, no]}", "at chunk=\"no\": expected an integer"),
    ("at: [5, 10]", "at: [10, 5]", "at: expected ascending steps from 1, got [10, 5]"),
    ("metric: loss, ", "", "search.prune: missing key 'metric'"),
    ("metric: loss, ", "metric: loss, rule: half, ", "search.prune.rule: expected one of"),
    ("search:\n", "sweep: {grid: {lr: [0.1]}}\nsearch:\n", "either a sweep or a search"),
    ("search:\n", "serch:\n", "s.yaml: search: expected a mapping with objective"),
    ("drill.py", "regression.py", "search.prune: expected an experiment with setup"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_told_with_its_place(tiny, old, new, said):
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if new == "regression.py":
        text = text.replace(
            "    model.size: {int: [1, 4]}\n    model.scale: {uniform: [0.5, 2]}\n", ""
        )
    with pytest.raises(ConfigError) as error:
        load(tiny, text)
    assert said in str(error.value)


def test_other_commands_say_what_to_do(tiny):
    (tiny / "s.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match="describes a search: start it with `activjax search`"):
        config.load(tiny / "s.yaml")
    (tiny / "r.yaml").write_text("experiment: drill.py\n")
    with pytest.raises(ConfigError, match="a `search:` section says what"):
        plans.load(tiny / "r.yaml")


def test_a_missing_package_is_told_before_any_work(tiny, monkeypatch):
    monkeypatch.setattr(plans.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'the package optuna is not .* "activjax\[search\]"'):
        load(tiny)
