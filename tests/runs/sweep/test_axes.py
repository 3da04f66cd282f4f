"""Axes of sweeps: which points they give, and the exact words for every mistake."""

import itertools
import json
import math
import re
import textwrap
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.runs import _yaml
from activjax.runs._words import dotted
from activjax.runs.sweep import axes

GUIDE = Path(__file__).parents[3] / "docs/guide/sweeps.md"
BASE = {
    "optimiser": "sgd",
    "flag": True,
    "widths": [3, 5],
    "model": {"kind": "mlp", "depth": 2},
    "steps": 1,
}
KEYS = (
    "width, depth, learning_rate, noise, batch, epochs, l2, optimiser, momentum, clip, decay, "
    "heads, act, scale, model, flag, widths, steps"
)
KNOWN = KEYS.split(", ")


def read(text, base=BASE):
    data = _yaml.read_text(textwrap.dedent(text), "c.yaml")[0] if isinstance(text, str) else text
    return axes.read(data, base, KNOWN)


def points(text, base=BASE):
    space, problems = read(text, base)
    assert problems == []
    return list(space.points)


def values(**axis):
    axis = {key.rstrip("_"): value for key, value in axis.items()}
    return [point["width"] for point in points({"grid": {"width": axis}})]


def draws(distribution, draws=20, seed=0, **others):
    own = {"draws": draws, "seed": seed, "width": distribution, **others}
    space, problems = read({"grid": {"steps": [1]}, "random": own})
    assert problems == []
    return [point["width"] for point in space.points]


def same(found, wanted):
    """Equal values of equal types."""
    assert [(type(x), x) for x in found] == [(type(x), x) for x in wanted]


# ranges


def test_ranges():
    same(
        values(from_=1e-4, to=1e-1, log=7),
        [0.0001, 0.000316227766017, 0.001, 0.00316227766017, 0.01, 0.0316227766017, 0.1],
    )
    same(values(from_=0, to=0.4, linear=5), [0.0, 0.1, 0.2, 0.3, 0.4])
    same(values(from_=16, to=64, step=16), [16, 32, 48, 64])
    same(values(from_=16, to=63, step=16), [16, 32, 48])
    same(values(from_=1, to=64, factor=2), [1, 2, 4, 8, 16, 32, 64])
    same(values(from_=1, to=63, factor=2), [1, 2, 4, 8, 16, 32])


def test_integer_ends_give_integers():
    same(values(from_=1, to=100, log=5), [1, 3, 10, 32, 100])
    same(values(from_=1, to=10, log=10), [1, 2, 3, 4, 5, 6, 8, 10])  # equal neighbours merged
    same(values(from_=1, to=10, linear=4), [1, 4, 7, 10])
    same(values(from_=1, to=8, linear=3), [1, 4, 8])
    same(values(from_=1, to=10, factor=1.5), [1, 2, 3, 5, 8])
    same(values(from_=0, to=2**60 + 1, linear=2), [0, 2**60 + 1])
    same(values(from_=1, to=2**60 + 1, log=2), [1, 2**60 + 1])
    same(values(from_=1, to=10**15 - 1, factor=10), [10**i for i in range(15)])
    same(values(from_=1, to=3**40, factor=3), [3**i for i in range(41)])


def test_one_fraction_gives_floats():
    same(values(from_=1, to=3.0, linear=3), [1.0, 2.0, 3.0])
    same(values(from_=0, to=1, step=0.25), [0.0, 0.25, 0.5, 0.75, 1.0])
    same(values(from_=1.0, to=8, factor=2), [1.0, 2.0, 4.0, 8.0])


def test_ranges_may_descend():
    same(values(from_=3, to=0, step=-1), [3, 2, 1, 0])
    same(values(from_=1.0, to=0, linear=3), [1.0, 0.5, 0.0])
    same(values(from_=0.1, to=0.001, log=3), [0.1, 0.01, 0.001])


def test_an_end_with_many_digits_is_hit():
    assert values(from_=0.1234567890123, to=0.2469135780246, factor=2)[-1] == 0.2469135780246
    assert values(from_=0.1234567890123, to=0.2469135780246, step=0.1234567890123)[1:] == [
        0.2469135780246
    ]
    third = [1 / 3, 2 / 3]
    assert values(from_=third[0], to=third[1], linear=2) == third


def test_rounding_never_hides_a_difference():
    found = values(from_=1.0, to=1.0 + 8e-12, linear=5)
    assert found == sorted(set(found))
    assert len(found) == 5
    assert np.ptp(np.diff(found)) < 1e-15
    assert values(from_=-0.3, to=0.3, linear=3) == [-0.3, 0.0, 0.3]


decimals = st.integers(-(10**6), 10**6).flatmap(
    lambda n: st.sampled_from([1, 10, 1000, 10**5]).map(lambda d: n / d)
)


@settings(max_examples=200, deadline=None)
@given(start=decimals, step=decimals.filter(bool), n=st.integers(1, 300), over=st.booleans())
def test_steps_do_not_accumulate_rounding(start, step, n, over):
    exact = [Fraction(repr(start)) + i * Fraction(repr(step)) for i in range(n + 1)]
    stop = float(exact[-1] + (Fraction(repr(step)) / 2 if over else 0))
    found = values(from_=start, to=stop, step=step)
    assert found == [float(x) for x in exact]  # the nearest to each, and `to` if it is hit


