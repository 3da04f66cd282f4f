"""Steering for `codebook_text.py`: codes put in place, against random codes and added vectors.

One compiled program makes all continuations: the parameters, the overrides and the vectors are its
arguments. A continuation shows a concept if the concept's regular expression matches anywhere in
it; how fluent it is, the base says, in bits a byte.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from codebook_text_concepts import Searched
from codebook_text_data import CONCEPTS, Held
from codebook_text_models import MLP, Network
from jaxtyping import Array, Bool, Float, Int

import activjax as aj
from activjax import codebooks, models, stats, training
from activjax.codebooks import Code, Index

FOUND, RANDOM, ADDED = "found codes", "random codes", "activation addition"
#: Ways to put codes in place, and in how many codebooks: those of the best codes; None: in all.
WAYS = {
    "last, 1 codebook": 1,
    "last, all codebooks": None,
    "fill, 1 codebook": 1,
    "fill, 3 codebooks": 3,
    "fill, all codebooks": None,
}
REACH = ("one layer", "all layers")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to steer towards a concept.

    Attributes:
        concept: which.
        method: `FOUND`, `RANDOM` or `ADDED`; or "none".
        way: one of `WAYS`; for vectors where and how much.
        draw: number of the random draw.
    """

    concept: str
    method: str
    way: str
    draw: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What continuations of one setting are like.

    Attributes:
        shows: whether each has the concept, `[prompts]`; of several draws, the share.
        bits: a byte, under the base, of each, `[prompts]`.
        texts: the continuations.
    """

    shows: Bool[np.ndarray, " prompts"] | Float[np.ndarray, " prompts"]
    bits: Float[np.ndarray, " prompts"]
    texts: list[str]

    @classmethod
    def mean(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Several draws as one: for each prompt the share and the mean over draws."""
        return cls(
            np.mean([o.shows for o in outcomes], axis=0),
            np.mean([o.bits for o in outcomes], axis=0),
            [text for o in outcomes for text in o.texts],
        )

    def rate(self, rows: Any = slice(None)) -> tuple[float, float, float]:
        """Share that shows the concept, with Wilson's interval for so many prompts."""
        hits, n = float(self.shows[rows].sum()), len(self.shows[rows])
        low, high = stats.wilson(hits, n)
        return hits / n, float(low), float(high)

    def fluency(self, rows: Any = slice(None)) -> float:
        """Mean bits a byte."""
        return float(self.bits[rows].mean())


def prompts(
    held: Held, second: np.ndarray, marks: Mapping[str, np.ndarray], n: int, length: int
) -> Int[np.ndarray, "n length"]:
    """Texts that end with a line, outside strings and comments, from the half not searched."""
    places = []
    inside = np.zeros(held.tokens.shape, bool)
    for name in held.masks:
        inside |= marks.get(name, held.masks[name])
    for document in np.flatnonzero(second):
        ends = np.flatnonzero(held.ends_line[document] & ~inside[document])
        places += [(document, end) for end in ends if end + 1 >= length]
    if len(places) < n:
        raise ValueError(f"prompts: {len(places)} lines end outside strings, {n} are wanted")
    order = np.random.default_rng(0).permutation(len(places))[:n]
    return np.stack([held.tokens[d, e + 1 - length : e + 1] for d, e in map(places.__getitem__,
                                                                          order)])  # fmt: skip


