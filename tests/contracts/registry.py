"""Every public transform and method, with small inputs: what the contract tests run over.

A new method is entered here; `test_contracts.test_every_public_name_is_entered` fails until it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import activjax as aj
from activjax import codebooks, fit, membership, models, patterns, stats, verify

D = 6


@dataclass(frozen=True)
class Case:
    """One function under the contract.

    Attributes:
      name: the public name, with a variant after a dot.
      fn: a pure function of arrays.
      args: `args(n, dtype, seed)` builds its arguments for n examples, the data first.
      differentiable: whether gradients with respect to the data mean something.
      empty: "works", or part of the error that n = 0 gives.
      single: the same for n = 1; or "nan", a result that says so.
      nan: what a NaN in the data does: "spreads" to some output, counts as "inactive" (like -1),
        or leaves outputs "finite" (they are choices, or the value was replaced).
      tol: relative and absolute tolerance between two compilations of the same arithmetic.
      counted: whether floating-point outputs are ratios of counts, float32 whatever the data.
    """

    name: str
    fn: Callable[..., Any]
    args: Callable[..., tuple[Any, ...]]
    differentiable: bool = True
    empty: str = "works"
    single: str = "works"
    nan: str = "spreads"
    tol: float = 1e-5
    counted: bool = False


def rows(n: int, dtype: Any = jnp.float32, seed: int = 0) -> tuple[Any, ...]:
    """`[n, D]` examples."""
    return (jax.random.normal(jax.random.key(seed), (n, D), dtype),)


def labelled(n: int, dtype: Any = jnp.float32, seed: int = 0) -> tuple[Any, ...]:
    """Examples and labels 0, 1, 2."""
    return (*rows(n, dtype, seed), jnp.arange(n, dtype=jnp.int32) % 3)


MLP = models.mlp([D, 8, 5])
PARAMS = MLP.init(jax.random.key(1))
WS = jax.random.normal(jax.random.key(2), (4, D, D)) / D


def network(x: jax.Array) -> jax.Array:
    """A scanned network on rows, with sites in and around the loop."""

    def layer(h: jax.Array, w: jax.Array) -> Any:
        h = jnp.matmul(h, w.astype(h.dtype), precision="highest")
        return aj.tag(jnp.tanh(h), "post", axes="batch d"), None

    h = aj.tag(jax.nn.relu(x), "in", axes="batch d")
    h, _ = aj.scan(jax.checkpoint(layer), h, WS, name="layers")
    return aj.tag(h.sum(axis=-1), "out", axes="batch")


E = aj.edits
V = jnp.linspace(-1.0, 1.0, D)
EDITS = {
    "add": E.add(V),
    "replace": E.replace(V),
    "scale": E.scale(0.5),
    "project_out": E.project_out(V),
    "patch_subspace": E.patch_subspace(V, jnp.eye(D)[:2]),
    "clamp": E.clamp(-0.5, 0.5),
    "top_k": E.top_k(2),
    "renorm": E.renorm(E.add(V)),
    "chain": E.chain(E.add(V), jnp.negative),
    "each": E.add(E.each(jnp.ones((4, D)))),
}


def _apply_mlp(x: jax.Array) -> jax.Array:
    return MLP.apply(jax.tree.map(lambda p: p.astype(x.dtype), PARAMS), x)


def _act_jvp(x: jax.Array) -> Any:
    _, acts, pushforward = aj.act_jvp(network, "post")(x)
    return acts, pushforward({"post": acts["post"]})


def _act_vjp(x: jax.Array) -> Any:
    out, acts, pullback = aj.act_vjp(network, "post")(x)
    return acts, pullback(jnp.ones_like(out))


TRANSFORMS = [
    Case("capture", aj.capture(network), rows),
    Case("capture.mlp", aj.capture(_apply_mlp), rows),
    Case("capture.layer", aj.capture(network, aj.select("post", layers=2), out=False), rows),
    Case("capture.position", aj.capture(network, aj.select("post", at={"d": [3, 0]})), rows),
    Case("act_vjp", _act_vjp, rows),
    Case("act_jvp", _act_jvp, rows),
    Case("act_grads", aj.act_grads(lambda x: network(x).sum(), "post"), rows),
    *(
        Case(
            f"intervene.{name}",
            aj.intervene(network, {"post": edit}),
            rows,
            differentiable=name != "replace",  # nothing is left of the data
            nan="finite" if name == "replace" else "spreads",
        )
        for name, edit in EDITS.items()
    ),
]


def _codes(x: Any) -> patterns.Codes:
    return patterns.codes({"h": x})


def _hard(name: str, fn: Callable[..., Any], args: Any = rows, **options: Any) -> Case:
    # Codes are bits: no gradient, and equal to the bit.
    options = {"differentiable": False, "nan": "inactive", "tol": 0.0, **options}
    return Case(name, fn, args, **options)


PATTERNS = [
    _hard("codes", _codes),
    _hard("unpack", lambda x: patterns.unpack(_codes(x))),
    _hard("hamming", lambda x: patterns.hamming(_codes(x), _codes(x + 1))),
    _hard(
        "flips",
        lambda x: patterns.flips(_codes(x), _codes(x - 1)),
        empty="no examples",
        counted=True,
    ),
    _hard("count_distinct", lambda x: patterns.count_distinct(_codes(x))),
    _hard("partition", lambda x: patterns.partition(_codes(x))),
    _hard(
        "redundancy_ratio",
        lambda x: patterns.redundancy_ratio(_codes(x)),
        empty="no examples",
        counted=True,
    ),
    _hard("neuron_partition", lambda x: patterns.neuron_partition(_codes(x)), empty="no examples"),
]

NOTHING = "nothing to fit|expected .n., n >= 1"

FIT = [
    Case(
        "knn",
        lambda x, y: fit.knn(fit.pairwise_sq_euclidean(x), y, k=1, n_classes=3),
        labelled,
        differentiable=False,
        empty=NOTHING,
        nan="finite",
    ),
    Case(
        "pairwise_sq_euclidean",
        lambda x: fit.pairwise_sq_euclidean(x),
        rows,
        empty=NOTHING,
        tol=1e-4,
    ),
    Case(
        "logistic",
        lambda x, y: fit.logistic(x, y, l2=1.0, n_classes=3).coef,
        labelled,
        differentiable=False,  # through a while loop of unknown length
        empty=NOTHING,
        tol=1e-3,
    ),
    Case(
        "kmeans",
        lambda x: fit.kmeans(jax.random.key(0), x, 1).centers,
        rows,
        differentiable=False,
        empty=NOTHING,
        tol=1e-4,
    ),
    Case(
        "majority_vote",
        lambda x, y: fit.majority_vote(y % 2, y, n_clusters=2, n_classes=3),
        labelled,
        differentiable=False,
        empty=NOTHING,
        nan="finite",
    ),
    Case("ridge", lambda x: fit.ridge(x, x[:, 0], 1.0).coef, rows, empty=NOTHING, tol=1e-4),
    Case(
        "pca",
        lambda x: fit.pca(x, 1).explained_variance,
        rows,
        empty=NOTHING,
        single="at least 2",
        tol=1e-4,
    ),
    Case(
        "mean_difference",
        lambda x, y: fit.mean_difference(x, y % 2).score(x),
        labelled,
        empty=NOTHING,
        single="nan",
        tol=1e-4,
    ),
    Case(
        "lda",
        lambda x, y: fit.lda(x, y, n_classes=3, shrinkage=0.2).coef,
        labelled,
        empty=NOTHING,
        single="nan",
        tol=1e-3,
    ),
    Case(
        "procrustes",
        lambda x: fit.procrustes(x, jnp.tanh(x) + x**2).rotation,
        rows,
        differentiable=False,  # through singular vectors of what may coincide
        empty=NOTHING,
        tol=1e-2,
    ),
    Case(
        "probe",
        lambda x, y: fit.probe(
            jax.random.key(0), (x, y, y), (x, y, y), n_classes=3, n_types=3, draws=2
        ),
        labelled,
        differentiable=False,  # accuracies
        empty=NOTHING,
        tol=1e-5,
    ),
    Case(
        "ridge_from_moments",
        lambda x: (
            fit.ridge_from_moments(
                _moments_of(x), _moments_of(x)[:, 0], x.sum(0), x.sum(0)[0], 1.0
            ).coef
        ),
        rows,
        tol=1e-4,
    ),
    Case(
        "activation_pattern",
        lambda x: fit.activation_pattern(jnp.ones(D, x.dtype), jnp.eye(D, dtype=x.dtype) + x.T @ x),
        rows,
        tol=1e-4,
    ),
    Case("standardise", lambda x: fit.standardise(x).transform(x), rows, empty=NOTHING),
]


def _ids(n: int, dtype: Any = jnp.float32, seed: int = 0) -> tuple[Any, ...]:
    """Rows, their numbers and labels."""
    return (*labelled(n, dtype, seed), jnp.arange(n, dtype=jnp.uint32))


def _gathered(acc: stats.Accumulator) -> Callable[..., Any]:
    def fn(x: jax.Array, labels: jax.Array, ids: jax.Array) -> Any:
        state = acc.init(jax.ShapeDtypeStruct((1, x.shape[-1]), x.dtype))
        rows = stats.Rows(labels=labels, ids=ids)
        half = len(x) // 2
        first = acc.update(state, x[:half], jax.tree.map(lambda a: a[:half], rows))
        return acc.finish(acc.merge(first, acc.update(state, x, rows)))

    return fn


def _moments_of(x: jax.Array) -> jax.Array:
    acc = stats.moments("full")
    return acc.finish(acc.update(acc.init(x), x)).scatter


def _sum(name: str, acc: stats.Accumulator, **options: Any) -> Case:
    return Case(name, _gathered(acc), _ids, **{"tol": 1e-4, **options})


def _choice(name: str, acc: stats.Accumulator, **options: Any) -> Case:
    options = {"differentiable": False, "nan": "finite", "tol": 0.0, **options}
    return Case(name, _gathered(acc), _ids, **options)


SUMMARIES = [
    _sum("moments", stats.moments()),
    _sum("moments.full", stats.moments("full")),
    _sum("moments.labels", stats.moments("full", labels=3)),
    _sum("cross", stats.cross().of(lambda x: (x, x[..., :2]))),
    # Its eigenvectors have signs, and no derivative where eigenvalues meet.
    _sum(
        "range_sketch",
        stats.range_sketch(jax.random.key(0), 2).of(jnp.tanh),
        differentiable=False,
        tol=1e-2,
    ),
    _choice("histogram", stats.histogram()),
    _choice("exceedances", stats.exceedances((0.0, 1.0))),
    _choice("coactive", stats.coactive(labels=3)),
    _choice("top_k", stats.top_k(4)),
    _choice("reservoir", stats.reservoir(jax.random.key(0), 20), nan="spreads"),
    _choice("together", stats.together(a=stats.histogram(8), b=stats.coactive())),
    Case("spectrum", lambda x: stats.spectrum(_moments_of(x)).eigenvalues, rows, tol=1e-4),
    Case("spectral_entropy", lambda x: stats.spectral_entropy(1 + x**2), rows, tol=1e-4),
    Case("effective_rank", lambda x: stats.effective_rank(1 + x**2), rows, tol=1e-4),
    Case(
        "cka",
        lambda x: stats.cka(x, jnp.tanh(x)),
        rows,
        empty="0 examples",
        single="1 example",
        tol=1e-4,
    ),
    Case(
        "cka_from_scatter",
        lambda x: stats.cka_from_scatter(*[_moments_of(x) + jnp.eye(D, dtype=x.dtype)] * 3),
        rows,
        tol=1e-4,
    ),
    Case(
        "svcca",
        lambda x: stats.svcca(*[_moments_of(x) + jnp.eye(D, dtype=x.dtype)] * 3).mean,
        rows,
        differentiable=False,  # through eigenvectors of what may coincide
        tol=1e-3,
    ),
]


def _drift(x: jax.Array, y: jax.Array, **fields: Any) -> jax.Array:
    spec = membership.DriftSpec(method="ghost", **fields)
    params = jax.tree.map(lambda p: p.astype(x.dtype), PARAMS)
    return membership.features(membership.drift(MLP.apply, params, x, y, spec)).values


MEMBERSHIP = [
    Case("drift", _drift, labelled, empty="no examples", tol=1e-4),
    Case("ascend", lambda x, y: _drift(x, y, norm="raw"), labelled, empty="no examples", tol=1e-4),
    Case("confidence", membership.confidence, labelled),
    Case("margin_score", membership.margin_score, labelled),
    Case("entropy_score", lambda x: membership.entropy_score(x), rows),
]

CODES = jax.random.normal(jax.random.key(3), (2, 9, D // 2))


def _bottleneck(x: jax.Array, **fields: Any) -> jax.Array:
    spec = codebooks.Spec(9, groups=2, **fields)
    return codebooks.bottleneck({"codes": CODES, "scale": jnp.ones(2)}, x, spec)[0]


def _penalty(x: jax.Array) -> jax.Array:
    # the input has no part in its gradient
    return codebooks.loss({"site": codebooks.bottleneck(CODES, x, codebooks.Spec(9, 2, 2))[1]})


CODEBOOKS = [
    Case("bottleneck", _bottleneck, rows),
    Case("bottleneck.layer", lambda x: _bottleneck(x, k=3, norm="layer", reduce="mean"), rows),
    Case("loss", _penalty, rows, differentiable=False, tol=1e-4),
]


def _bounds(x: jax.Array, method: Any = "crown") -> Any:
    def one(row: jax.Array) -> Any:
        box = row - 0.1, row + 0.1
        return verify.bound(lambda v: _apply_mlp(v[None])[0], box, method, select=None, steps=3)

    found = jax.vmap(one)(x)
    return found.lower, found.upper * 2  # else their gradients would cancel


# A NaN in a box leaves bounds of -infinity and infinity.
VERIFY = [
    Case("bound", _bounds, rows, nan="finite"),
    Case("bound.alpha", lambda x: _bounds(x, "alpha"), rows, nan="finite", tol=1e-4),
]

CASES = [*TRANSFORMS, *PATTERNS, *FIT, *SUMMARIES, *MEMBERSHIP, *CODEBOOKS, *VERIFY]

#: Public names that are no functions of arrays, or that other cases run through.
EXEMPT = {
    "transforms": {
        # every case above uses or reads these
        "edits", "scan", "scope", "select", "sites", "tag",
        "parse_edit",  # of plain data: test_parse.py
        "parse_edits",
        "parse_selector", "per_example",
        "tag_primitives",  # of functions without tags: test_modules.py
        "tag_modules",  # of modules, not of arrays: test_modules.py
        "Selector", "Site", "SiteError", "SiteTable",
    },
    "patterns": {"Codes", "Flips", "Partition", "Distinct", "DistinctCounter"},
    "stats": {
        "Accumulator", "Rows", "Count",
        "Coactivation", "Cross", "Exceedances", "Histogram", "Moments", "RangeSketch", "SVCCA",
        "Sample", "Spectrum", "TopK",
        # of functions and streams: test_harvest.py
        "harvest", "Harvest", "HarvestState",
        # on the host, in float64: tests/stats
        "MarchenkoPastur", "marchenko_pastur", "mean_interval", "ratio_interval", "wilson",
        "Massive", "SparsityCurve", "massive_activations", "massive_table", "sparsity_curve",
        "Delong", "Estimate", "auprc", "auroc", "bootstrap", "delong", "ece", "fpr_at_tpr",
        "tpr_at_fpr",
    },
    "regions": {
        # of functions, on the host: tests/regions
        "DEFINITIONS", "MEANINGS", "Count", "Movement", "Plane", "Polygons", "Regions", "Segments",
        "count", "enumerate", "film", "is_piecewise_linear", "moved", "on_plane", "on_segment",
        "on_segments", "plane_through", "plot", "strip",
    },
    "membership": {
        # what `drift` is made of and gives: test_drift.py
        "Ascent", "Drift", "DriftSpec", "Features", "OutDrift", "SiteDrift", "cross_entropy",
        "features", "random_directions",
        # of tokens, texts and several models: test_scores.py, test_references.py
        "TokenStatistics", "grad_norm_score", "lira", "loss_score", "mean_out", "min_k",
        "min_k_plus_plus", "recall_losses", "recall_score", "reference_score", "rmia", "scores",
        "token_statistics", "zlib_bytes", "zlib_score",
        # on the host: tests/membership
        "Attack", "Blind", "Evaluation", "Permuted", "Row", "Shadows", "blind", "blind_features",
        "check_overlap", "compare", "duplicates", "evaluate", "fit_attack", "half_splits", "halves",
        "near_duplicates", "permuted", "roc", "stacked", "train_shadows",
    },
    "codebooks": {
        "Ema", "Inputs", "Override", "Overrides", "Spec", "Strategy", "Trace", "TrainState",
        "Usage",
        # of functions and pytrees: tests/codebooks
        "ema", "ema_init", "init", "init_state", "inputs", "load", "optimiser", "overrides",
        "revive", "run", "save", "track", "train_step", "tune", "usage",
        # on the host and on disk: test_index.py, test_find.py, test_viewer.py
        "Code", "Found", "Hit", "Index", "IndexWriter", "Layout", "cooccurrence", "find", "index",
        "labels", "open_index", "reported_half", "save_view", "token_table", "topic_coverage",
        "write_page",
    },
    "introspection": {
        # functions of functions, of models and of trials: tests/introspection
        "BASELINE", "Bias", "CONCEPTS", "ConceptBank", "Condition", "Conversation", "Examples",
        "Features", "Full", "KINDS", "Laboratory", "LoRA", "MIX", "Patched", "Prompts",
        "Rate", "Reader", "Readings", "Replay", "Report", "Rows", "SideEffects",
        "Talk", "Templates", "Trials", "Tuned",
        "ablate", "ask", "claims", "concept_vectors", "contrast", "conversation", "evaluate",
        "features", "inject", "inject_vectors", "laboratory", "monotone", "parse_templates",
        "patch_units", "put", "rate", "respond", "side_effects", "sweep", "train", "vectors_of",
    },
    "verify": {
        # of problems, files and proofs: tests/verify
        "Bounds", "Budget", "Case", "Checked", "Clause", "FormatError", "Leaf", "Literal",
        "Multipliers", "Nap", "NapCurve", "Pattern", "Problem", "Property", "Radius", "Statistics",
        "Tree", "Verdict", "Witness",
        "above", "check", "largest", "mine_nap", "nap_curve", "prove", "radius",
        "smallest",
    },
    "zonotope": {
        # on the host, in exact arithmetic: tests/zonotope
        "Cells", "Fit", "Sample", "Search", "Vertices", "cells", "count", "local_search",
        "neighbours", "sample", "select_vertices", "solve", "stream", "vertices",
    },
    "fit": {
        "KMeans", "LDA", "Linear", "Logistic", "MeanDifference", "PCA", "Probe", "Procrustes",
        "Standardise",
        # on the host, in float64: test_linear_program.py
        "Certificate", "LinearProgram", "linear_program",
        "one_blas_thread",  # a context
    },
}  # fmt: skip
