"""`piecewise_linear`: networks of several libraries, and each rule by hand."""

import jax
import jax.extend
import jax.numpy as jnp
import pytest

import activjax as aj
from activjax import program
from activjax.program import Dependence
from activjax.program._identities import IDENTITIES
from tests.program import networks

X = jnp.array([0.5, -1.0, 2.0, 0.25])


def verdict(f, *args, argnums=0):
    return program.piecewise_linear(f, argnums)(*args)


def names(result):
    return [b.primitive for b in result.breakpoints]


@pytest.mark.parametrize("build", networks.NETWORKS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_relu_networks_are_piecewise_linear_in_their_input(build, wrap):
    f, params, x = build()
    result = verdict(wrap(f), params, x, argnums=1)
    assert result.piecewise_linear
    assert not result.linear
    assert result.continuous
    assert result.first_nonlinear is None
    assert set(names(result)) <= {"max", "reduce_window_max"}
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x))
    assert names(verdict(f, *shapes, argnums=1)) == names(result)


def test_models_and_what_is_said_of_their_breakpoints():
    f, params, x = networks.mlp()
    first, second = (b for b in verdict(f, params, x, argnums=1).breakpoints)
    assert (first.primitive, first.scope, first.inputs) == ("max", "layers/0", (0,))
    assert [o.dependence for o in first.operands] == ["linear", "constant"]
    assert [o.dependence for o in second.operands] == ["piecewise linear", "constant"]
    assert first.operands[0].shape == (3, 6)
    assert first.operands[0].dtype == jnp.float32
    assert (first.count, first.jumps) == (18, False)
    assert "mlp.py" in first.source
    result = verdict(networks.mlp("tanh")[0], params, x, argnums=1)
    assert not result.piecewise_linear
    assert result.first_nonlinear.name == "layers/0/tanh"
    assert verdict(networks.mlp("identity")[0], params, x, argnums=1).linear
    assert verdict(networks.mlp("leaky_relu")[0], params, x, argnums=1).continuous
    # Deep networks are no piecewise linear function of all their parameters; of the last they are.
    assert "product of two values" in verdict(f, params, x).first_nonlinear.reason
    head = verdict(lambda h: f({**params, "head": h}, x), params["head"])
    assert head.linear
    f, params, x = networks.cnn(batch_norm=True)
    result = verdict(f, params, x, argnums=1)
    assert [b.name for b in result.breakpoints] == [
        "layers/0/max",
        "layers/0/reduce_window_max",
        "layers/1/max",
        "layers/1/reduce_window_max",
    ]
    assert [b.count for b in result.breakpoints] == [2 * 64 * 2, 2 * 64 * 2, 2 * 16 * 3, 2 * 16 * 3]


def test_normalisation_by_the_batch_is_not_linear():
    model = networks.models.cnn([8, 8, 1], [2], 2, batch_norm=True)
    params, state = model.init(jax.random.key(0)), model.init_state()

    def train(x):
        return model.apply(params, x, state=state, train=True)[0]

    assert verdict(train, networks.IMAGES).first_nonlinear.primitive in ("square", "mul")


@pytest.mark.parametrize(
    ("weights", "primitive", "reason"),
    [
        (lambda s: s, "dot_general", "product of two values"),
        (jax.nn.relu, "dot_general", "product of two values"),
        (jax.nn.softmax, "dot_general", "product of two values"),
    ],
)
def test_attention(weights, primitive, reason):
    f, params, x = networks.attention(weights)
    bad = verdict(f, params, x, argnums=1).first_nonlinear
    assert bad.primitive == primitive
    assert reason in bad.reason
    assert "networks.py" in bad.source
    # With the scores fixed, or as steps, values are weighted linearly.
    assert verdict(lambda v: weights(x @ x.T) @ v, x).linear
    hard = networks.attention(lambda s: jax.nn.one_hot(s.argmax(-1), 3))[0]
    assert not verdict(hard, params, x, argnums=1).piecewise_linear
    fixed = verdict(lambda x: jax.nn.one_hot((x @ X).argmax(-1), 3) @ x, x)
    assert fixed.dependence is Dependence.PIECEWISE
    assert not fixed.continuous
    assert verdict(lambda s: jax.nn.softmax(s) @ x, x @ x.T).first_nonlinear.primitive == "exp"


def switch(x):
    return jax.lax.switch((x.sum() > 0).astype(jnp.int32), [lambda x: x, lambda x: -3 * x], x)


def doubling(x):
    return jax.lax.while_loop(lambda c: c.sum() < 5, lambda c: 2 * c + 1, x)


def masked_pool(x):
    window = ((1,), (1,), "VALID")
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)


def recurrent(x):
    return jax.lax.scan(lambda c, x: (jax.nn.leaky_relu(c + x), c), 0.0, x)


def powers(x):
    return jax.lax.scan(lambda c, x: (c * x, None), 1.0, x)[0]


def both_ends(x):
    return jnp.concatenate([jnp.pad(x, 1), jnp.flip(x)]), jnp.cumsum(x).reshape(2, 2).T


@jax.custom_vjp
def straight_through(x):
    return jnp.round(x)


straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


