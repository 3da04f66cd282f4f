"""From a config with a `sweep:` section to cells and groups; every mistake has a place."""

import dataclasses

import pytest

from activjax.runs import config
from activjax.runs.errors import ConfigError
from activjax.runs.sweep import plan


@pytest.fixture
def write(tiny):
    """Writes a config for drill.py and returns its path."""

    def write(text, name="s.yaml"):
        path = tiny / name
        path.write_text(f"experiment: drill.py\n{text}")
        return path

    return write


GRID = """
seeds: [3, 1]
sweep:
  grid:
    model.size: [2, 4]
    lr: {from: 0.01, to: 0.04, factor: 2}
"""


def test_cells_are_the_points_with_every_seed(write):
    found = plan.load(write(GRID))
    assert len(found.cells) == 2 * 3 * 2
    assert [c.seed for c in found.cells[:4]] == [3, 1, 3, 1]
    first = found.cells[0]
    assert first.point == {"model.size": 2, "lr": 0.01}
    assert first.config.model.size == 2
    assert first.config.lr == 0.01
    assert len({c.id for c in found.cells}) == 12
    assert found.axes() == {"model.size": [2, 4], "lr": [0.01, 0.02, 0.04]}


def test_a_cell_has_the_id_of_its_run(write):
    cell = plan.load(write(GRID)).cells[3]
    alone = config.load(write("", "alone.yaml"), ["model.size=2", "lr=0.02", "seeds=[1]"])
    assert cell.id == alone.id
    assert dataclasses.asdict(cell.config) == dataclasses.asdict(alone.config)


def test_groups_are_equal_but_for_seed_and_traced_fields(write):
    found = plan.load(write(GRID + "    model.scale: [1.0, 2.0]\n"))
    assert [len(cells) for cells in found.groups.values()] == [12, 12]
    for cells in found.groups.values():
        assert len({c.config.model.size for c in cells}) == 1


def test_the_id_depends_on_cells_and_engine_kind_only(write):
    one = plan.load(write(GRID))
    assert plan.load(write(GRID + "checkpoint_seconds: 3\n")).id == one.id
    assert plan.load(write(GRID), ["sweep.grid.lr=[0.01, 0.02, 0.04]"]).id == one.id
    assert plan.load(write(GRID), exact=True).id != one.id
    assert plan.load(write(GRID), ["steps=21"]).id != one.id


def test_without_axes_the_cells_are_the_seeds(write):
    assert [c.point for c in plan.load(write("seeds: 3")).cells] == [{}, {}, {}]


def test_equal_cells_are_merged(write):
    found = plan.load(write("sweep: {grid: {lr: [0.5, 0.50]}}"))
    assert (len(found.cells), found.merged) == (1, 1)
    # 1 and 1.0 are two values for a list, and one for a float field
    found = plan.load(write("seeds: 2\nsweep: {list: [{lr: 1}, {lr: 1.0}, {lr: 0.1}]}"))
    assert (len(found.cells), found.merged) == (4, 2)


def test_conditions_see_defaults(write):
    text = "sweep: {grid: {lr: [0.1, 0.2]}, when: [{if: {steps: 20}, grid: {chunk: [2, 4]}}]}"
    assert len(plan.load(write(text)).cells) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: {grid: {lrr: [1]}}", ":2: sweep.grid.lrr: unknown key; did you mean 'lr'?"),
        (
            "sweep:\n  grid:\n    lr: [0.1, 7.0]",
            ":4: sweep.grid.lr: lr: expected a value > 0 and <= 1",
        ),
        ("sweep:\n  grid:\n    lr: [fast]", ":4: sweep.grid.lr: lr: expected a number"),
        (
            "sweep:\n  grid:\n    model.size: [2, 0]",
            ":4: sweep.grid.model.size: model.size: expected",
        ),
        ("sweep: {grid: {steps: [12, 13]}}", "13 steps bring bad luck (at steps=13)"),
        ("stepz: 3\nsweep: {grid: {lr: [0.1]}}", "unknown key; did you mean 'steps'?"),
        ("sweep: {grid: {lr.x: [1]}}", "lr"),
        ("sweep: {grid: {seeds: [1]}}", "seeds are given beside `sweep`"),
        ("seeds: 2000\nsweep: {random: {draws: 2000, bad: {uniform: [0, 1]}}}", "1000000"),
    ],
)
def test_mistakes(write, text, message):
    with pytest.raises(ConfigError) as caught:
        plan.load(write(text))
    assert message in str(caught.value).replace("1_000_000", "1000000")


def test_a_bad_axis_is_told_once(write):
    text = "seeds: 5\nsweep:\n  grid:\n    lr: [7.0]\n    bad: {from: 0, to: 1, linear: 50}"
    with pytest.raises(ConfigError) as caught:
        plan.load(write(text))
    assert str(caught.value).count("\n") == 0


def test_run_refuses_a_sweep(write):
    with pytest.raises(ConfigError, match="start it with `activjax sweep`"):
        config.load(write(GRID))


def test_configs_are_frozen_copies(write):
    found = plan.load(write("sweep: {grid: {model.size: [2, 4]}}"))
    assert [c.config.model.size for c in found.cells] == [2, 4]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.cells[0].config.lr = 1.0
