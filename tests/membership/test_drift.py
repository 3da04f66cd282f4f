"""The drift of activations: identities, invariances, measures by hand, errors."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import membership, models
from activjax.membership._ascent import Climber
from activjax.membership._examples import Examples
from tests.membership.networks import CASES

METHODS = ("loop", "vmap", "ghost")
MLP = models.mlp([6, 7, 4])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 6)).astype(np.float32)
Y = RNG.integers(0, 4, 6).astype(np.int32)
PARAMS = MLP.init(jax.random.key(0))
TEXT = models.decoder(vocab=11, context=8, layers=2, width=8, heads=2)
TOKENS = RNG.integers(0, 11, (4, 8)).astype(np.int32)
TARGETS = RNG.integers(0, 11, (4, 8)).astype(np.int32)
MASK = np.arange(32).reshape(4, 8) % 5 > 0
TEXT_PARAMS = TEXT.init(jax.random.key(0))


def spec(**fields: Any) -> membership.DriftSpec:
    """Ghosts wherever there can be any."""
    return membership.DriftSpec(**{"method": "ghost", "layer_rule": False, **fields})


def text_drift(tokens: Any, targets: Any, mask: Any, **options: Any) -> Any:
    """The drift of the decoder."""
    own = options.pop("spec", spec())
    return membership.drift(TEXT.apply, TEXT_PARAMS, tokens, targets, own, mask=mask, **options)


def close(a: Any, b: Any, tol: float = 1e-5) -> None:
    """Equal, relative to the largest value of each array."""

    def of(u: Any, v: Any) -> None:
        assert float(jnp.max(jnp.abs(u - v))) <= tol * max(1e-3, float(jnp.max(jnp.abs(u))))

    jax.tree.map(of, a, b)


@pytest.mark.parametrize("method", METHODS)
def test_slope_of_the_loss_is_the_squared_norm(method):
    """d loss / d step at 0 is |g|^2; central differences, whose error falls with the square."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: a.astype(jnp.float64), PARAMS)
        x = jnp.asarray(X, jnp.float64)
        step = 1e-4

        def loss_after(eta: Any) -> Any:
            found = membership.ascend(
                MLP.apply, params, x, Y, spec(eta=eta, norm="raw", method=method, sites=())
            )
            return found.loss_after, found.grad_norm

        (up, norm), (down, _) = (loss_after(eta) for eta in (step, -step))
        slope = (up - down) / (2 * step)
        np.testing.assert_allclose(slope, norm**2, rtol=1e-6)
        # and of the unit step it is |g|
        unit = [
            membership.ascend(MLP.apply, params, x, Y, spec(eta=eta, method=method, sites=()))
            for eta in (step, -step)
        ]
        slope = (unit[0].loss_after - unit[1].loss_after) / (2 * step)
        np.testing.assert_allclose(slope, norm, rtol=1e-6)


def test_the_norm_is_that_of_the_gradient():
    def loss(params: Any, x: Any, y: Any) -> Any:
        return membership.cross_entropy(MLP.apply(params, x[None])[0], y)

    grads = jax.vmap(jax.grad(loss), (None, 0, 0))(PARAMS, X, Y)
    norms = jnp.sqrt(sum(jnp.square(g).reshape(6, -1).sum(1) for g in jax.tree.leaves(grads)))
    for method in METHODS:
        found = membership.drift(MLP.apply, PARAMS, X, Y, spec(method=method))
        np.testing.assert_allclose(found.grad_norm, norms, rtol=1e-5)
        np.testing.assert_allclose(found.step * found.grad_norm, 1, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["unit", "raw"])
def test_no_step_no_drift(method, norm):
    """Exactly 0 for eta = 0, and for an example without a gradient; parameters stay."""
    before = jax.tree.map(np.array, TEXT_PARAMS)
    mask = MASK.copy()
    mask[2] = False
    still = text_drift(TOKENS, TARGETS, mask, spec=spec(eta=0.0, norm=norm, method=method))
    assert np.all(membership.features(still).values == 0)
    moved = text_drift(TOKENS, TARGETS, mask, spec=spec(norm=norm, method=method))
    values = np.asarray(membership.features(moved).values)
    assert np.all(values[2] == 0)
    assert moved.loss[2] == 0
    assert np.isfinite(values).all()
    assert (values[[0, 1, 3], :-1] != 0).all()
    jax.tree.map(np.testing.assert_array_equal, before, TEXT_PARAMS)


def test_order_and_chunks_do_not_matter():
    whole = text_drift(TOKENS, TARGETS, MASK)
    order = np.array([2, 0, 3, 1])
    mixed = text_drift(TOKENS[order], TARGETS[order], MASK[order], chunk=3)
    close(jax.tree.map(lambda a: a[order], whole), mixed)
    one = text_drift(TOKENS[1:2], TARGETS[1:2], MASK[1:2])
    close(jax.tree.map(lambda a: a[1:2], whole), one)


