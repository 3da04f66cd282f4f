import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import activjax as aj
from activjax import models

KEY = jax.random.key(0)


def test_mlp_sites_and_values_by_hand():
    model = models.mlp([4, 8, 6, 3])
    params = model.init(KEY)
    x = jax.random.normal(KEY, (5, 4))
    logits, acts = aj.capture(model.apply)(params, x)
    h = x
    for i in range(2):
        layer = params["layers"][str(i)]["dense"]
        pre = jnp.dot(h, layer["kernel"], precision="highest") + layer["bias"]
        chex.assert_trees_all_close(acts[f"layers/{i}/pre"], pre, rtol=1e-6)
        h = jnp.maximum(pre, 0)
        chex.assert_trees_all_close(acts[f"layers/{i}/post"], h, rtol=1e-6)
    out = jnp.dot(h, params["head"]["kernel"], precision="highest") + params["head"]["bias"]
    chex.assert_trees_all_close(logits, out, rtol=1e-6)
    assert set(acts) == {f"layers/{i}/{s}" for i in range(2) for s in ("pre", "post")} | {"logits"}


def test_initialisation_is_he_normal_and_vmaps_over_seeds():
    model = models.mlp([256, 512, 10])
    params = jax.vmap(model.init)(jax.random.split(KEY, 3))
    kernel = params["layers"]["0"]["dense"]["kernel"]
    assert kernel.shape == (3, 256, 512)
    assert len({float(k[0, 0]) for k in kernel}) == 3
    # The sd of n normals has a relative standard error of 1/sqrt(2n), 0.0014 here: five of them.
    assert jnp.allclose(kernel.std((1, 2)), (2 / 256) ** 0.5, rtol=0.007)
    assert (params["layers"]["0"]["dense"]["bias"] == 0).all()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.mlp([4, 8, 3], batch_norm=True), (16, 4)),
        (models.cnn([8, 8, 1], [4, 6], 10, batch_norm=True), (16, 8, 8, 1)),
    ],
)
def test_batch_norm_threads_its_state(model, shape):
    params, state = model.init(KEY), model.init_state()
    x = 3 + 2 * jax.random.normal(KEY, shape)
    run = jax.jit(lambda p, s, x: model.apply(p, x, state=s, train=True))
    out, after = run(params, state, x)
    chex.assert_trees_all_equal_structs(state, after)
    assert not jnp.allclose(after["layers"]["0"]["norm"]["mean"], 0)
    _, acts = aj.capture(lambda x: model.apply(params, x, state=state, train=True))(x)
    pre = acts["layers/0/pre"]
    axes = tuple(range(pre.ndim - 1))
    # In training the batch itself is normalised: mean 0, variance 1 - eps/(var + eps).
    assert jnp.allclose(pre.mean(axes), 0, atol=1e-5)
    assert jnp.allclose(pre.var(axes), 1, atol=1e-4)
    for _ in range(1500):  # momentum 0.99: what is left of the start is 0.99**1500 < 1e-6
        _, after = run(params, after, x)
    frozen, same = model.apply(params, x, state=after)
    chex.assert_trees_all_equal(same, after)
    # The running variance is the biased one of the same batch, so both modes agree.
    chex.assert_trees_all_close(frozen, out, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="pass state=model.init_state"):
        model.apply(params, x)


def test_dropout_needs_a_key_and_follows_it():
    model = models.mlp([4, 64, 3], dropout=0.5)
    params, x = model.init(KEY), jnp.ones((2, 4))
    assert model.init_state() == {}
    with pytest.raises(ValueError, match="pass key="):
        model.apply(params, x, train=True)
    a, b, c = (model.apply(params, x, train=True, key=jax.random.key(k)) for k in (1, 1, 2))
    assert (a == b).all()
    assert not (a == c).all()
    assert (model.apply(params, x) == model.apply(params, x, key=KEY)).all()


def test_cnn_shapes_and_pooling():
    model = models.cnn([8, 8, 1], [4, 6], 10, kernel=3, pool=2)
    params = model.init(KEY)
    _, acts = aj.capture(model.apply)(params, jnp.ones((2, 8, 8, 1)))
    shapes = {name: a.shape for name, a in acts.items()}
    assert shapes == {
        "layers/0/pre": (2, 8, 8, 4),
        "layers/0/post": (2, 8, 8, 4),
        "layers/0/pool": (2, 4, 4, 4),
        "layers/1/pre": (2, 4, 4, 6),
        "layers/1/post": (2, 4, 4, 6),
        "layers/1/pool": (2, 2, 2, 6),
        "logits": (2, 10),
    }
    flat = models.cnn([8, 8, 1], [4], 10, pool=1)
    names = aj.sites(flat.apply)(flat.init(KEY), jnp.ones((1, 8, 8, 1))).names
    assert names == ("layers/0/pre", "layers/0/post", "logits")


def test_any_nnx_module():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.parts = nnx.List([nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])

        def __call__(self, x, *, scale=1.0):
            for part in self.parts:
                x = part(x)
            return x * scale

    model = models.Model.from_nnx(lambda rngs: Net(rngs))
    params = model.init(KEY)
    assert set(params["parts"]) == {"0", "1"}
    x = jnp.ones((1, 3))
    assert jnp.allclose(model.apply(params, x, scale=2.0), 2 * model.apply(params, x))
    del params["parts"]["1"]
    with pytest.raises(ValueError, match=r"params: nothing at 'parts/1/bias'; found \['0'\]"):
        model.apply(params, x)


def test_bad_shapes_are_refused():
    for build, message in [
        (lambda: models.mlp([4]), "at least 2 positive integers"),
        (lambda: models.mlp([4, 0, 2]), "positive integers"),
        (lambda: models.mlp([4, 2.5]), "positive integers"),
        (lambda: models.mlp([4, 2], activation="rellu"), "did you mean 'relu'"),
        (lambda: models.mlp([4, 2], dropout=1.0), r"in \[0, 1\)"),
        (lambda: models.cnn([8, 8], [4], 2), "at least 3"),
        (lambda: models.cnn([8, 8, 1], [4, 4, 4, 4], 2), "poolings by 2 leave nothing of 8x8"),
        (lambda: models.cnn([8, 8, 1], [], 2), "cnn channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()


def test_sizes_are_whole_numbers_of_any_integer_type():
    model = models.mlp(np.array([3, 4, 2]))
    assert model.apply(model.init(jax.random.key(0)), jnp.ones((1, 3))).shape == (1, 2)
    for sizes in ([3, True, 2], [3, 4.0, 2], [3, 0, 2], [3]):
        with pytest.raises(ValueError, match="positive integers"):
            models.mlp(sizes)


def test_parameters_must_be_those_of_the_model():
    model = models.mlp([3, 4, 2])
    params = model.init(jax.random.key(0))
    wrong = {**params, "head": {**params["head"], "bias": jnp.ones(1)}}
    with pytest.raises(ValueError, match=r"'head/bias' has shape \(1,\), expected \(2,\)"):
        model.apply(wrong, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="params: the model has nothing at 'heads/bias'"):
        model.apply({**params, "heads": {"bias": 1.0}}, jnp.ones((1, 3)))