@settings(max_examples=200, deadline=None)
@given(
    start=decimals, stop=decimals, n=st.integers(2, 200), form=st.sampled_from(["linear", "log"])
)
def test_even_ranges(start, stop, n, form):
    start, stop = (start, stop) if form == "linear" else (abs(start), abs(stop))
    if start == stop or (form == "log" and not min(start, stop)):
        return
    found = values(from_=start, to=stop, **{form: n})
    assert (len(found), found[0], found[-1]) == (n, start, stop)
    assert found == sorted(found, reverse=stop < start)
    i = np.arange(n)
    if form == "linear":
        wanted = start + (stop - start) * (i / (n - 1))
    else:
        wanted = start * (stop / start) ** (i / (n - 1))
    # twelve digits, and float64's sixteen times the few operations above
    size = np.abs(found) if form == "log" else max(abs(start), abs(stop))
    assert np.all(np.abs(found - wanted) <= 6e-12 * size)
    gap = np.abs(np.diff(found)).min()
    if gap > 1e-8 * max(abs(start), abs(stop)):  # there is room for rounding
        digits = [repr(abs(x)).split("e")[0].replace(".", "").lstrip("0") for x in found[1:-1]]
        assert all(len(text) <= (13 if form == "log" else 15) for text in digits)  # with a .0


@settings(max_examples=100, deadline=None)
@given(start=st.integers(1, 1000), factor=st.integers(2, 9), n=st.integers(1, 30))
def test_factors_hit_their_end(start, factor, n):
    wanted = [start * factor**i for i in range(n + 1)]
    assert values(from_=start, to=wanted[-1], factor=factor) == wanted
    assert values(from_=start, to=wanted[-1] + 1, factor=factor) == wanted
    if wanted[-1] < 10**11:  # floats are rounded to twelve digits
        same(values(from_=float(start), to=wanted[-1], factor=factor), [float(x) for x in wanted])


# sections


def test_a_list_holds_any_values():
    found = points("grid: {width: [1, x, null, true, [1, 2], {kind: mlp}, 0.5, .inf]}")
    wanted = [1, "x", None, True, [1, 2], {"kind": "mlp"}, 0.5, math.inf]
    same([point["width"] for point in found], wanted)


def test_sections_multiply_in_order():
    found = points("""
        list: [{optimiser: sgd, momentum: 0.9}, {optimiser: adam}]
        zip: {depth: [1, 2], l2: {from: 0.1, to: 0.2, linear: 2}}
        grid: {noise: [3, 4], width: [5, 6]}
    """)
    rows = itertools.product(
        [{"noise": 3}, {"noise": 4}],
        [{"width": 5}, {"width": 6}],
        [{"depth": 1, "l2": 0.1}, {"depth": 2, "l2": 0.2}],
        [{"optimiser": "sgd", "momentum": 0.9}, {"optimiser": "adam"}],
    )
    wanted = [a | b | c | d for a, b, c, d in rows]
    assert [list(point.items()) for point in found] == [list(point.items()) for point in wanted]


names = st.permutations(["width", "depth", "model.depth", "noise", "l2", "act"])
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(names=names, grid=sizes, zipped=st.integers(0, 3), listed=st.integers(0, 3))
def test_the_number_of_points_is_a_product(names, grid, zipped, listed):
    names = iter(names)
    sweep = {"grid": {next(names): list(range(size)) for size in grid}}
    if zipped:
        sweep["zip"] = {next(names): list(range(zipped)) for _ in range(2)}
    if listed:
        sweep["list"] = [{"heads": i} for i in range(listed)]
    found = points(sweep)
    assert len(found) == math.prod(grid) * (zipped or 1) * (listed or 1)
    assert found == sorted(found, key=lambda point: [point[k] for k in found[0]])


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 5),
    m=st.integers(2, 5),
    chosen=st.sets(st.integers(0, 4), min_size=1),
    inner=st.integers(1, 4),
)
def test_when_and_except_count(n, m, chosen, inner):
    chosen = sorted(x for x in chosen if x < n) or [0]
    clause = {"if": {"width": chosen}, "grid": {"noise": list(range(inner))}}
    sweep = {"grid": {"width": list(range(n)), "depth": list(range(m))}, "when": [clause]}
    count = len(chosen) * m * inner + (n - len(chosen)) * m
    found = points(sweep)
    assert len(found) == count
    assert all(("noise" in point) == (point["width"] in chosen) for point in found)
    outer = list(dict.fromkeys((point["width"], point["depth"]) for point in found))
    assert outer == list(itertools.product(range(n), range(m)))  # the order is that of the grid
    left = points({**sweep, "except": [{"width": chosen, "depth": 0}]})
    assert left == [p for p in found if not (p["width"] in chosen and p["depth"] == 0)]


def test_when_clauses_follow_one_another_and_nest():
    found = points("""
        grid: {optimiser: [sgd, adam]}
        when:
          - if: {optimiser: sgd}
            grid: {momentum: [0, 0.9]}
            when:
              - if: {momentum: 0.9}
                zip: {noise: [1, 2], l2: [3, 4]}
                except: [{noise: 2}]
          - if: {momentum: 0}
            list: [{noise: 7}]
          - if: {optimiser: adam}           # another branch may set the same key
            grid: {momentum: [0.5]}
    """)
    assert found == [
        {"optimiser": "sgd", "momentum": 0, "noise": 7},
        {"optimiser": "sgd", "momentum": 0.9, "noise": 1, "l2": 3},
        {"optimiser": "adam", "momentum": 0.5},
    ]