def test_padding_does_not_matter():
    """Whatever stands where the mask is false, after the text, changes nothing."""
    mask = np.ones_like(MASK)
    mask[:, 5:] = False
    padded, labels = TOKENS.copy(), TARGETS.copy()
    padded[:, 5:], labels[:, 5:] = 3, -100
    short = text_drift(TOKENS[:, :5], TARGETS[:, :5], np.ones((4, 5), bool))
    close(short, text_drift(padded, labels, mask))


def test_one_program_for_every_strength(compilations):
    args = (MLP.apply, PARAMS, X, Y)
    membership.drift(*args, spec(eta=0.1)).loss.block_until_ready()
    with compilations() as seen:
        for eta in (0.2, 0.5):
            membership.drift(*args, spec(eta=eta)).loss.block_until_ready()
    assert not seen


def test_maps_over_strengths_and_models():
    models_ = jax.vmap(MLP.init)(jax.random.split(jax.random.key(3), 2))
    etas = jnp.array([0.1, 1.0])

    def of(params: Any, eta: Any) -> Any:
        return membership.features(membership.drift(MLP.apply, params, X, Y, spec(eta=eta))).values

    both = jax.jit(jax.vmap(jax.vmap(of, (None, 0)), (0, None)))(models_, etas)
    for i in range(2):
        for k in range(2):
            own = jax.tree.map(lambda a, i=i: a[i], models_)
            close(both[i, k], of(own, etas[k]))


def test_frozen_parameters_stay():
    """A step of one layer alone: what comes before it does not move."""
    last = text_drift(TOKENS, TARGETS, MASK, spec=spec(moves="final/*"))
    assert all(float(jnp.abs(s.norm_mean).max()) == 0 for s in last.sites.values())
    assert float(last.out.norm.min()) > 0
    all_ = text_drift(TOKENS, TARGETS, MASK)
    assert np.all(np.asarray(last.grad_norm) < np.asarray(all_.grad_norm))


