"""TokFSM: a finite-state machine whose states are spelled in digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from activjax.data.languages._language import Language
from activjax.data.languages._random import below, whole, words

Tokens = Int[np.ndarray, "*batch length"]


@dataclass(frozen=True)
class FiniteState(Language):
    """A machine of random successors, written as text (TokFSM of "Codebook Features",
    Tamkin, Taufeeque and Goodman 2023, arXiv 2310.17230, and its released code).

    A text begins with `<bos>`. The first state is uniform over all; each next one is uniform over
    its state's successors; a state is written as its decimal digits, most significant first and as
    many for each (100 states: "00" to "99"), with nothing between. `<bos>` within a text starts
    anew. The vocabulary is 11: digit d has id d, `<bos>` id 10. As published, a text of 128 tokens
    is `<bos>` and 127 digits: 63 states and the first digit of another.

    With 100 states, 10 successors and seed 42 the machine is the published one. Its successors come
    from NumPy's PCG64 with the arithmetic of `Generator.choice(states, successors, replace=False)`,
    state after state, written out here since NumPy does not promise to keep it.

    Attributes:
      states: number of states, 2 to 1,000.
      successors: of each state.
      seed: of the machine (not of the texts).

    Raises:
      ValueError: an attribute out of range.
    """

    states: int = 100
    successors: int = 10
    seed: int = 42

    _space = ""

    def __post_init__(self) -> None:
        whole("states", self.states, 2, 1000)
        whole("successors", self.successors, 1, self.states)
        whole("seed", self.seed, 0)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Ten digits and `<bos>`."""
        return (*"0123456789", "<bos>")

    @property
    def bos(self) -> int:
        """The id of `<bos>`, 10."""
        return 10

    @cached_property
    def digits(self) -> int:
        """Digits a state."""
        return len(str(self.states - 1))

    @cached_property
    def table(self) -> Int32[np.ndarray, "states successors"]:
        """The successors of every state, ascending."""
        table = np.array(list(_published(self.seed, self.states, self.successors)), np.int32)
        return np.sort(table, axis=1)

    @cached_property
    def allowed(self) -> Bool[np.ndarray, "states states"]:
        """Whether the machine goes from one state (row) to another (column)."""
        allowed = np.zeros((self.states, self.states), bool)
        np.put_along_axis(allowed, self.table, True, axis=1)
        return allowed

    @cached_property
    def spelling(self) -> Int32[np.ndarray, "states digits"]:
        """The digits of every state."""
        powers = 10 ** np.arange(self.digits)[::-1]
        return (np.arange(self.states)[:, None] // powers % 10).astype(np.int32)

    @cached_property
    def trigrams(self) -> Int32[np.ndarray, "trigrams digits+1"]:
        """Every state's digits followed by the first digit of one of its successors, without
        repeats and ascending: 686 of three digits for the published machine, as in the paper."""
        follow = self.spelling[self.table, 0]
        spelled = np.broadcast_to(self.spelling[:, None], (*follow.shape, self.digits))
        rows = np.concatenate([spelled, follow[..., None]], axis=-1)
        return np.unique(rows.reshape(-1, self.digits + 1), axis=0)

    def sample(
        self, n: int, length: int = 128, *, seed: int, start: int = 0
    ) -> Int32[np.ndarray, "n length"]:
        """Texts `start .. start + n - 1` of a seed: the same bytes everywhere, however many.

        Raises:
          ValueError: n below 1, length below 2, or start below 0.
        """
        whole("length", length, 2)
        steps = -(-(length - 1) // self.digits)
        u = words("finite_state", "sample", seed, n, steps, start).T
        path = np.empty((steps, len(u[0])), np.int32)
        path[0] = below(u[0], self.states)
        turns = below(u, self.successors)
        for t in range(1, steps):
            path[t] = self.table[path[t - 1], turns[t]]
        text = self.spelling[path.T].reshape(path.shape[1], -1)[:, : length - 1]
        return np.pad(text, ((0, 0), (1, 0)), constant_values=self.bos)

    def states_of(self, tokens: Tokens) -> Int32[np.ndarray, "*batch length"]:
        """The state that was last spelled to its end at or before each position; -1 where there is
        none since `<bos>`, or the digits are no state's."""
        return self._read(self._checked(tokens))[0].astype(np.int32)

    def digit_of(self, tokens: Tokens) -> Int32[np.ndarray, "*batch length"]:
        """Which digit of its state each token is: 0 for the first; -1 at `<bos>`."""
        offset = self._read(self._checked(tokens))[1]
        return np.where(offset < 0, -1, offset % self.digits).astype(np.int32)

    def trigrams_of(self, tokens: Tokens) -> Int32[np.ndarray, "*batch length"]:
        """The row of `trigrams` that ends at each position; -1 at tokens that are not the first
        digit after a state, and where the machine cannot go."""
        tokens = self._checked(tokens)
        state, offset = self._read(tokens)
        row = np.full((self.states + 1, self.vocab), -1, np.int32)
        value = self.trigrams[:, :-1] @ (10 ** np.arange(self.digits)[::-1])
        row[value, self.trigrams[:, -1]] = np.arange(len(self.trigrams))
        first = (offset >= self.digits) & (offset % self.digits == 0)
        return np.where(first, row[_before(state, 1), tokens], -1).astype(np.int32)

    def transitions(
        self, tokens: Tokens
    ) -> tuple[Bool[np.ndarray, "*batch length"], Bool[np.ndarray, "*batch length"]]:
        """Where a transition ends (its second state's last digit), and where it is one of the
        machine's. Their sums by text are the counts that an interval needs."""
        tokens = self._checked(tokens)
        state, offset = self._read(tokens)
        ends = (offset >= 2 * self.digits - 1) & (offset % self.digits == self.digits - 1)
        before = _before(state, self.digits)
        known = (state >= 0) & (before >= 0)
        return ends, ends & known & self.allowed[before, state]

    def transition_accuracy(self, tokens: Tokens) -> float:
        """Share of the transitions in the texts that are the machine's (published as "state
        accuracy", of texts that a model wrote); NaN without a transition. Chance: 0.1."""
        ends, valid = self.transitions(tokens)
        return float(valid.sum() / ends.sum()) if ends.any() else float("nan")

    def is_valid(self, tokens: Tokens) -> Bool[np.ndarray, "*batch length"]:
        """Whether each token can follow the tokens before it; the first, whether it is `<bos>`."""
        tokens = self._checked(tokens)
        given = self.next_distribution(tokens)[..., :-1, :]
        follows = np.take_along_axis(given, tokens[..., 1:, None], axis=-1)[..., 0] > 0
        return np.concatenate([tokens[..., :1] == self.bos, follows], axis=-1)

    def next_distribution(self, tokens: Tokens) -> Float32[np.ndarray, "*batch length vocab"]:
        """The exact distribution of the token after each position, given the text so far.

        After a transition that is not the machine's, it goes on from the state that the digits
        name; where the digits of an unfinished or finished state are no possible one, NaN.
        """
        tokens = self._checked(tokens)
        state, offset = self._read(tokens)
        fresh = offset < self.digits - 1  # no state has ended since <bos>
        origin = np.where(fresh, self.states, state)
        spelled = (offset + 1) % self.digits
        out = np.empty((*tokens.shape, self.vocab), np.float32)
        for j, table in enumerate(self._tables):
            at = spelled == j
            out[at] = table[origin[at], self._number(tokens, j)[at]]
        out[origin < 0] = np.nan
        return out

    def entropy(self, length: int = 128) -> Float64[np.ndarray, " length-1"]:
        """The least possible expected loss, in nats, of each of the `length - 1` predicted tokens
        of a text; its mean is the best loss. The published machine: 1.1748 at 128 tokens (a trained
        model without codebooks: 1.179, Table 1); in the long run ln(successors) / digits."""
        whole("length", length, 2)
        by_digit = []  # [states + 1] each: expected entropy of digit j after each state
        for p in self._tables:
            reach = self._reach[len(by_digit)]
            h = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
            by_digit.append((np.where(reach > 0, reach, 0) * h).sum(-1))
        step = self.allowed / self.successors
        origin = np.zeros(self.states + 1)
        origin[-1] = 1
        out = []
        while len(out) < length - 1:
            out += [float(origin @ h) for h in by_digit]
            origin[:-1] = 1 / self.states if origin[-1] else origin[:-1] @ step
            origin[-1] = 0
        return np.array(out[: length - 1])

    @cached_property
    def _counts(self) -> list[np.ndarray]:
        """For each digit j `[states + 1, 10^j, vocab]`: in how many next states it is which, after
        each state (the last row: at the beginning) and the j digits before it."""
        origin = np.repeat(np.arange(self.states), self.successors)
        origin = np.concatenate([origin, np.full(self.states, self.states)])
        follow = self.spelling[np.concatenate([self.table.ravel(), np.arange(self.states)])]
        counts = []
        for j in range(self.digits):
            count = np.zeros((self.states + 1, 10**j, self.vocab))
            before = follow[:, :j] @ 10 ** np.arange(j)[::-1]
            np.add.at(count, (origin, before, follow[:, j]), 1)
            counts.append(count)
        return counts

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        with np.errstate(invalid="ignore"):
            return [c / c.sum(-1, keepdims=True) for c in self._counts]

    @cached_property
    def _reach(self) -> list[np.ndarray]:
        return [c.sum(-1) / c.sum((1, 2))[:, None] for c in self._counts]

    def _number(self, tokens: np.ndarray, j: int) -> np.ndarray:
        """The number that the j digits up to each position spell; of no meaning across `<bos>`."""
        number = np.zeros(tokens.shape, np.int64)
        for back in range(j):
            number += 10**back * _before(tokens, back, 0)
        return np.minimum(number, 10**j - 1)

    def _read(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state last spelled at each position (-1: none), and the digits since `<bos>` less
        one (-1 at `<bos>`)."""
        position = np.arange(tokens.shape[-1])
        restart = np.maximum.accumulate(np.where(tokens == self.bos, position, -1), axis=-1)
        offset = position - restart - 1
        some = offset >= self.digits - 1
        ended = np.where(some, position - (offset + 1) % self.digits, position)
        state = np.take_along_axis(self._number(tokens, self.digits), ended, axis=-1)
        return np.where(some & (state < self.states), state, -1), offset


def _before(x: np.ndarray, steps: int, fill: int = -1) -> np.ndarray:
    """The values `steps` positions earlier."""
    out = np.full_like(x, fill)
    out[..., steps:] = x[..., : max(x.shape[-1] - steps, 0)]
    return out


def _published(seed: int, rows: int, k: int) -> Iterator[list[int]]:
    """`rows` times `default_rng(seed).choice(rows, k, replace=False)`, as NumPy 1.17 to 2.4 has it:
    Floyd's algorithm, then a shuffle; integers by Lemire's method from halves of PCG64's words."""
    generator = np.random.PCG64(seed)

    def halves() -> Iterator[int]:
        while True:
            word = int(generator.random_raw())
            yield word & 0xFFFFFFFF
            yield word >> 32

    half = halves()

    def up_to(top: int) -> int:
        if top == 0:
            return 0
        product = next(half) * (top + 1)
        if product & 0xFFFFFFFF <= top:
            while product & 0xFFFFFFFF < (0xFFFFFFFF - top) % (top + 1):
                product = next(half) * (top + 1)
        return product >> 32

    for _ in range(rows):
        chosen: list[int] = []
        for top in range(rows - k, rows):
            pick = up_to(top)
            chosen.append(top if pick in chosen else pick)
        for i in range(k - 1, 0, -1):
            up_to(i)  # the shuffle's draws; the order is of no consequence
        yield chosen


def finite_state(states: int = 100, successors: int = 10, seed: int = 42) -> FiniteState:
    """TokFSM, the language of "Codebook Features"; as it stands, the published machine."""
    return FiniteState(states, successors, seed)