LINEAR = [
    lambda x: 3 * x - x / 4 + 1,
    both_ends,
    lambda x: x[jnp.array([2, 0])] + x[1:3] - x.mean(),
    lambda x: jnp.where(jnp.arange(4) > 1, x, 0),
    lambda x: x.at[1].set(0).at[2].add(x[0]),
    lambda x: jax.lax.dynamic_slice(x, (1,), (2,)),
    lambda x: jnp.convolve(x, jnp.ones(2)),
    lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + i * x, x),
    lambda x: jnp.where(jnp.isnan(x), 0, x),
    lambda x: jnp.linalg.solve(jnp.eye(4) * 2, x),
    lambda x: jnp.fft.fft(x).real,
    lambda x: jax.lax.stop_gradient(x) + aj.tag(x, "x"),
    lambda x: x**1 + jax.lax.optimization_barrier(x),
    lambda x: jax.lax.associative_scan(jnp.add, x),
    lambda x: jax.grad(lambda w: (w * x).sum())(x),
    lambda x: (jnp.tanh(x), 2 * x)[1],
]
HINGES = [
    jax.nn.relu,
    jax.nn.leaky_relu,
    jax.nn.hard_tanh,
    jax.nn.relu6,
    jax.nn.hard_sigmoid,
    lambda x: jnp.where(x > 0, x, 0),
    lambda x: jnp.where(x > 1, 2 * x - 1, x),
    lambda x: x * (x > 0).astype(x.dtype),
    lambda x: x * jnp.sign(x),
    lambda x: jnp.abs(x) + jnp.clip(x, -1, 1),
    lambda x: jnp.max(x) - jnp.min(x),
    lambda x: jnp.sort(x)[:2] + jax.lax.top_k(x, 2)[0],
    jax.lax.cummax,
    masked_pool,
    recurrent,
    lambda x: jnp.median(x),
    lambda x: x.at[0].max(x[1]),
    lambda x: jax.nn.relu(doubling(jnp.zeros(4)) + x),
]
JUMPS = [
    lambda x: jnp.where(x > 1, x, 0),
    lambda x: jnp.where(x == 0, 5, x),
    lambda x: x - jnp.floor(x),
    lambda x: x % 2.0,
    lambda x: x + x.astype(jnp.int32).astype(x.dtype),
]
UNDECIDED = [
    switch,
    doubling,
    lambda x: x[jnp.argmax(x)],
    lambda x: jax.lax.dynamic_slice(x, (jnp.argmax(x),), (1,)),
    lambda x: x[jnp.argsort(x)],
    lambda x: jnp.where(x > X, x, X),
]
STEPS = [
    jnp.sign,
    jnp.round,
    straight_through,
    lambda x: jax.nn.one_hot(jnp.argmax(x), 4),
    jax.grad(lambda x: jax.nn.relu(x).sum()),
    lambda x: jnp.exp(jnp.floor(x)) * jnp.sign(x),
    lambda x: jax.lax.top_k(x, 2)[1],
    lambda x: X[jnp.argmax(x)],
]
NONLINEAR = {
    "tanh": jnp.tanh,
    "expm1": lambda x: jax.nn.elu(x),
    "integer_pow": lambda x: x**3,
    "mul": lambda x: jax.nn.hard_swish(x),
    "div": lambda x: 1 / x,
    "dot_general": lambda x: x @ x,
    "reduce_prod": jnp.prod,
    "sqrt": lambda x: jnp.linalg.norm(x - x + jnp.sqrt(x)),
    "logistic": lambda x: jnp.where(x > 0, jax.nn.sigmoid(x), x),
    "rem": lambda x: 3.0 % x,
    "pure_callback": lambda x: jax.pure_callback(lambda x: x, x, x, vmap_method="sequential"),
    "cos": lambda x: jax.lax.cond(X[0] > 0, jnp.cos, lambda x: x, x),
}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap, jax.checkpoint])
@pytest.mark.parametrize(
    ("fs", "kind", "continuous"),
    [
        (LINEAR, Dependence.LINEAR, True),
        (HINGES, Dependence.PIECEWISE, True),
        (JUMPS, Dependence.PIECEWISE, False),
        (UNDECIDED, Dependence.PIECEWISE, None),
        (STEPS, Dependence.STEPS, False),
    ],
    ids=["linear", "hinges", "jumps", "undecided", "steps"],
)
def test_each_rule(fs, kind, continuous, wrap):
    x = X[None] if wrap is jax.vmap else X
    for i, f in enumerate(fs):
        result = verdict(wrap(f), x)
        assert (result.dependence, result.continuous) == (kind, continuous), (i, str(result))
        assert result.piecewise_linear
        assert result.linear == (kind is Dependence.LINEAR)
        assert bool(result.breakpoints) == (kind is not Dependence.LINEAR), i


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap, jax.checkpoint])
@pytest.mark.parametrize("primitive", NONLINEAR)
def test_what_is_not_piecewise_linear_is_named(primitive, wrap):
    result = verdict(wrap(NONLINEAR[primitive]), X[None] if wrap is jax.vmap else X)
    assert not result.piecewise_linear
    assert result.first_nonlinear.primitive == primitive
    assert result.continuous is not True
    assert f"not piecewise linear: {primitive}" in str(result)


