"""Do codebook features find the states of a finite-state machine, and can they be set by hand?

A small transformer learns TokFSM (100 states, ten successors each, two digits a state) and is then
trained on with a codebook after every MLP and in every attention head, one code a token. "Codebook
Features" (Tamkin, Taufeeque and Goodman 2023, section 3) reports that single codes stand for single
states, more precisely than any neuron, and that putting the codes of another state in place makes
the network go on from that state. Codes that are untrained activations of the same network, put in
their place without any training, are the control that the paper lacks.

For each state the code of highest F1 at its second digit is chosen on one half of the texts; its
precision and recall are those on the other half.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import activjax as aj
from activjax import codebooks, data, models, runs, stats, training
from activjax.runs import figures

QUESTION = (
    "Do single codes stand for single states of a finite-state machine, and does the network go on "
    "from another state when its codes are put in place?"
)
MLP, HEADS, NEURONS = "blocks/mlp/out", "blocks/attn/heads", "blocks/mlp/post"


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    layers: int = runs.static(2, ge=1, le=8)
    width: int = runs.static(64, ge=8)
    heads: int = runs.static(4, ge=1)
    states_a_text: int = runs.static(16, ge=4, help="a text is <bos> and twice as many digits")
    batch: int = runs.static(62, ge=1, help="texts a step")
    base_steps: int = runs.static(1500, ge=1, help="training without codebooks")
    base_rate: float = runs.static(5e-3, gt=0, help="peak of AdamW")
    steps: int = runs.static(1500, ge=1, help="training with codebooks")
    rate: float = runs.static(2e-3, gt=0, help="peak of AdamW, for the network")
    code_rate: float = runs.static(2e-2, gt=0, help="of Adam, for the codes")
    mlp_codes: int = runs.static(1024, ge=1)
    head_codes: int = runs.static(256, ge=1, help="in each head")
    k: int = runs.static(1, ge=1, help="codes chosen")
    norm: Literal["rms", "layer", "none"] = runs.static("layer")
    lam: float = runs.static(1.0, ge=0, help="weight of the codes' error")
    revive_every: int = runs.static(100, ge=0, help="steps; 0 for never")
    texts: int = runs.static(2000, ge=40, help="held-out texts whose codes are read")
    written: int = runs.static(1000, ge=20, help="texts that each network writes")
    pairs: int = runs.static(500, ge=20, help="interventions of each kind")
    seed: int = runs.static(0, ge=0)


class Texts(NamedTuple):
    """Held-out texts and what stands in them, all `[texts, length]`."""

    tokens: np.ndarray
    states: np.ndarray
    trigrams: np.ndarray


class Network(NamedTuple):
    """A network with codebooks in it, which may be switched off."""

    params: Any
    books: Any
    off: bool = False


@dataclasses.dataclass(frozen=True)
class Lab:
    """The machine, the decoder and the spec."""

    config: Config
    machine: data.languages.FiniteState
    model: models.Decoder
    spec: dict[str, codebooks.Spec]

    @property
    def length(self) -> int:
        """Tokens that the decoder reads."""
        return 2 * self.config.states_a_text + 1


def lab_of(config: Config) -> Lab:
    """The published machine and a small decoder."""
    machine = data.languages.finite_state()
    model = models.decoder(
        vocab=machine.vocab,
        context=2 * config.states_a_text + 1,
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        norm="layer",
        positions="learned",
    )
    make = functools.partial(
        codebooks.Spec, k=config.k, norm=None if config.norm == "none" else config.norm
    )
    spec = {
        MLP: make(config.mlp_codes),
        HEADS: make(config.head_codes, groups=config.heads, axis=-2),
    }
    return Lab(config, machine, model, spec)


# --- training -------------------------------------------------------------------------------


class Trained(NamedTuple):
    """What training gave: networks, and curves `[steps]`."""

    base: Network
    coded: Network
    sampled: Network
    curves: dict[str, np.ndarray]


def texts_for(lab: Lab) -> tuple[jax.Array, data.Batches]:
    """Texts enough for every step of the longer training, and the order of their use."""
    config = lab.config
    n = config.batch * max(config.base_steps, config.steps)
    rows = lab.machine.sample(n, lab.length, seed=2 * config.seed + 1)
    return jnp.asarray(rows), data.Batches(n, config.batch)


def train_base(lab: Lab, key: jax.Array) -> tuple[Any, np.ndarray]:
    """Parameters without codebooks, and the loss of every step."""
    config = lab.config
    rows, batches = texts_for(lab)
    loss = training.next_token(lab.model)
    optimiser = training.adamw(config.base_rate, steps=config.base_steps, decay=0.01)

    def step(state: training.TrainState) -> Any:
        position, at = batches.next(state.batches)
        state, metrics = training.train_step(
            loss, optimiser, state._replace(batches=position), (rows[at], None)
        )
        return state, metrics["loss"]

    start = training.init_state(lab.model, optimiser, batches, key)
    steps = config.base_steps
    done = training.run(step, start, steps=steps, chunk=min(100, steps))
    return done.state.params, done.metrics


def train_codes(
    lab: Lab, params: Any, books: Any, key: jax.Array, code_optimiser: Any = None
) -> tuple[Network, dict[str, np.ndarray]]:
    """The network trained on with codebooks in it, and the metrics of every step."""
    config = lab.config
    rows, batches = texts_for(lab)
    loss = training.next_token(lab.model)
    optimiser = training.adamw(config.rate, steps=config.steps, decay=0.01)
    if code_optimiser is None:
        code_optimiser = codebooks.optimiser(config.code_rate)

    def step(state: codebooks.TrainState) -> Any:
        position, at = batches.next(state.batches)
        return codebooks.train_step(
            loss, lab.spec, optimiser, code_optimiser, state._replace(batches=position),
            (rows[at], None), lam=config.lam, revive_every=config.revive_every or None,
        )  # fmt: skip

    of_steps, of_batches = jax.random.split(key)
    start = codebooks.init_state(
        params, books, optimiser, code_optimiser, of_steps, batches=batches.init(of_batches)
    )
    done = training.run(step, start, steps=config.steps, chunk=min(100, config.steps))
    return Network(done.state.params, done.state.codebooks), done.metrics


def sampled_books(lab: Lab, params: Any, key: jax.Array) -> Any:
    """Codes that are activations of the network."""
    rows, _ = texts_for(lab)
    acts = jax.jit(codebooks.inputs(lab.model.apply, lab.spec))(params, rows[:200])
    return codebooks.init(lab.spec, acts, key, method="sample")


def train(lab: Lab) -> Trained:
    """The base, the base with trained codebooks, and the base with its activations as codes."""
    keys = jax.random.split(jax.random.key(lab.config.seed), 3)
    params, curve = train_base(lab, keys[0])
    books = sampled_books(lab, params, keys[1])
    coded, metrics = train_codes(lab, params, books, keys[2])
    curves = {
        "base": curve,
        "with codebooks": metrics["loss"],
        "error": metrics["codebook_loss"],
        "dead": metrics["dead"],
    }
    return Trained(Network(params, books, off=True), coded, Network(params, books), curves)


# --- what a network does ---------------------------------------------------------------------

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


# --- the experiment ----------------------------------------------------------------------------


class Seen(NamedTuple):
    """Everything measured of one network with codebooks."""

    nats: np.ndarray  # [texts], a token
    accuracy: np.ndarray  # [written texts]
    states: list[Found]  # by layer
    patched: dict[str, dict[str, Ratio]]  # by what is put in place, then by kind


SETTINGS = {"state": "a state", "digit": "a state and a digit"}


def look(
    programs: Programs, network: Network, texts: Texts, half: np.ndarray, which: list[Kind]
) -> Any:
    """What is measured of a network, and what it computed."""
    config, machine = programs.lab.config, programs.lab.machine
    found = programs.read(network, texts.tokens)
    nats = found["nats"].mean(1, dtype=np.float64)
    accuracy = programs.written(network, jax.random.key(config.seed + 1))
    if network.off:
        return Seen(nats, accuracy, [], {}), found
    states = [
        best_codes(found[MLP][:, :, i, 0], texts.states, half, config.mlp_codes, machine.states)
        for i in range(config.layers)
    ]
    classes = {
        "state": (texts.states, machine.states),
        "digit": (texts.trigrams, len(machine.trigrams)),
    }
    patched: dict[str, dict[str, Ratio]] = {}
    for name, (labels, number) in classes.items():
        arguments = (programs, network, texts, found, labels, number, half)
        patched[name] = jsd_ratio(*arguments, which)
        patched[f"{name}, random"] = jsd_ratio(*arguments, which[:1], random=True)
    return Seen(nats, accuracy, states, patched), found


def main(config: Config, out: Any) -> runs.Result:
    """Train, read the codes, put others in place."""
    lab = lab_of(config)
    trained = train(lab)
    tokens = lab.machine.sample(config.texts, lab.length, seed=2 * config.seed + 2)
    second = lab.machine.digit_of(tokens) == 1
    texts = Texts(
        tokens, np.where(second, lab.machine.states_of(tokens), -1), lab.machine.trigrams_of(tokens)
    )
    half = np.random.default_rng(config.seed).permutation(config.texts) < config.texts // 2
    which = kinds(config.layers)
    programs = Programs(lab)
    base, base_found = look(programs, trained.base, texts, half, which)
    coded, _ = look(programs, trained.coded, texts, half, which)
    sampled, _ = look(programs, trained.sampled, texts, half, which[:1])
    neurons = [
        neurons_at_recall(
            base_found["neurons"][:, :, i].reshape(-1, base_found["neurons"].shape[-1]),
            texts.states.reshape(-1),
            np.repeat(half, tokens.shape[1]),
            coded.states[i].recall,
        )
        for i in range(config.layers)
    ]
    out.arrays(
        precision=np.stack([f.precision for f in coded.states]),
        recall=np.stack([f.recall for f in coded.states]),
        best=np.stack([f.best for f in coded.states]),
        sampled_precision=np.stack([f.precision for f in sampled.states]),
        sampled_recall=np.stack([f.recall for f in sampled.states]),
        neuron_precision=np.stack(neurons),
        **{f"curve_{name.replace(' ', '_')}": v for name, v in trained.curves.items()},
    )  # fmt: skip
    save_codes(lab, trained.coded, texts, out)
    rows = summarised(lab, base, coded, sampled, neurons)
    with figures.style():
        out.figure("training", training_figure(lab, trained.curves), caption=CAPTIONS[0])
        out.figure("states", states_figure(coded, sampled, neurons), caption=CAPTIONS[1])
        out.figure("interventions", jsd_figure(coded, sampled), caption=CAPTIONS[2])
    return runs.Result(QUESTION, answer(base, coded, sampled, neurons), tuple(rows))


def save_codes(lab: Lab, network: Network, texts: Texts, out: Any) -> None:
    """The codes of some texts as an index, for `activjax codes`."""
    batches = np.array_split(texts.tokens[:SIZE], 1)
    codebooks.index(
        lab.model.apply, lab.spec, network.params, network.books, batches, out.folder / "codes",
        vocabulary=lab.machine.tokens, overwrite=True,
    )  # fmt: skip


def summarised(
    lab: Lab, base: Seen, coded: Seen, sampled: Seen, neurons: list[np.ndarray]
) -> list[runs.Row]:
    """The numbers, each beside what is trivial."""
    floor = float(lab.machine.entropy(lab.length).mean())
    over, control = runs.Row.over, "activations as codes, untrained"
    rows: list[runs.Row] = []
    for name, seen in (("codebooks", coded), ("activations as codes", sampled)):
        rows += [
            over("nats a token above the base", seen.nats - base.nats, unit="nats",
                 baseline=float((sampled.nats - base.nats).mean()), baseline_name=control,
                 network=name),
            over("transitions written that exist", seen.accuracy, baseline=base.accuracy,
                 baseline_name="base network", network=name),
        ]  # fmt: skip
    rows.insert(
        0, over("nats a token of the base", base.nats, unit="nats", baseline=floor,
                baseline_name="entropy of the machine")
    )  # fmt: skip
    for i, (mine, theirs, units) in enumerate(zip(coded.states, sampled.states, neurons)):
        where: dict[str, Any] = {"layer": i}
        rows += [
            runs.Row("different codes of the states", float(len(set(mine.best))), None, None, 1, "",
                     float(len(set(theirs.best))), control, where),
            over("precision of a state's code", mine.precision, baseline=theirs.precision,
                 baseline_name=control, **where),
            over("recall of a state's code", mine.recall, baseline=theirs.recall,
                 baseline_name=control, **where),
            over("precision of a state's best neuron at its code's recall",
                 units[np.isfinite(units)], baseline=1 / lab.machine.states / 2,
                 baseline_name="any place", **where),
        ]  # fmt: skip
    for name, title in SETTINGS.items():
        chance = coded.patched[f"{name}, random"]["all MLP codes"].value
        for kind, ratio in coded.patched[name].items():
            rows.append(
                runs.Row("JSD to the target, of that before", *ratio, lab.config.pairs, "", chance,
                         "all MLP codes of a random class", {"put": title, "by": kind})
            )  # fmt: skip
        rows.append(
            runs.Row("JSD to the target, of that before, activations as codes",
                     *sampled.patched[name]["all MLP codes"], lab.config.pairs, "",
                     sampled.patched[f"{name}, random"]["all MLP codes"].value,
                     "all MLP codes of a random class", {"put": title, "by": "all MLP codes"})
        )  # fmt: skip
    return rows


def answer(base: Seen, coded: Seen, sampled: Seen, neurons: list[np.ndarray]) -> str:
    """A few plain sentences."""
    cost = float((coded.nats - base.nats).mean())
    last, control = coded.states[-1], sampled.states[-1]
    digit = coded.patched["digit"]["all MLP codes"].value
    others = sampled.patched["digit"]["all MLP codes"].value
    return (
        f"With one code a token after every MLP and in every head the network loses {cost:.3f} "
        f"nats a token and {coded.accuracy.mean():.1%} of the transitions that it writes exist "
        f"(base {base.accuracy.mean():.1%}). In the last layer the 100 states have "
        f"{len(set(last.best))} different codes, of precision {last.precision.mean():.3f} and "
        f"recall {last.recall.mean():.2f}; the best neuron has precision "
        f"{np.nanmean(neurons[-1]):.2f} at that recall. But codes that are untrained activations "
        f"have precision {control.precision.mean():.3f} and recall {control.recall.mean():.2f}: "
        f"what training buys is the loss ({float((sampled.nats - base.nats).mean()):.2f} nats "
        f"above the base with them). Putting the MLP codes of another state and digit in place "
        f"leaves {digit:.3f} of the divergence from what follows there (untrained codes "
        f"{others:.3f}, a random class {coded.patched['digit, random']['all MLP codes'].value:.2f})."
    )


CAPTIONS = (
    "Training: the loss without and with codebooks in nats a token, beside the entropy of the "
    "machine; the codes' error; codes that nothing chose since the last revival (they are counted "
    "anew after each).",
    "Precision and recall of the code of each state at the state's second digit, on texts that it "
    "was not chosen on: trained codes, untrained activations as codes, and the best neuron of the "
    "base network at the recall of the trained code. The horizontal axis is recall.",
    "What is left of the Jensen-Shannon divergence between what the network expects next and what "
    "it expects in the target text, after codes of the target were put in place at one token: 0 is "
    "a perfect change, 1 is none. Bars are 95 % intervals over pairs of texts.",
)


def smooth(values: np.ndarray, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Means of stretches of steps, at their middles."""
    n = max(1, len(values) // width) if len(values) >= width else len(values)
    parts = np.array_split(values, n)
    ends = np.cumsum([len(p) for p in parts])
    return ends - np.array([len(p) for p in parts]) / 2, np.array([p.mean() for p in parts])


def training_figure(lab: Lab, curves: dict[str, np.ndarray]) -> Any:
    """Loss, error of the codes, dead codes."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    steps = lab.config.base_steps
    axes[0].plot(*smooth(curves["base"]), label="base")
    x, y = smooth(curves["with codebooks"])
    axes[0].plot(x + steps, y, label="with codebooks")
    axes[0].axhline(
        float(lab.machine.entropy(lab.length).mean()), color="0.4", ls=":", label="entropy"
    )
    axes[0].set(xlabel="step", ylabel="loss (nats a token)", ylim=(1.15, 2.4))
    axes[0].legend()
    x, y = smooth(curves["error"])
    axes[1].plot(x + steps, y)
    axes[1].set(xlabel="step", ylabel="squared error of the codes", yscale="log")
    x, y = smooth(curves["dead"])
    axes[2].plot(x + steps, y)
    axes[2].set(xlabel="step", ylabel="codes unused since revival (share)", ylim=(0, None))
    return fig


def states_figure(coded: Seen, sampled: Seen, neurons: list[np.ndarray]) -> Any:
    """Precision against recall, a point a state, a panel a layer."""
    fig, axes = plt.subplots(
        1, len(neurons), figsize=(4.6 * len(neurons), 3.9), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for i, ax in enumerate(axes[0]):
        for label, found, marker in (
            ("trained codes", coded.states[i], "o"), ("untrained codes", sampled.states[i], "^"),
        ):  # fmt: skip
            ax.scatter(found.recall, found.precision, s=18, marker=marker, alpha=0.7, label=label)
        ax.scatter(coded.states[i].recall, neurons[i], s=22, marker="x", label="best neuron")
        ax.set(xlabel="recall", title=f"layer {i}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.06))
    axes[0, 0].set_ylabel("precision")
    figures.legend_below(fig, axes)
    return fig


def jsd_figure(coded: Seen, sampled: Seen) -> Any:
    """What is left of the divergence, by what was put in place."""
    fig, axes = plt.subplots(
        1, 2, figsize=(10, 3.4), layout="constrained", sharex=True, sharey=True
    )
    for ax, (name, title) in zip(axes, SETTINGS.items(), strict=True):
        bars = dict(coded.patched[name])
        bars["all MLP codes, untrained"] = sampled.patched[name]["all MLP codes"]
        bars["MLP codes of a random class"] = coded.patched[f"{name}, random"]["all MLP codes"]
        y = np.arange(len(bars))[::-1]
        values = np.array([(b.value, b.value - b.low, b.high - b.value) for b in bars.values()])
        ax.barh(y, values[:, 0], xerr=np.maximum(values[:, 1:].T, 0), capsize=3, height=0.7)
        ax.set_yticks(y, list(bars))
        ax.axvline(1, color="0.4", ls=":")
        ax.set(xlabel="JSD to the target (before: 1)", title=f"codes of {title}")
    return fig
