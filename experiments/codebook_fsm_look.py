"""What a network with codebooks does, which codes stand for states, and what setting them does."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from codebook_fsm_lab import HEADS, MLP, NEURONS, Lab, Network, Texts

import activjax as aj
from activjax import codebooks, models, stats

SIZE = 250  # texts at a time


class Programs:
    """What is run, each compiled once: networks, codes put in place and switches are arguments."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self._read = jax.jit(self._reading)
        self._write = jax.jit(self._writing)

    def _override(self, books: Any, off: jax.Array, ids: Any = None) -> Any:
        over = {}
        for site, own in self.lab.spec.items():
            loops = books[site]["codes"].shape[:1]
            switch = jnp.broadcast_to(off, (*loops, own.groups))
            over[site] = codebooks.Override(ids=None if ids is None else ids[site], off=switch)
        return over

    def _reading(
        self, network: Network, tokens: jax.Array, place: jax.Array, put: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        here = jnp.arange(tokens.shape[1])[None] == place[:, None]
        ids = {}
        for site, wanted in put.items():
            wanted = jnp.moveaxis(wanted, 1, 0)[:, :, None]  # [layers, texts, 1, groups, k]
            ids[site] = jnp.where(here[None, :, :, None, None], wanted, -1).astype(jnp.int32)
        run = codebooks.run(self.lab.model.apply, self.lab.spec)
        over = self._override(network.books, jnp.asarray(network.off), ids)
        call = aj.capture(lambda x: run(network.params, network.books, x, override=over), NEURONS)
        (logits, traces), acts = call(tokens)
        likely = jax.nn.log_softmax(logits, axis=-1)
        nats = -jnp.take_along_axis(likely[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
        found = {"nats": nats, "p": jnp.exp(likely), "neurons": jnp.moveaxis(acts[NEURONS], 0, 2)}
        return found | {site: jnp.moveaxis(t.ids, 0, 2) for site, t in traces.items()}

    def _writing(self, network: Network, prompts: jax.Array, key: jax.Array) -> jax.Array:
        write = functools.partial(
            models.generate, self.lab.model, steps=self.lab.length - 1, temperature=1.0, key=key
        )
        over = self._override(network.books, jnp.asarray(network.off))
        run = codebooks.run(write, self.lab.spec)
        return run(network.params, network.books, prompts, override=over)[0].tokens

    def read(
        self,
        network: Network,
        tokens: np.ndarray,
        place: np.ndarray | None = None,
        put: dict[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """What a network computes of texts: losses, next-token probabilities, neurons, codes.

        Args:
          network: the network.
          tokens: `[texts, length]`.
          place: `[texts]`, where codes are put in place.
          put: by site `[texts, layers, groups, k]`, these codes; -1 leaves the network's choice.

        Returns:
          Arrays `[texts, length, ...]`: of neurons `[layer, unit]`, of codes `[layer, group, k]`.
        """
        n, config = len(tokens), self.lab.config
        place = np.zeros(n, np.int32) if place is None else place.astype(np.int32)
        whole = {}
        for site, own in self.lab.spec.items():
            none = np.full((n, config.layers, own.groups, own.k), -1, np.int32)
            whole[site] = none if put is None or site not in put else put[site].astype(np.int32)
        out = []
        for at in range(0, n, SIZE):
            part = jax.tree.map(lambda x, at=at: x[at : at + SIZE], (tokens, place, whole))
            full = jax.tree.map(lambda x: np.resize(x, (SIZE, *x.shape[1:])), part)
            rows = len(part[0])
            found = self._read(network, *full)
            out.append(jax.tree.map(lambda x, rows=rows: np.asarray(x)[:rows], found))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *out)

    def written(self, network: Network, key: jax.Array) -> np.ndarray:
        """`[texts]`, the share of each written text's transitions that are the machine's."""
        machine = self.lab.machine
        prompts = np.full((self.lab.config.written, 1), machine.bos, np.int32)
        out = np.asarray(self._write(network, prompts, key))
        ends, valid = machine.transitions(np.concatenate([prompts, out], axis=1))
        return valid.sum(1) / ends.sum(1)


# --- codes of states ---------------------------------------------------------------------------


class Found(NamedTuple):
    """The best detector of each of some classes, `[classes]` each; chosen on the other texts."""

    best: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def f1_of(both: np.ndarray, own: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, ...]:
    """F1, precision and recall from counts that broadcast."""
    precision = both / np.maximum(own, 1)
    recall = both / np.maximum(total, 1)
    return 2 * both / np.maximum(own + total, 1), precision, recall


def best_codes(
    ids: np.ndarray, classes: np.ndarray, half: np.ndarray, codes: int, number: int
) -> Found:
    """For each class the code of highest F1 on texts of `half`, measured on the others.

    Args:
      ids: `[texts, places, k]`, the codes at every place.
      classes: `[texts, places]`, -1 where a place has none; those places count against precision.
      half: `[texts]`.
      codes, number: how many codes and classes there are.
    """
    tables = []
    for part in (half, ~half):
        here, there = ids[part], classes[part]
        active = np.zeros((*there.shape, codes), bool)  # a code that fills two ranks counts once
        np.put_along_axis(active, here, True, axis=-1)
        own = active.sum((0, 1))
        both = np.stack([active[there == c].sum(0) for c in range(number)])
        tables.append((both, own[None], np.bincount(there[there >= 0], minlength=number)[:, None]))
    best = f1_of(*tables[0])[0].argmax(1)
    _, precision, recall = f1_of(*tables[1])
    at = np.arange(number)
    return Found(best, precision[at, best], recall[at, best])


def neurons_at_recall(
    values: np.ndarray, classes: np.ndarray, half: np.ndarray, recall: np.ndarray
) -> np.ndarray:
    """`[classes]`, precision of the best neuron for each class at the recall of its code.

    Args:
      values: `[places, units]` activations of all neurons.
      classes: `[places]`, -1 for none.
      half: `[places]`, where unit, sign and threshold are chosen; precision is that of the others.
      recall: `[classes]`.
    """
    first, second = values[half], values[~half]
    precision = np.zeros(len(recall))
    for c in range(len(recall)):
        mine, other = classes[half] == c, classes[~half] == c
        if not mine.any() or not recall[c] > 0:
            precision[c] = np.nan
            continue
        best = (-1.0, 0, 0.0, 1)
        for sign in (1, -1):
            cut = np.quantile(sign * first[mine], 1 - recall[c], axis=0, method="lower")
            over = sign * first >= cut
            share = over[mine].sum(0) / np.maximum(over.sum(0), 1)
            unit = int(share.argmax())
            best = max(best, (float(share[unit]), unit, float(cut[unit]), sign))
        _, unit, cut, sign = best
        over = sign * second[:, unit] >= cut
        precision[c] = (over & other).sum() / max(over.sum(), 1)
    return precision


# --- interventions -----------------------------------------------------------------------------


def jsd(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of distributions along the last axis, in bits."""
    middle = (p + q) / 2

    def to(p: np.ndarray) -> np.ndarray:
        return np.where(
            p > 0, p * np.log2(np.where(p > 0, p, 1) / np.where(middle > 0, middle, 1)), 0
        )

    return (to(p) + to(q)).sum(-1) / 2


class Pairs(NamedTuple):
    """Places in two sets of texts: what is changed, and what it should become."""

    source: np.ndarray  # [pairs], text
    target: np.ndarray
    place: np.ndarray  # the same in both
    classes: np.ndarray  # of the target


def pairs_of(texts: Texts, classes: np.ndarray, rows: np.ndarray, n: int, seed: int) -> Pairs:
    """Random places of one class and of another one, at the same place in their texts."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, int, int]] = []
    places = [t for t in range(texts.tokens.shape[1] // 2, texts.tokens.shape[1])
              if (classes[rows, t] >= 0).any()]  # fmt: skip
    while len(found) < n:
        place = int(rng.choice(places))
        a, b = rng.choice(rows, 2, replace=False)
        ours, theirs = classes[a, place], classes[b, place]
        if min(ours, theirs) >= 0 and ours != theirs:
            found.append((int(a), int(b), place))
    source, target, place = np.array(found).T
    return Pairs(source, target, place, classes[target, place])


def commonest(ids: np.ndarray, classes: np.ndarray, codes: int, number: int) -> np.ndarray:
    """`[classes]`, the code that is chosen most often at places of a class."""
    table = np.zeros((number, codes), int)
    at = classes >= 0
    np.add.at(table, (classes[at], ids[at]), 1)
    return table.argmax(1)


class Ratio(NamedTuple):
    """A ratio and its 95 % interval over pairs."""

    value: float
    low: float
    high: float


class Kind(NamedTuple):
    """What is put in place: by name, which sites, which layers (None: all)."""

    name: str
    sites: tuple[str, ...]
    layer: int | None = None


def kinds(layers: int) -> list[Kind]:
    """All MLP codes, those of one layer, all attention codes, everything."""
    single = (
        [Kind(f"MLP codes of layer {i}", (MLP,), i) for i in range(layers)] if layers > 1 else []
    )
    return [
        Kind("all MLP codes", (MLP,)), *single,
        Kind("all attention codes", (HEADS,)), Kind("all codes", (MLP, HEADS)),
    ]  # fmt: skip


def jsd_ratio(
    programs: Programs,
    network: Network,
    texts: Texts,
    found: dict[str, np.ndarray],
    classes: np.ndarray,
    number: int,
    half: np.ndarray,
    which: list[Kind],
    random: bool = False,
) -> dict[str, Ratio]:
    """JSD to the target after an intervention, as a share of that before, by kind.

    The codes of a class are those chosen most often at its places in texts of `half`; pairs are of
    the other texts. With `random` they are those of another class.
    """
    lab, config = programs.lab, programs.lab.config
    pairs = pairs_of(texts, classes, np.flatnonzero(~half), config.pairs, config.seed)
    p = found["p"]
    target = p[pairs.target, pairs.place]
    before = jsd(p[pairs.source, pairs.place], target)
    wanted = pairs.classes
    if random:
        wanted = np.random.default_rng(1).permutation(number)[wanted]
    put: dict[str, np.ndarray] = {}
    for site, own in lab.spec.items():
        ids, size = found[site], own.codes
        layers, groups, k = ids.shape[2:]
        table = np.zeros((number, layers, groups, k), int)
        for at in np.ndindex(layers, groups, k):
            table[(slice(None), *at)] = commonest(
                ids[half][(..., *at)], classes[half], size, number
            )
        put[site] = table[wanted]
    out = {}
    for kind in which:
        chosen = {}
        for site in kind.sites:
            codes = put[site].copy()
            if kind.layer is not None:
                codes[:, [i for i in range(config.layers) if i != kind.layer]] = -1
            chosen[site] = codes
        p = programs.read(network, texts.tokens[pairs.source], pairs.place, chosen)["p"]
        after = jsd(p[np.arange(len(p)), pairs.place], target)
        out[kind.name] = Ratio(*stats.ratio_interval(after, np.maximum(before, 1e-12)))
    return out