def test_measures_by_hand():
    u = np.eye(7, dtype=np.float32)[:2]
    own = spec(eta=0.5, directions={"layers/0/post": u}, sites="layers/0/post")
    with jax.numpy_dtype_promotion("standard"):
        found = membership.drift(MLP.apply, PARAMS, X, Y, own)
        at = membership.ascend(MLP.apply, PARAMS, X, Y, own)
    (z, acts), (z2, acts2) = (jax.tree.map(np.float64, s) for s in (at.before, at.after))
    h, h2 = acts["layers/0/post"], acts2["layers/0/post"]
    size = np.linalg.norm(h2 - h, axis=1)
    cosine = (h * h2).sum(1) / np.linalg.norm(h, axis=1) / np.linalg.norm(h2, axis=1)
    site = found.sites["layers/0/post"]
    np.testing.assert_allclose(site.norm_mean, size, rtol=1e-5)
    np.testing.assert_allclose(site.relative, size / np.linalg.norm(h, axis=1), rtol=1e-5)
    np.testing.assert_allclose(site.turn, 1 - cosine, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(site.along, np.abs((h2 - h)[:, :2]), rtol=1e-5, atol=1e-6)
    assert site.norm_max is None
    p, q = (np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in (z, z2))
    rows = np.arange(6)
    np.testing.assert_allclose(found.out.norm, np.linalg.norm(z2 - z, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.out.label_logit, (z2 - z)[rows, Y], rtol=1e-4)
    np.testing.assert_allclose(found.out.kl, (p * np.log(p / q)).sum(1), rtol=1e-4)
    np.testing.assert_allclose(found.loss, -np.log(p[rows, Y]), rtol=1e-5)
    np.testing.assert_allclose(
        found.loss_drift, np.log(p[rows, Y]) - np.log(q[rows, Y]), rtol=1e-4, atol=1e-5
    )


def test_measures_over_positions_by_hand():
    own = spec(sites="blocks/resid_post")
    found = text_drift(TOKENS, TARGETS, MASK, spec=own)
    at = membership.ascend(TEXT.apply, TEXT_PARAMS, TOKENS, TARGETS, own, mask=MASK)
    h, h2 = (np.float64(s[1]["blocks/resid_post"]) for s in (at.before, at.after))
    assert h.shape == (4, 2, 8, 8)  # examples, layers, tokens, width
    size = np.linalg.norm(h2 - h, axis=-1)
    log_p, log_q = (np.float64(jax.nn.log_softmax(s[0])) for s in (at.before, at.after))
    for i in range(4):
        kept = size[i][:, MASK[i]]
        site = jax.tree.map(lambda a, i=i: a[i], found.sites["blocks/resid_post"])
        np.testing.assert_allclose(site.norm_mean, kept.mean(1), rtol=1e-5)
        np.testing.assert_allclose(site.norm_max, kept.max(1), rtol=1e-5)
        np.testing.assert_allclose(site.norm_std, kept.std(1), rtol=1e-4)
        gain = (log_q - log_p)[i][np.arange(8), TARGETS[i]][MASK[i]]
        np.testing.assert_allclose(found.out.log_p_min[i], gain.min(), rtol=1e-4)
        np.testing.assert_allclose(found.out.log_p_std[i], gain.std(), rtol=1e-3)
        np.testing.assert_allclose(found.loss_drift[i], -gain.mean(), rtol=1e-4)


def test_features_have_names_in_a_fixed_order():
    u = membership.random_directions(jax.random.key(0), TEXT.apply, TEXT_PARAMS, TOKENS, k=2)
    np.testing.assert_allclose(jnp.linalg.norm(u["embed"], axis=1), 1, rtol=1e-6)
    found = membership.features(text_drift(TOKENS, TARGETS, MASK, spec=spec(directions=u)))
    assert found.values.shape == (4, len(found.names)) == (4, 3 * 7 + 5 + 1)
    assert found.names[:7] == tuple(
        f"embed {m}"
        for m in ("norm_mean", "norm_max", "norm_std", "relative", "turn", "along 0", "along 1")
    )
    assert found.names[14] == "blocks/resid_post[1] norm_mean"
    assert found.names[-6:] == (
        *("out norm", "out label_logit", "out kl", "out log_p_min", "out log_p_std"),
        "loss drift",
    )
    assert np.isfinite(found.values).all()


def test_other_losses_and_outputs():
    """A regression, with any loss; the output is then measured by its norm only."""
    found = membership.drift(
        lambda p, x: {"y": x @ p["w"]}["y"],
        {"w": jnp.ones((6, 3))},
        X,
        X[:, :3],
        spec(),
        loss=lambda out, y, mask: jnp.square(out - y).sum(),
    )
    assert found.names == ()
    assert membership.features(found).names == ("out norm", "loss drift")


@pytest.mark.slow
def test_half_precision_steps_are_not_rounded_away():
    """Parameters in bfloat16, products summed in float32.

    Against the same parameters in float32: activations carry 8 bits, so that a value is off by
    2^-8 of its size after each of some ten roundings, whatever the step.
    """
    half = models.decoder(
        vocab=11, context=8, layers=2, width=8, heads=2, dtype="bfloat16", param_dtype="bfloat16"
    )
    params = half.init(jax.random.key(0))
    found = membership.ascend(half.apply, params, TOKENS, TARGETS, spec(eta=0.3))
    exact = membership.ascend(
        TEXT.apply,
        jax.tree.map(lambda a: a.astype(jnp.float32), params),
        TOKENS,
        TARGETS,
        spec(eta=0.3, method="loop"),
    )
    moved, wanted = (np.float32(s.after[0]) - np.float32(s.before[0]) for s in (found, exact))
    scale = np.abs(np.float32(exact.after[0])).max()
    assert np.abs(wanted).max() > 20 * scale * 2.0**-8  # what is compared stands above that
    assert np.abs(moved - wanted).max() < 10 * scale * 2.0**-8
    np.testing.assert_allclose(found.grad_norm, exact.grad_norm, rtol=10 * 2.0**-8)


def climber_of(apply: Any, params: Any, x: Any, y: Any, **fields: Any) -> Climber:
    """What is planned."""
    own = membership.DriftSpec(**fields)
    return Climber(apply, params, own, membership.cross_entropy, Examples.of(x, y, None), None)


def test_the_layer_rule():
    """Ghosts where T (in + out) < in out, each layer by itself."""
    model = models.mlp([30, 40, 3])
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    x, y = jnp.zeros((2, 30)), jnp.zeros(2, jnp.int32)
    layers = climber_of(model.apply, shapes, x, y, sites=()).layers
    assert sorted(p.use.outputs for p in layers.parts) == [3, 40]  # a row: 70 < 1200, 43 < 120
    wide = lambda p, x: model.apply(p, x.reshape(-1, 30)).reshape(-1, 9, 3)  # noqa: E731
    x, y = jnp.zeros((2, 9, 30)), jnp.zeros((2, 9), jnp.int32)
    layers = climber_of(wide, shapes, x, y, sites=()).layers
    assert [p.use.outputs for p in layers.parts] == [40]  # nine: 630 < 1200, but not 387 < 120
    assert sorted(p.use.outputs for p in layers.covered) == [3, 40]


def test_auto_on_a_cpu():
    """Large examples one by one, small ones together."""
    found = climber_of(MLP.apply, PARAMS, X, Y)
    assert found.method == "ghost"
    big = models.decoder(vocab=256, context=128, layers=4, width=256, heads=4)
    shapes = jax.eval_shape(big.init, jax.random.key(0))
    tokens = jnp.zeros((64, 128), jnp.int32)
    assert climber_of(big.apply, shapes, tokens, tokens).method == "loop"
    ghost = climber_of(big.apply, shapes, tokens, tokens, method="ghost")
    assert 1 <= ghost.chunk < 64


def sizes(method: str) -> set[int]:
    """Numbers of entries of all arrays in the compiled program."""
    model = models.decoder(vocab=311, context=5, layers=2, width=36, heads=2, mlp_width=78)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((7, 5), jnp.int32)
    own = membership.DriftSpec(method=method)

    def run(params: Any, x: Any, y: Any) -> Any:
        found = membership.drift(model.apply, params, x, y, own, chunk=7)
        return membership.features(found).values

    text = jax.jit(run).lower(shapes, tokens, tokens).compile().as_text()
    found = re.findall(r"\w+\[([\d,]+)\]", text)
    return {math.prod(map(int, f.split(","))) for f in found}


def test_no_parameters_for_any_example():
    """Nothing in the compiled program has the size of a matrix for each of the 7 examples.

    However it is laid out: activations have a factor of 5 tokens, and matrices have none.
    """
    matrices = {7 * n for n in (36 * 36, 36 * 78, 311 * 36)}
    matrices |= {2 * n for n in matrices}  # both layers
    assert not sizes("ghost") & matrices
    assert sizes("vmap") & matrices


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for(platform):
    run = jax.jit(lambda p, x, y: membership.drift(TEXT.apply, p, x, y, spec()))
    jax.export.export(run, platforms=[platform])(TEXT_PARAMS, TOKENS, TARGETS)


def test_on_eight_devices():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, y, mask = (jax.device_put(a, spread) for a in (TOKENS, TARGETS, MASK))
    close(text_drift(TOKENS, TARGETS, MASK), text_drift(x, y, mask))


def test_bad_input_is_refused():
    args = MLP.apply, PARAMS
    for bad in ({"norm": "l2"}, {"method": "gohst"}):
        with pytest.raises(ValueError, match="expected one of"):
            membership.DriftSpec(**bad)
    with pytest.raises(ValueError, match="no examples"):
        membership.drift(*args, X[:0], Y[:0])
    with pytest.raises(ValueError, match=r"x 6, y 5"):
        membership.drift(*args, X, Y[:5])
    with pytest.raises(ValueError, match="labels have dtype float32"):
        membership.drift(*args, X, Y.astype(np.float32))
    with pytest.raises(ValueError, match=r"logits \[4\] and labels \[2\]"):
        membership.drift(*args, X, np.stack([Y, Y], 1))
    with pytest.raises(ValueError, match="chunk is 0"):
        membership.drift(*args, X, Y, chunk=0)
    with pytest.raises(aj.SiteError, match="layers/0/post"):
        membership.drift(*args, X, Y, membership.DriftSpec(sites="layers/0/psot"))
    with pytest.raises(aj.SiteError, match="layers/0/post"):
        membership.drift(*args, X, Y, membership.DriftSpec(directions={"psot": np.eye(7)}))
    own = membership.DriftSpec(directions={"layers/0/post": np.eye(3)})
    with pytest.raises(ValueError, match=r"expected \[k, 7\]"):
        membership.drift(*args, X, Y, own)
    with pytest.raises(ValueError, match="layers/0/dense/kernel"):
        membership.drift(*args, X, Y, membership.DriftSpec(moves="layers/0/dense/kernle"))
    with pytest.raises(ValueError, match=r"loss of one example has shape \(4,\)"):
        membership.drift(*args, X, Y, loss=lambda out, y, mask: out)


def test_a_nan_stays_with_its_example():
    x = X.copy()
    x[2, 3] = np.nan
    for method in METHODS:
        found = membership.features(membership.drift(MLP.apply, PARAMS, x, Y, spec(method=method)))
        bad = np.isnan(found.values).any(1)
        assert bad.tolist() == [False, False, True, False, False, False]


def test_the_cases_have_a_site():
    """The networks of the ghost tests are measured at a site too."""
    for net in CASES:
        assert "h" in aj.sites(net.apply)(net.params, net.x[:1]).names[0]


def test_specs_are_pytrees():
    own = dataclasses.replace(spec(), sites=["embed"], moves=["final/*"])
    assert own.sites == ("embed",)
    doubled = jax.tree.map(lambda a: 2 * a, own)
    assert doubled.eta == 2
    assert hash(jax.tree.structure(own)) == hash(jax.tree.structure(doubled))