def test_conditions_ask_the_point_then_the_base():
    sweep = "grid: {width: [1, 2]}\nwhen: [{if: %s, grid: {depth: [1, 2]}}]"
    for yes in (
        "{optimiser: sgd}",
        "{optimiser: [adam, sgd]}",
        "{model.depth: 2}",
        "{model.depth: 2.0}",
        "{model: {depth: 2, kind: mlp}}",  # the order of keys is none of a value
        "{flag: true}",
        "{widths.1: 5}",
        "{widths: [[3, 5]]}",
    ):
        assert len(points(sweep % yes)) == 4, yes
    # a value of the base switches a clause off without an error: an override may do so
    for no in (
        "{optimiser: adam}",
        "{flag: 1}",
        "{steps: true}",
        "{widths: [3, 5]}",
        "{optimiser: adam, width: 1}",
    ):
        assert len(points(sweep % no)) == 2, no
    whole = "grid: {model: [{kind: mlp}, {kind: cnn}]}\nwhen: [{if: {model.kind: cnn}, %s}]"
    assert len(points(whole % "grid: {width: [1, 2]}")) == 3
    only = "list: [{width: 1}, {}]\nwhen: [{if: {width: 1}, grid: {depth: [1, 2]}}]"
    assert points(only) == [{"width": 1, "depth": 1}, {"width": 1, "depth": 2}, {}]


def test_a_clause_that_is_off_says_nothing_about_what_is_in_it():
    found = points("""
        grid: {width: [1, 2]}
        when:
          - if: {optimiser: adam}
            grid: {momentum: [0, 1]}
            when: [{if: {momentum: 0}, grid: {noise: [1]}}]
            except: [{width: 1}]
    """)
    assert found == [{"width": 1}, {"width": 2}]


def test_values_match_by_type_where_it_matters():
    assert len(points("grid: {width: [1, true, 1.0, '1']}")) == 3
    assert points("grid: {width: [1, true]}\nexcept: [{width: true}]") == [{"width": 1}]
    assert points("grid: {width: [1.0, true]}\nexcept: [{width: 1}]") == [{"width": True}]
    assert points("grid: {width: [[1], [true]]}\nexcept: [{width: [[1.0]]}]") == [{"width": [True]}]
    assert points("grid: {width: [null, 0]}\nexcept: [{width: null}]") == [{"width": 0}]


def test_equal_points_are_merged():
    space, _ = read("""
        - grid: {width: [1, 2, 1]}
        - list: [{width: 2.0}, {depth: 1, width: 1}, {width: 1, depth: 1}, {width: [1]}, {}, {}]
    """)
    assert space.merged == 4
    same(
        [json.dumps(point) for point in space.points],
        ['{"width": 1}', '{"width": 2}', '{"depth": 1, "width": 1}', '{"width": [1]}', "{}"],
    )


def test_keys_and_where_they_are():
    space, _ = read("""
        list: [{heads: 1}, {act: x}]
        grid: {model.depth: [1], width: [1]}
        zip: {noise: [1]}
        random: {draws: 1, clip: {uniform: [0, 1]}}
        when: [{if: {width: 1}, grid: {l2: [1]}}]
    """)
    assert {key: dotted(("sweep", *path)) for key, path in space.where.items()} == {
        "model.depth": "sweep.grid.model.depth",
        "width": "sweep.grid.width",
        "noise": "sweep.zip.noise",
        "heads": "sweep.list[0].heads",
        "act": "sweep.list[1].act",
        "clip": "sweep.random.clip",
        "l2": "sweep.when[0].grid.l2",
    }
    assert space.keys == ("model.depth", "width", "noise", "heads", "clip", "l2", "act")
    space, _ = read("[{grid: {width: [1]}}, {grid: {depth: [1], width: [2]}}]")
    assert space.where == {"width": (0, "grid", "width"), "depth": (1, "grid", "depth")}
    space, _ = read("list: [{width: 1}, {act: x}]\nexcept: [{act: x}]")
    assert (space.keys, list(space.where)) == (("width",), ["width"])


def test_what_was_read_is_not_changed():
    data = {"list": [{"width": [1]}], "when": [{"if": {"steps": 1}, "grid": {"act": ["x"]}}]}
    before = json.dumps(data)
    assert points(data) == [{"width": [1], "act": "x"}]
    assert json.dumps(data) == before


# draws


