"""The loop: one program whatever the cuts, bit-equal resume, measurement, honest errors."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax.training import loop

TRACES = []
DATA = jax.random.normal(jax.random.key(7), (64, 3))


def step(state):
    TRACES.append(1)
    key, sub = jax.random.split(state["key"])
    grad = jax.grad(lambda w: jnp.mean((DATA @ w - 1.0) ** 2))(state["w"])
    w = state["w"] - 0.1 * grad + 1e-3 * jax.random.normal(sub, (3,))
    state = {"w": w, "key": key, "n": state["n"] + 1, "h": state["h"] * jnp.bfloat16(0.99)}
    return state, {"loss": jnp.sum(w**2), "n": state["n"]}


def initial():
    return {
        "w": jnp.zeros(3),
        "key": jax.random.key(0),
        "n": jnp.int32(0),
        "h": jnp.ones(2, jnp.bfloat16),
    }


def bits(tree):
    def leaf(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        return np.asarray(x).tobytes()

    return [leaf(x) for x in jax.tree.leaves(tree)]


def test_metrics_are_those_of_a_plain_python_loop():
    out = loop.run(step, initial(), steps=23, chunk=5)
    state, losses = initial(), []
    for _ in range(23):
        state, metrics = step(state)
        losses.append(metrics["loss"])
    assert out.metrics["loss"].shape == (23,)
    np.testing.assert_allclose(out.metrics["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(out.metrics["n"], np.arange(1, 24))
    assert int(out.state["n"]) == 23


def test_one_trace_and_one_compilation_for_all_chunk_lengths(caplog):
    TRACES.clear()
    program = loop.Program(lambda state: step(state), initial(), 8)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        state = jax.tree.map(jnp.copy, initial())
        caplog.clear()
        for n in (8, 3, 1, 5, 8):
            state, metrics = program(state, n)
            assert metrics["loss"].shape == (n,)
    assert len(TRACES) == 1
    assert not [r for r in caplog.records if "_run" in r.getMessage()]


def test_data_is_an_argument_and_no_constant():
    data = jax.random.normal(jax.random.key(0), (1000, 50))
    table = np.arange(40_000, dtype=np.float32)

    def look_up(state):
        key, sub = jax.random.split(state)
        i = jax.random.randint(sub, (), 0, 1000)
        return key, {"x": jnp.sum(data[i]) + jnp.asarray(table)[i]}

    program = loop.Program(look_up, jax.random.key(1), 4)
    arguments = program._advance.as_text().partition("entry_computation_layout=")[2][:300]
    assert "f32[1000,50]" in arguments
    assert "f32[40000]" in arguments


@pytest.mark.parametrize("cut", [1, 7, 10, 19])
def test_resume_is_equal_bit_for_bit(cut):
    whole = loop.run(step, initial(), steps=20, chunk=6, measure=lambda s: s["w"], measure_at=(7,))
    first = loop.run(step, initial(), steps=cut, chunk=6)
    rest = loop.run(step, first.state, steps=20, chunk=6, start=cut)
    assert bits(rest.state) == bits(whole.state)
    joined = np.concatenate([first.metrics["loss"], rest.metrics["loss"]])
    assert joined.tobytes() == whole.metrics["loss"].tobytes()


def test_chunks_end_at_multiples_measurements_and_the_end():
    seen = []
    out = loop.run(
        step,
        initial(),
        steps=11,
        chunk=4,
        measure=lambda s: {"n": s["n"], "key": s["key"]},
        measure_at=(0, 5, 11),
        on_chunk=lambda c: seen.append((c.start, c.stop, c.measured and int(c.measured["n"]))),
    )
    assert seen == [(0, 0, 0), (0, 4, None), (4, 5, 5), (5, 8, None), (8, 11, 11)]
    assert {k: int(v["n"]) for k, v in out.measured.items()} == {0: 0, 5: 5, 11: 11}
    assert out.compile_seconds > 0


def test_measurements_before_start_are_not_repeated():
    out = loop.run(
        step, initial(), steps=8, chunk=4, start=5, measure=lambda s: s["n"], measure_at=(0, 5, 8)
    )
    assert list(out.measured) == [8]


def test_callers_state_survives_and_shared_leaves_are_fine():
    w = jnp.ones(3)
    state = {"a": w, "b": w}
    loop.run(lambda s: ({"a": s["a"] + 1, "b": s["b"]}, {}), state, steps=3, chunk=2)
    np.testing.assert_array_equal(state["a"], 1.0)


def test_nan_and_infinity_pass_through():
    def diverge(x):
        return x * 1e30, {"x": x, "log": jnp.log(-x)}

    out = loop.run(diverge, jnp.float32(1.0), steps=4, chunk=4)
    assert np.isinf(out.metrics["x"][2:]).all()
    assert np.isnan(out.metrics["log"]).all()


def test_weak_types_are_no_surprise():
    out = loop.run(lambda x: (1.0, {"x": x}), jnp.asarray(2.0), steps=3, chunk=2)
    np.testing.assert_array_equal(out.metrics["x"], [2.0, 1.0, 1.0])


def test_no_steps():
    out = loop.run(step, initial(), steps=0, chunk=3, measure=lambda s: s["n"], measure_at=(0,))
    assert out.metrics["loss"].shape == (0,)
    assert list(out.measured) == [0]


def test_on_chunk_ends_the_run_by_raising():
    class Stop(Exception):
        pass

    def stop(chunk):
        raise Stop(chunk.stop)

    with pytest.raises(Stop, match="4"):
        loop.run(step, initial(), steps=9, chunk=4, on_chunk=stop)


def test_a_step_that_changes_the_state_is_named():
    def widen(s):
        return {"w": s["w"].astype(jnp.float32)}, {}

    with pytest.raises(TypeError, match=r"step changes w from bfloat16\[3\] to float32\[3\]"):
        loop.run(widen, {"w": jnp.ones(3, jnp.bfloat16)}, steps=2, chunk=2)
    with pytest.raises(TypeError, match="structure"):
        loop.run(lambda s: ({"v": s["w"]}, {}), {"w": jnp.ones(3)}, steps=2, chunk=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"start": 9}, "start must lie in 0..5"),
        ({"measure_at": (6,)}, "measure_at must lie in 0..5"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        loop.run(step, initial(), **{"steps": 5, "chunk": 2, **change})


def test_chunk_is_frozen():
    chunk = loop.Chunk(0, 1, None, {}, None, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        chunk.stop = 2
