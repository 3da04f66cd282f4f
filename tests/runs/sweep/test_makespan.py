"""The simulator of schedules against schedules by hand, and what no schedule can beat."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from _schedule import Place, batches, bound, draw, play


class Script:
    """Waiting times as written down, in the order in which they are asked for."""

    def __init__(self, *times):
        self.times = list(times)

    def exponential(self, scale):
        return self.times.pop(0)


def test_in_order_on_two_workers():
    # 3 | 2, then 2 at 2 and 1 at 3: both end at 4
    assert play([3, 2, 2, 1], Place(2), Script()).makespan == 4
    # 1 | 1, 1 | 1, then 4 alone from 2 on; the bound is 4
    assert play([1, 1, 1, 1, 4], Place(2), Script()).makespan == 6
    assert bound([1, 1, 1, 1, 4], 2) == 4


def test_overheads_by_hand():
    # each worker starts once for 5 s, each batch costs 1 s: 5 + (1 + 2) + (1 + 2)
    assert play([2, 2, 2, 2], Place(2, start=5, batch=1), Script()).makespan == 11
    # as jobs each pays its start: (5 + 1 + 2) twice
    assert play([2, 2, 2, 2], Place(2, start=5, batch=1, each=True), Script()).makespan == 16
    # three checkpoints of 1 s on a way of 40 s; none at its end
    assert play([40], Place(1, every=10, cost=1), Script()).makespan == 43


def test_what_the_driver_hears_late_waits_for_it():
    # two batches are with the engine; the third follows 7 s after the first end, at 1 + 7
    assert play([1, 1, 1], Place(1, hear=7), Script()).makespan == 9
    # ten in reserve hide that
    assert play([1] * 20, Place(10, hear=1), Script()).makespan == 2


def test_a_loss_goes_back_to_the_checkpoint():
    place = Place(1, every=10, cost=1, lost=100, back=3)
    # lost at 25: 2 checkpoints (20 s of work) are kept, 3 s are done again; back at 28, then the
    # other 10 s, and no checkpoint on the way
    outcome = play([30], place, Script(25, 1000))
    assert (outcome.makespan, outcome.again, outcome.losses) == (38, 3, 1)
    # with a notice nothing is done again: 7 s are left
    noticed = play([30], Place(1, every=10, cost=1, lost=100, back=3, notice=True), Script(25, 999))
    assert (noticed.makespan, noticed.again) == (35, 0)
    # without checkpoints everything is
    assert play([30], Place(1, lost=100), Script(25, 1000)).makespan == 55


def test_three_losses_at_one_place_are_blamed_on_the_batch():
    place = Place(1, lost=10)
    assert play([30], place, Script(20, 5, 5, 100)).blamed == 1  # never past 20 again
    assert play([30], place, Script(20, 25, 28, 100)).blamed == 0  # each time further


def test_what_was_lost_comes_before_what_has_not_been_given_out():
    # batches A (4), B (1), C (1), D (1), E (1) on one worker; A is lost at 2 while B waits with
    # the engine: B, then A again (4), then C, D, E
    outcome = play([4, 1, 1, 1, 1], Place(1, lost=10), Script(2, 9, 9, 9, 9, 9))
    assert outcome.makespan == 2 + 1 + 4 + 3
    assert outcome.again == 2


def test_batches_of_neighbours():
    assert batches([1, 2, 3, 4, 5], 2) == [3, 7, 5]
    assert batches([1, 2, 3, 4, 5], 2, lockstep=True) == [2, 4, 5]


@pytest.mark.parametrize("times", ["equal", "lognormal:1.5", "pareto:1.5"])
@pytest.mark.parametrize("workers", [1, 3, 16])
def test_never_better_than_the_bound_nor_worse_than_in_theory(times, workers):
    """Handing out in order ends by (all - longest) / workers + longest (Graham 1966)."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        work = draw(times, 100, 10.0, rng)
        made = play(work, Place(workers), rng).makespan
        slack = 1e-9 * sum(work)  # sums in another order
        assert made >= bound(work, workers) - slack
        assert made <= (sum(work) - max(work)) / workers + max(work) + slack
        rough = Place(workers, 2.0, True, 1.0, 0.3, 0.1, 5.0, 0.1, 200.0, False, 3.0)
        assert play(work, rough, rng).makespan > made


def test_draws_have_their_mean():
    for times, most in (("lognormal:1", 0.02), ("equal", 1e-12)):
        # lognormal sigma 1: the mean of 1e5 has a standard error of sqrt(e - 1) / sqrt(1e5) = 0.4 %
        cells = draw(times, 100_000, 7.0, np.random.default_rng(0))
        assert abs(np.mean(cells) / 7.0 - 1) < most
    with pytest.raises(ValueError, match="expected equal"):
        draw("gauss", 1, 1.0, np.random.default_rng(0))