class Steering:
    """Continues prompts under any setting, by one compiled program.

    Args:
        net: the network.
        steered: parameters and codebooks of the model with codes.
        plain: parameters of the same decoder continued without codes, for added vectors.
        judge: parameters of the base, which says how fluent a continuation is.
        prompts: `[n, length]`.
        new: tokens to continue them by.
        temperature: of the samples.
    """

    def __init__(
        self, net: Network, steered: Any, plain: Any, judge: Any, prompts: np.ndarray, *,
        new: int, temperature: float,
    ):  # fmt: skip
        self.net, self.plain, self.judge, self.prompts = net, plain, judge, prompts
        self.params, self.books = steered
        self.start = prompts.shape[1] - 1  # what this position says is the first new token
        config = net.model.config
        self.room = min(config.context, prompts.shape[1] + new)  # positions of a whole text
        self.layers, self.nothing = config.layers, np.zeros((config.layers, config.width), "f4")

        def go_on(params: Any, vectors: Array, key: Array) -> Array:
            def generate(params: Any) -> Array:
                return models.generate(
                    net.model,
                    params,
                    jnp.asarray(prompts),
                    steps=new,
                    temperature=temperature,
                    key=key,
                ).tokens

            put = jax.tree_util.Partial(_added, _From(self.start), vectors)
            return aj.intervene(generate, {f"**/{MLP}": put})(params)

        @jax.jit
        def run(params: Any, books: Any, over: Any, vectors: Array, key: Array) -> Array:
            edited = codebooks.run(go_on, net.spec)
            return edited(params, books, vectors, key, override=over)[0]

        self._run = run
        self._losses = jax.jit(training.token_losses(net.model))
        self.key = jax.random.key(0)  # the same noise for all settings

    @property
    def own(self) -> codebooks.Overrides:
        """No override, with room for every position."""
        return codebooks.overrides(self.net.spec, self.books, tokens=(1, self.room))

    def with_codes(self, concept: str, over: codebooks.Overrides) -> Outcome:
        """The model with codes, under an override."""
        made = self._run(self.params, self.books, over, self.nothing, self.key)
        return self._outcome(concept, np.asarray(made))

    def with_vectors(self, concept: str, vectors: np.ndarray) -> Outcome:
        """The model without codes, with a vector added in each layer, `[layers, d]`."""
        over = self.own
        for site in self.net.spec:
            over = over.off(site)
        made = self._run(self.plain, self.books, over, vectors.astype("f4"), self.key)
        return self._outcome(concept, np.asarray(made))

    def put(self, codes: Sequence[Code], way: str) -> codebooks.Overrides:
        """Codes, the best codebook's first, in place from the prompt's last token on."""
        over, after = self.own, np.arange(self.start, self.room)
        for code in codes[: WAYS[way]]:
            place = over.fill if way.startswith("fill") else over.replace_last
            over = place(code.site, code.code, layer=code.loop, group=code.group, position=after)
        return over

    def _outcome(self, concept: str, new: np.ndarray) -> Outcome:
        tokenizer = self.net.tokenizer
        known = new < tokenizer.vocab  # a published model's table may have more rows
        texts = [tokenizer.decode(row[there]) for row, there in zip(new, known)]
        shows = re.compile(CONCEPTS[concept].shows)
        whole = np.concatenate([self.prompts, new], axis=1)
        nats = np.asarray(self._losses(self.judge, whole)[0], np.float64)[:, self.start :]
        # a token that stands for no byte, such as a text's end, counts as one
        sizes = np.where(known, tokenizer.byte_lengths[np.where(known, new, 0)], 0)
        return Outcome(
            np.array([shows.search(text) is not None for text in texts]),
            nats.sum(1) / np.maximum(sizes, 1).sum(1) / math.log(2),
            texts,
        )


@jax.tree_util.register_static
class _From(int):
    """The first position that is steered."""


def _added(start: _From, vectors: Array, x: Array, ctx: Any) -> Array:
    """The edit: the layer's vector, from a position on."""
    at = ctx.read(f"{ctx.site.split('/')[0]}/positions")
    return x + jnp.where((at >= start)[..., None], vectors[ctx.loops["layers"]], 0.0)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What steers towards a concept.

    Attributes:
        codes: the best code of each codebook that has any, the best of all first.
        layer: where a vector is added to the MLP's output: the layer of its best code.
    """

    codes: tuple[Code, ...]
    layer: int


def chosen_codes(searched: Searched, layers: int) -> Chosen:
    """The best code of every codebook on the half that chooses."""
    codes = tuple(hit.code for hit in searched.found.hits)
    of_mlp = [code.loop[0] for code in codes if code.site == MLP]
    return Chosen(codes, of_mlp[0] if of_mlp else layers - 1)


def random_codes(index: Index, codes: Sequence[Code], draws: int) -> list[tuple[Code, ...]]:
    """Codes that some token chose, at random, of the same codebooks."""
    rng = np.random.default_rng(1)

    def other(code: Code) -> Code:
        alive = np.flatnonzero(~index.codebook(code.site, code.loop, code.group).dead)
        return code._replace(code=int(rng.choice(alive)))

    return [tuple(map(other, codes)) for _ in range(draws)]


def differences(acts: np.ndarray, marks: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean activation where a concept is less that where it is not, `[layers, d]`, first half."""
    own, has = acts[~second].astype(np.float64), marks[~second]
    return own[has].mean(0) - own[~has].mean(0)


def steer(
    steering: Steering,
    concepts: Mapping[str, Chosen],
    index: Index,
    vectors: Mapping[str, np.ndarray],
    draws: int,
    coefficients: Sequence[float],
) -> dict[Setting, Outcome]:
    """Every setting for every concept."""
    found: dict[Setting, Outcome] = {}
    for concept, chosen in concepts.items():
        found[Setting(concept, "none", "codes")] = steering.with_codes(concept, steering.own)
        found[Setting(concept, "none", "no codes")] = steering.with_vectors(
            concept, steering.nothing
        )
        random = random_codes(index, chosen.codes, draws)
        for way in WAYS:
            over = steering.put(chosen.codes, way)
            found[Setting(concept, FOUND, way)] = steering.with_codes(concept, over)
            for draw, drawn in enumerate(random):
                over = steering.put(drawn, way)
                found[Setting(concept, RANDOM, way, draw)] = steering.with_codes(concept, over)
        only = np.zeros_like(steering.nothing)
        only[chosen.layer] = 1
        for reach, where in zip(REACH, (only, np.ones_like(only))):
            for c in coefficients:
                added = c * where * vectors[concept]
                way = f"{c:g} x, {reach}"
                found[Setting(concept, ADDED, way)] = steering.with_vectors(concept, added)
    return found