DISTRIBUTIONS = {
    "uniform": [0.1, 1.0],
    "log_uniform": [1e-5, 1e-1],
    "integers": [1, 8],
    "normal": [1.0, 2.0],
    "choice": ["relu", "gelu", [1]],
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_depend_on_seed_key_and_position_only(name):
    distribution = {name: DISTRIBUTIONS[name]}
    few = points({"random": {"draws": 9, "width": distribution, "act": {"uniform": [0, 1]}}})
    first = [point["width"] for point in few]
    sweep = {"draws": 40, "seed": 0, "act": {"uniform": [0, 1]}, "width": distribution}
    found = [p["width"] for p in points({"grid": {"steps": [1]}, "random": sweep})]
    same(found[:9], first)
    other_seed = [p["width"] for p in points({"random": {**sweep, "seed": 1}})]
    other_key = [p["depth"] for p in points({"random": {**sweep, "depth": distribution}})]
    assert found != other_seed
    assert found != other_key
    assert {type(x) for x in found} <= {float, int, str, list}


def test_draws_are_the_same_for_ever():
    # the ids of cells hang on them: these numbers may not change with numpy or the machine
    keys = {f"model.{name}": {name: ends} for name, ends in DISTRIBUTIONS.items()}
    found = points({"random": {"draws": 2, "seed": 3, **keys}})
    assert [list(point.values()) for point in found] == [
        [0.964193306249, 0.0686308022996, 4, 2.55695383953, "gelu"],
        [0.563892390331, 0.0391770783633, 6, -1.25575115987, [1]],
    ]


def test_draws_follow_their_distribution():
    n = 4000
    distance = 1.95 / math.sqrt(n)  # Kolmogorov: exceeded by chance once in a thousand keys

    def spread(uniform):
        ranks = (np.arange(n) + 0.5) / n
        assert np.abs(np.sort(uniform) - ranks).max() < distance

    found = np.array(draws({"uniform": [-1, 3]}, n))
    spread((found + 1) / 4)
    found = np.array(draws({"log_uniform": [1e-5, 1e-1]}, n))
    spread((np.log10(found) + 5) / 4)
    found = np.array(draws({"normal": [1.0, 2.0]}, n))
    spread([(1 + math.erf(x / math.sqrt(2))) / 2 for x in (found - 1) / 2])


def test_every_choice_is_drawn():
    # 4000 draws of 8: each 500 times, five standard deviations are 105
    sweep = {"random": {"draws": 4000, "heads": {"integers": [1, 8]}, "clip": {"uniform": [0, 1]}}}
    counts = Counter(point["heads"] for point in points(sweep))
    assert sorted(counts) == list(range(1, 9))
    assert all(395 <= count <= 605 for count in counts.values())
    big = draws({"integers": [2**62, 2**63]})
    assert all(isinstance(x, int) and 2**62 <= x <= 2**63 for x in big)
    assert set(draws({"choice": [{"kind": "mlp"}]})[0]) == {"kind"}


@settings(max_examples=50, deadline=None)
@given(low=decimals, width=st.integers(1, 10**6), seed=st.integers(0, 2**70))
def test_draws_stay_between_their_ends(low, width, seed):
    high = low + width * 1e-6
    assert all(low <= x <= high for x in draws({"uniform": [low, high]}, 5, seed))
    ends = [abs(low) + 1e-3, abs(low) + 2e-3]
    assert all(ends[0] <= x <= ends[1] for x in draws({"log_uniform": ends}, 5, seed))
    whole = draws({"integers": [-3, -3 + width]}, 5, seed)
    assert all(-3 <= x <= -3 + width for x in whole)


# mistakes

SECTIONS = "grid, zip, list, random, when, except"
RANGE = "(a range has `from`, `to` and one of log, linear, step, factor)"
AXIS = "expected a list of values or a range such as {from: 1, to: 64, factor: 2}"
KIND = "one of uniform, log_uniform, integers, choice, normal, such as {uniform: [0, 1]}"

MALFORMED = {
    "nothing": (
        "",
        "sweep: expected a mapping with grid, zip, list or random, got nothing (null)",
    ),
    "no mapping": (
        "3",
        "sweep: expected a mapping with grid, zip, list or random, got 3",
    ),
    "empty": (
        "{}",
        "sweep: expected a mapping with grid, zip, list or random, got an empty mapping",
    ),
    "empty list": (
        "[]",
        "sweep: expected a mapping with grid, zip, list or random, got the list []",
    ),
    "list of no mappings": (
        "[{grid: {width: [1]}}, 3]",
        "sweep[1]: expected a mapping with grid, zip, list or random, got 3",
    ),
    "unknown section": (
        "gird: {width: [1]}",
        f"sweep.gird: unknown section; did you mean 'grid'? (sections: {SECTIONS})",
    ),
    "axis beside the sections": (
        "width: [1, 2]\nmodel.depth: [1]",
        "sweep.width: unknown section; an axis goes into `grid` or another section "
        f"(sections: {SECTIONS})",
        "sweep.model.depth: unknown section; an axis goes into `grid` or another section "
        f"(sections: {SECTIONS})",
    ),
    "only when": (
        "when: [{if: {steps: 1}, grid: {width: [1]}}]",
        "sweep: expected at least one of grid, zip, list, random, got only `when`",
    ),
    "only except": (
        "except: [{width: 1}]",
        "sweep: expected at least one of grid, zip, list, random, got only `except`",
        "sweep.except[0].width: 'width' is neither swept nor in the base config; did you "
        "mean 'widths'?",
    ),
    "if outside when": (
        "grid: {width: [1]}\nif: {steps: 1}",
        f"sweep.if: unknown section (sections: {SECTIONS})",
    ),
    "empty grid": (
        "grid: {}",
        "sweep.grid: expected a mapping from keys to axes, got an empty mapping",
    ),
    "grid is a list": (
        "grid: [width, depth]",
        "sweep.grid: expected a mapping from keys to axes, got the list ['width', 'depth']",
    ),
    "grid is nothing": (
        "grid:",
        "sweep.grid: expected a mapping from keys to axes, got nothing (null)",
    ),
    "empty axis": (
        "grid: {width: []}",
        "sweep.grid.width: expected a list of values (one or more), got the list []",
    ),
    "a single value": (
        "grid: {width: 8}",
        f"sweep.grid.width: {AXIS}, got 8",
    ),
    "an axis of nothing": (
        "grid: {width:}",
        f"sweep.grid.width: {AXIS}, got nothing (null)",
    ),
    "a nested key": (
        "grid: {model: {depth: [1, 2]}}",
        f"sweep.grid.model: {AXIS}, got a mapping with keys depth; a nested key is written "
        "`model.depth`",
    ),
    "a distribution in a grid": (
        "grid: {width: {uniform: [0, 1]}}",
        f"sweep.grid.width: {AXIS}, got a mapping with keys uniform; a distribution goes into "
        "the section `random`",
    ),
    "nan": (
        "grid: {width: [1, [.nan]], depth: [.nan]}",
        "sweep.grid.width[1][0]: expected a value that equals itself, got nan",
        "sweep.grid.depth[0]: expected a value that equals itself, got nan",
    ),
    "unknown key": (
        "grid: {widht: [1], modle.depth: [1], xyz: [1]}",
        f"sweep.grid.widht: unknown key; did you mean 'width'? (keys: {KEYS})",
        f"sweep.grid.modle.depth: unknown key; did you mean 'model'? (keys: {KEYS})",
        f"sweep.grid.xyz: unknown key (keys: {KEYS})",
    ),
    "seeds": (
        "grid: {seeds: [1, 2]}",
        "sweep.grid.seeds: seeds are given beside `sweep`, not in it",
    ),
    "settings": (
        "grid: {name: [a], experiment: [b], checkpoint_seconds: [1], sweep: [2]}",
        "sweep.grid.name: 'name' belongs to the whole sweep and cannot be swept",
        "sweep.grid.experiment: 'experiment' belongs to the whole sweep and cannot be swept",
        "sweep.grid.checkpoint_seconds: 'checkpoint_seconds' belongs to the whole sweep and "
        "cannot be swept",
        "sweep.grid.sweep: 'sweep' belongs to the whole sweep and cannot be swept",
    ),
    "dots": (
        "grid: {model..depth: [1], width.: [1]}",
        "sweep.grid.model..depth: expected names between the dots of a key, got 'model..depth'",
        "sweep.grid.width.: expected names between the dots of a key, got 'width.'",
    ),
    "misspelt range": (
        "grid: {width: {from: 1, too: 3, log: 4}, depth: {from: 1, to: 10, logg: 3}}",
        "sweep.grid.width.too: unknown key; did you mean 'to'? (keys: from, to, log, linear, "
        "step, factor)",
        "sweep.grid.depth.logg: unknown key; did you mean 'log'? (keys: from, to, log, "
        "linear, step, factor)",
    ),
    "no ends": (
        "grid: {width: {log: 3}, depth: {from: 1, to: 2}}",
        f"sweep.grid.width: missing key 'from' {RANGE}",
        f"sweep.grid.width: missing key 'to' {RANGE}",
        "sweep.grid.depth: expected one of log, linear, step, factor, got none of them",
    ),
    "two forms": (
        "grid: {width: {from: 1, to: 3, log: 3, linear: 3}}",
        "sweep.grid.width: expected one of log, linear, step, factor, got log and linear",
    ),
    "all wrong at once": (
        "grid: {width: {from: x, to: true, log: 1.5}}",
        "sweep.grid.width.from: expected a number, got the text 'x'",
        "sweep.grid.width.to: expected a number, got true",
        "sweep.grid.width.log: expected an integer from 2 to 1000000, got 1.5",
    ),
    "counts": (
        "grid: {width: {from: 1, to: 3, linear: 1}, depth: {from: 1, to: 3, log: true}, "
        "l2: {from: 1, to: 9.0, log: 10000000}}",
        "sweep.grid.width.linear: expected an integer from 2 to 1000000, got 1",
        "sweep.grid.depth.log: expected an integer from 2 to 1000000, got true",
        "sweep.grid.l2.log: expected an integer from 2 to 1000000, got 10000000",
    ),
    "not finite": (
        "grid: {width: {from: .nan, to: .inf, linear: 3}, depth: {from: 1, to: 3, "
        "step: -.inf}, l2: {from: 0, to: 1e301, linear: 2}}",
        "sweep.grid.width.from: expected a finite number (to 1e300), got nan",
        "sweep.grid.width.to: expected a finite number (to 1e300), got inf",
        "sweep.grid.depth.step: expected a finite number (to 1e300), got -inf",
        "sweep.grid.l2.to: expected a finite number (to 1e300), got 1e+301",
    ),
    "log of zero": (
        "grid: {width: {from: 0, to: 1, log: 3}, depth: {from: 1, to: -1, log: 3}}",
        "sweep.grid.width: expected positive ends for `log`, got from 0 to 1",
        "sweep.grid.depth: expected positive ends for `log`, got from 1 to -1",
    ),
    "step": (
        "grid: {width: {from: 1, to: 3, step: 0}, depth: {from: 1, to: 3, step: -1}, "
        "l2: {from: 3, to: 1, step: 1}}",
        "sweep.grid.width.step: expected a step > 0 (from 1 to 3), got 0",
        "sweep.grid.depth.step: expected a step > 0 (from 1 to 3), got -1",
        "sweep.grid.l2.step: expected a step < 0 (from 3 to 1), got 1",
    ),
    "step too wide": (
        "grid: {width: {from: 1, to: 3, step: 5}, depth: {from: 1, to: 3, factor: 4}}",
        "sweep.grid.width.step: expected a step that gives several values from 1 to 3, got 5",
        "sweep.grid.depth.factor: expected a factor that gives several values from 1 to 3, got 4",
    ),
    "factor": (
        "grid: {width: {from: 1, to: 3, factor: 1}, depth: {from: 3, to: 1, factor: 0.5}, "
        "l2: {from: 0, to: 1, factor: 2}}",
        "sweep.grid.width.factor: expected a factor > 1, got 1",
        "sweep.grid.depth: expected 0 < from < to for `factor`, got from 3 to 1",
        "sweep.grid.depth.factor: expected a factor > 1, got 0.5",
        "sweep.grid.l2: expected 0 < from < to for `factor`, got from 0 to 1",
    ),
    "equal ends": (
        "grid: {width: {from: 1, to: 1.0, linear: 3}, depth: {from: 2, to: 2, step: 1}}",
        "sweep.grid.width: expected `from` and `to` to differ, both are 1",
        "sweep.grid.depth: expected `from` and `to` to differ, both are 2",
    ),
    "integers do not fit": (
        "grid: {width: {from: 0, to: 1, linear: 5}, depth: {from: 1, to: 3, log: 4}}",
        "sweep.grid.width.linear: 5 integers do not fit from 0 to 1; for fractions write 1.0",
        "sweep.grid.depth.log: 4 integers do not fit from 1 to 3; for fractions write 3.0",
    ),
    "zip of unequal lengths": (
        "zip: {width: [1, 2], depth: {from: 1, to: 3, step: 1}, l2: [1, 2]}",
        "sweep.zip: expected axes of equal length, got width has 2, depth has 3, l2 has 2",
    ),
    "empty zip": (
        "zip: {}",
        "sweep.zip: expected a mapping from keys to axes, got an empty mapping",
    ),
    "list of no mapping": (
        "list: {width: 1}",
        "sweep.list: expected a list of points (one or more), got a mapping with keys width",
    ),
    "empty list section": (
        "list: []",
        "sweep.list: expected a list of points (one or more), got the list []",
    ),
    "list items": (
        "list: [{width: 1}, 3, [1], null]",
        "sweep.list[1]: expected a mapping from keys to values, got 3",
        "sweep.list[2]: expected a mapping from keys to values, got the list [1]",
        "sweep.list[3]: expected a mapping from keys to values, got nothing (null)",
    ),
    "list keys": (
        "list: [{widht: 1}, {seeds: 3}, {width: .nan}]",
        f"sweep.list[0].widht: unknown key; did you mean 'width'? (keys: {KEYS})",
        "sweep.list[1].seeds: seeds are given beside `sweep`, not in it",
        "sweep.list[2].width: expected a value that equals itself, got nan",
    ),
    "nothing in the list": (
        "list: [{}, {}]",
        "sweep: expected at least one key to sweep",
    ),
    "random without draws": (
        "random: {width: {uniform: [0, 1]}}",
        "sweep.random: missing key 'draws' (how many points to draw)",
    ),
    "random without keys": (
        "random: {draws: 3}",
        "sweep.random: expected at least one key with a distribution",
    ),
    "random of nothing": (
        "random: 3",
        "sweep.random: expected a mapping with `draws` and distributions, got 3",
    ),
    "draws": (
        "random: {draws: 0, seed: -1, width: {uniform: [0, 1]}}",
        "sweep.random.draws: expected an integer from 1 to 1000000, got 0",
        "sweep.random.seed: expected an integer >= 0, got -1",
    ),
    "draws of wrong type": (
        "random: {draws: true, seed: 0.5, width: {uniform: [0, 1]}}",
        "sweep.random.draws: expected an integer from 1 to 1000000, got true",
        "sweep.random.seed: expected an integer >= 0, got 0.5",
    ),
    "too many draws": (
        "random: {draws: 10000000, width: {uniform: [0, 1]}}",
        "sweep.random.draws: expected an integer from 1 to 1000000, got 10000000",
    ),
    "no distribution": (
        "random: {draws: 2, width: [1, 2], depth: {unifrm: [0, 1]}, l2: {uniform: [0, 1], "
        "normal: [0, 1]}}",
        f"sweep.random.width: expected {KIND}, got the list [1, 2]",
        f"sweep.random.depth: expected {KIND}, got a mapping with keys unifrm; did you mean "
        "'uniform'?",
        f"sweep.random.l2: expected {KIND}, got a mapping with keys uniform, normal",
    ),
    "parameters": (
        "random: {draws: 2, width: {uniform: 3}, depth: {normal: [1]}, act: {choice: []}, "
        "l2: {uniform: [x, true]}, heads: {integers: [1, 2.0]}, noise: {uniform: [.nan, "
        ".inf]}}",
        "sweep.random.width.uniform: expected [low, high], got 3",
        "sweep.random.depth.normal: expected [mean, standard deviation], got the list [1]",
        "sweep.random.act.choice: expected a list of values (one or more), got the list []",
        "sweep.random.l2.uniform[0]: expected a number, got the text 'x'",
        "sweep.random.l2.uniform[1]: expected a number, got true",
        "sweep.random.heads.integers[1]: expected an integer, got 2.0",
        "sweep.random.noise.uniform[0]: expected a finite number (to 1e300), got nan",
        "sweep.random.noise.uniform[1]: expected a finite number (to 1e300), got inf",
    ),
    "low and high": (
        "random: {draws: 2, width: {uniform: [2, 1]}, depth: {integers: [3, 3]}, "
        "l2: {log_uniform: [0, 1]}, noise: {normal: [0, 0]}, act: {choice: [.nan]}}",
        "sweep.random.width.uniform: expected low < high, got 2 and 1",
        "sweep.random.depth.integers: expected low < high, got 3 and 3",
        "sweep.random.l2.log_uniform: expected low > 0, got 0",
        "sweep.random.noise.normal: expected a standard deviation > 0, got 0",
        "sweep.random.act.choice[0]: expected a value that equals itself, got nan",
    ),
    "swept twice": (
        "grid: {width: [1]}\n"
        "zip: {width: [1], depth: [1]}\n"
        "list: [{depth: 1}, {depth: 2}]\n"
        "random: {draws: 1, width: {uniform: [0, 1]}}",
        "sweep.zip.width: 'width' is swept twice, here and in sweep.grid.width",
        "sweep.list[0].depth: 'depth' is swept twice, here and in sweep.zip.depth",
        "sweep.list[1].depth: 'depth' is swept twice, here and in sweep.zip.depth",
        "sweep.random.width: 'width' is swept twice, here and in sweep.grid.width",
    ),
    "whole and part": (
        "grid: {model.depth: [1], model: [{depth: 1}]}",
        "sweep.grid.model: 'model' and 'model.depth' (sweep.grid.model.depth) overlap: sweep "
        "the whole or its parts, not both",
    ),
    "whole and part in one item": (
        "list: [{model: {depth: 1}, model.depth: 2}]",
        "sweep.list[0].model.depth: 'model.depth' and 'model' (sweep.list[0].model) overlap: "
        "sweep the whole or its parts, not both",
    ),
    "swept twice by when": (
        "list: [{optimiser: sgd, momentum: 1}, {optimiser: adam}]\n"
        "when: [{if: {optimiser: [sgd, adam]}, grid: {momentum: [1], l2: [1]}}]",
        "sweep.when[0].grid.momentum: 'momentum' is swept twice: points that match `if` have "
        "'momentum' already (keys: optimiser, momentum)",
    ),
    "swept twice by two clauses": (
        "grid: {width: [1, 2]}\n"
        "when: [{if: {width: 1}, grid: {depth: [1]}}, {if: {depth: 1}, grid: {depth: [1]}}]",
        "sweep.when[1].grid.depth: 'depth' is swept twice: points that match `if` have "
        "'depth' already (keys: width, depth)",
    ),
    "when is no list": (
        "grid: {width: [1]}\nwhen: {if: {width: 1}, grid: {depth: [1]}}",
        "sweep.when: expected a list of clauses with `if` (one or more), got a mapping with "
        "keys if, grid",
    ),
    "empty when": (
        "grid: {width: [1]}\nwhen: []\nexcept: []",
        "sweep.when: expected a list of clauses with `if` (one or more), got the list []",
        "sweep.except: expected a list of mappings of values (one or more), got the list []",
    ),
    "clauses": (
        "grid: {width: [1]}\n"
        "when: [3, {}, {grid: {depth: [1]}}, {if: {width: 1}}, {if: {width: 1}, "
        "then: {depth: [1]}}, {if: {}, grid: {act: [1]}}, {if: 3, grid: {l2: [1]}}]",
        "sweep.when[0]: expected a mapping with grid, zip, list, random or when, got 3",
        "sweep.when[1]: expected a mapping with grid, zip, list, random or when, got an "
        "empty mapping",
        "sweep.when[2]: missing key 'if' (which points the clause is for)",
        "sweep.when[3]: expected at least one of grid, zip, list, random, when, got only `if`",
        f"sweep.when[4].then: unknown section; did you mean 'when'? (sections: if, {SECTIONS})",
        "sweep.when[5].if: expected a mapping from keys to values, got an empty mapping",
        "sweep.when[6].if: expected a mapping from keys to values, got 3",
    ),
    "conditions": (
        "grid: {width: [1], model.depth: [1]}\n"
        "when: [{if: {widht: 1, l2: 1, model.dpth: 3, model: {kind: mlp}, width: [], "
        "seeds: 3}, grid: {act: [1]}}]",
        f"sweep.when[0].if.widht: unknown key; did you mean 'width'? (keys: {KEYS})",
        "sweep.when[0].if.l2: 'l2' is neither swept nor in the base config",
        "sweep.when[0].if.model.dpth: 'model.dpth' is neither swept nor in the base config; "
        "did you mean 'model.depth'?",
        "sweep.when[0].if.model: only parts of 'model' are swept: ask for model.depth",
        "sweep.when[0].if.width: expected a value or a list of values, got the list []",
        "sweep.when[0].if.seeds: seeds are given beside `sweep`, not in it",
    ),
    "if asks for what comes later": (
        "grid: {width: [1]}\n"
        "when: [{if: {act: 1}, grid: {l2: [1]}}, {if: {width: 1}, grid: {act: [1]}}]",
        "sweep.when[0].if.act: 'act' is neither swept nor in the base config",
    ),
    "if matches nothing": (
        "grid: {width: [1]}\nwhen: [{if: {width: 2, optimiser: sgd}, grid: {l2: [1]}}]",
        "sweep.when[0].if: matches no point (width is 1)",
    ),
    "except leaves out nothing": (
        "grid: {width: [1, 2]}\nexcept: [{width: 3}, {width: 1}, {width: 1, optimiser: adam}]",
        "sweep.except[0]: leaves out no point (width is 1 or 2)",
        "sweep.except[2]: leaves out no point (width is 1 or 2, optimiser is sgd)",
    ),
    "except is no list": (
        "grid: {width: [1]}\nexcept: {width: 1}",
        "sweep.except: expected a list of mappings of values (one or more), got a mapping "
        "with keys width",
    ),
    "except items": (
        "grid: {width: [1]}\nexcept: [3, {}, {l2: 3}]",
        "sweep.except[0]: expected a mapping from keys to values, got 3",
        "sweep.except[1]: expected a mapping from keys to values, got an empty mapping",
        "sweep.except[2].l2: 'l2' is neither swept nor in the base config",
    ),
    "everything is left out": (
        "grid: {width: [1, 2]}\nexcept: [{width: [1, 2]}]",
        "sweep.except: leaves out every point",
    ),
    "too many values": (
        "grid: {width: {from: 0, to: 1, step: 1e-7}, depth: {from: 1, to: 1e9, factor: 1.00001}}",
        "sweep.grid.width.step: 10000001 values from 0 to 1, at most 1000000 are allowed",
        "sweep.grid.depth.factor: 2072337 values from 1 to 1000000000.0, at most 1000000 are "
        "allowed",
    ),
    "too many points": (
        "grid: {width: {from: 1, to: 1000, step: 1}, depth: {from: 1, to: 1000, step: 1}}\n"
        "zip: {act: [1, 2]}",
        "sweep: 2000000 points, at most 1000000 are allowed",
    ),
    "too many points in all": (
        "[{grid: {width: {from: 1, to: 1000, step: 1}, depth: {from: 1, to: 600, "
        "step: 1}}}, {grid: {width: {from: 1, to: 1000, step: 1}, depth: {from: 1, "
        "to: 600, step: 1}}}]",
        "sweep: 1200000 points, at most 1000000 are allowed",
    ),
    "too many points of when": (
        "grid: {width: {from: 1, to: 1001, step: 1}}\n"
        "when: [{if: {steps: 1}, grid: {depth: {from: 1, to: 1000, step: 1}}}]",
        "sweep.when[0]: 1001000 points, at most 1000000 are allowed",
    ),
    "problems in every part": (
        "[{grid: {width: 1}}, {zip: {depth: 1}, when: [{if: {depth: 1}, grid: {l2: 1}}]}]",
        f"sweep[0].grid.width: {AXIS}, got 1",
        f"sweep[1].zip.depth: {AXIS}, got 1",
        f"sweep[1].when[0].grid.l2: {AXIS}, got 1",
    ),
    "more values than are said": (
        "grid: {width: [1, 2, 3, 4, 5]}\nwhen: [{if: {width: 9}, grid: {l2: [1]}}]",
        "sweep.when[0].if: matches no point (width is 1 or 2 or 3 or 4 or ...)",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case):
    text, *messages = MALFORMED[case]
    space, problems = read(text)
    assert space is None
    assert [f"{dotted(('sweep', *p.path))}: {p.message}" for p in problems] == messages


def test_known_may_hold_the_settings_of_a_run():
    known = ["width", "name", "seeds"]
    _, problems = axes.read({"grid": {"seeds": [1], "wdth": [1], "name": [1]}}, {}, known)
    assert [problem.message for problem in problems] == [
        "seeds are given beside `sweep`, not in it",
        "unknown key; did you mean 'width'? (keys: width)",
        "'name' belongs to the whole sweep and cannot be swept",
    ]


def test_from_python_tuples_are_lists_and_keys_are_text():
    given = {"grid": {"width": (1, 2)}, "list": ({"act": (1,)},), "except": ({"width": (2, 3)},)}
    assert points((given,)) == [{"width": 1, "act": (1,)}]
    _, problems = read({"grid": {3: [1]}, 4: {}, "list": [{5: 6}]})
    assert [problem.path for problem in problems] == [("4",), ("grid", "3"), ("list", 0, "5")]


# the guide


def blocks():
    section = GUIDE.read_text().partition("## Axes")[2].partition("\n## ")[0]
    return re.findall(r"^```yaml\n# (.*?) points\n(.*?)^```", section, re.S | re.M)


def test_the_guide_has_every_section():
    said = "".join(text for _, text in blocks())
    for word in [*SECTIONS.split(", "), "if", "log", "linear", "step", "factor", *DISTRIBUTIONS]:
        assert f"{word}:" in said


@pytest.mark.parametrize(("count", "text"), blocks())
def test_examples_of_the_guide(count, text):
    data = _yaml.read_text(text, "guide")[0]
    assert list(data) == ["sweep"]
    assert len(points(data["sweep"])) == int(count.split()[-1])