def test_reasons():
    def reason(f):
        return verdict(f, X).first_nonlinear.reason

    assert reason(jnp.tanh) == "`tanh` is not piecewise linear"
    assert reason(lambda x: x**2) == "power 2 of a value that depends on the input"
    assert reason(lambda x: 1 / x) == "division by a value that depends on the input"
    assert reason(NONLINEAR["pure_callback"]) == "`pure_callback` is not known to activjax"


def test_loops_pass_until_nothing_changes():
    assert verdict(powers, X).first_nonlinear.primitive == "mul"
    assert verdict(powers, X[:1]).linear  # one iteration: 1 * x

    def delayed(x):
        return jax.lax.scan(lambda c, _: ((x, *c[:2]), c[2]), (0.0,) * 3, None, 3)

    assert verdict(delayed, x0()).linear

    def chain(carry, _):  # what is nonlinear arrives three iterations later
        a, b, c, x = carry
        return (b, c, jnp.tanh(x), x), a

    result = verdict(lambda x: jax.lax.scan(chain, (x, x, x, x), None, 3)[1], x0())
    assert result.piecewise_linear
    result = verdict(lambda x: jax.lax.scan(chain, (x, x, x, x), None, 4)[1], x0())
    assert result.first_nonlinear.primitive == "tanh"

    def deep(x, n=12):  # passing it in the obvious way would take 2^12 passes
        f = jax.nn.relu
        for _ in range(n):
            f = (lambda g: lambda c: jax.lax.scan(lambda c, _: (g(c) + 1, None), c, None, 2)[0])(f)
        return f(x)

    result = verdict(deep, X)
    assert result.breakpoints[0].count == 4 * 2**12
    assert verdict(doubling, X).breakpoints[0].count is None


def x0():
    return jnp.float32(0.5)


def test_dead_code_and_outputs_by_themselves():
    def f(x):
        jnp.tanh(x)
        return {"a": 2 * x, "b": jnp.exp(x), "c": X, "d": jax.nn.relu(x)}

    out = verdict(f, X).out
    assert out == {
        "a": Dependence.LINEAR,
        "b": Dependence.NONLINEAR,
        "c": Dependence.CONSTANT,
        "d": Dependence.PIECEWISE,
    }
    assert verdict(lambda x: f(x)["a"], X).breakpoints == ()


def test_shards():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")

    def f(x):
        return jax.lax.psum(jax.nn.relu(x), "d") + jax.lax.all_gather(x, "d").sum() + x

    sharded = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)
    result = verdict(sharded, X)
    assert (names(result), result.continuous) == (["max"], True)
    assert result.breakpoints[0].count == 4
    assert verdict(lambda x: sharded(x * x), X).first_nonlinear.primitive == "mul"
    largest = jax.shard_map(
        lambda x: jax.lax.pmax(x, "d"), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    assert names(verdict(largest, X)) == ["pmax"]


def test_arguments():
    def f(p, x, n=1):
        return p["w"] * x * n

    p = {"w": X, "steps": jnp.int32(3)}
    assert verdict(f, p, X).linear
    assert verdict(f, p, X, argnums=-1).linear
    assert not verdict(f, p, X, argnums=(0, 1)).piecewise_linear
    assert verdict(lambda z: z * (1 + 2j) + jnp.conj(z), jax.lax.complex(X, X)).linear
    assert not verdict(jnp.abs, jax.lax.complex(X, X)).piecewise_linear
    assert verdict(lambda x: jax.random.normal(jax.random.key(0), (4,)) * x, X).linear
    with pytest.raises(ValueError, match="argnums 2 names no positional argument; the call has 2"):
        verdict(f, p, X, argnums=2)
    with pytest.raises(TypeError, match="argument 0 holds no array"):
        verdict(lambda x: x, 1.0)
    with pytest.raises(TypeError, match="argnums must be an integer"):
        verdict(f, p, X, argnums="w")
    with pytest.raises(ValueError, match="each once"):
        verdict(f, p, X, argnums=(0, 0))

    def referring(x):
        ref = jax.new_ref(x)
        ref[...] = ref[...] * ref[...]
        return ref[...]

    with pytest.raises(program.UnsupportedError, match="mutable reference"):
        verdict(referring, X)


def test_identities_can_be_registered():
    primitive = jax.extend.core.Primitive("marker_of_a_test")
    primitive.def_abstract_eval(lambda x: x)
    assert not verdict(primitive.bind, X).piecewise_linear
    try:
        program.register_identity(primitive.name)
        assert verdict(primitive.bind, X).linear
    finally:
        IDENTITIES.discard(primitive.name)
    with pytest.raises(TypeError, match="pass `p.name`"):
        program.register_identity(primitive)


def test_table():
    text = str(verdict(lambda x: jnp.exp(jax.nn.relu(x)), X))
    for word in ("max", "hinge", "float32[4] linear", "test_piecewise_linear.py", "not linear"):
        assert word in text
    assert str(verdict(lambda x: x, X)) == "linear, continuous"
