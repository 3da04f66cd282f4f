import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import models
from tests.models.test_decoder import KEY, SIZES, network, tokens

STEPS = 6
POST = "blocks/resid_post"
V = jnp.asarray(3 * np.random.default_rng(3).standard_normal(16), jnp.float32)
RIGHT = np.arange(9)[None] < np.array([[6], [9]])


@functools.cache
def generator(family="llama", **kwargs):
    model, params = network(family)
    return model, params, functools.partial(models.generate, model, steps=STEPS, **kwargs)


@functools.cache
def padded(model):
    """The full forward, compiled once for sequences of up to 15 tokens."""
    return jax.jit(model.apply)


def continued(apply, params, ids, steps=STEPS):
    """Greedy tokens by running everything again for each, without a cache."""
    ids, end = np.asarray(ids), ids.shape[1] + steps
    while ids.shape[1] < end:
        full = np.zeros((len(ids), end), np.int32)
        full[:, : ids.shape[1]] = ids
        logits = apply(params, full)[:, ids.shape[1] - 1]
        ids = np.concatenate([ids, np.argmax(logits, -1)[:, None]], axis=1)
    return ids[:, -steps:]


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_greedy_tokens_are_those_of_the_full_forward(family):
    model, params, generate = generator(family)
    ids = tokens()
    got = jax.jit(generate)(params, ids)
    np.testing.assert_array_equal(got.tokens, continued(padded(model), params, ids))
    assert got.lengths.tolist() == [STEPS, STEPS]
    whole = jnp.concatenate([ids, got.tokens], axis=1)
    likely = jax.nn.log_softmax(padded(model)(params, whole)[:, 8:-1])
    want = jnp.take_along_axis(likely, got.tokens[..., None], -1)[..., 0]
    chex.assert_trees_all_close(got.logprobs, want, atol=1e-5)
    assert got.state.lengths.tolist() == [9 + STEPS - 1] * 2


def test_left_and_right_padding_and_no_padding_agree_and_compile_once():
    _, params, generate = generator()
    ids = tokens()
    run = jax.jit(chex.assert_max_traces(lambda p, t, m: generate(p, t, mask=m), n=1))
    right = run(params, ids, RIGHT)
    left = run(params, np.where([[1], [0]], np.roll(ids, 3, axis=1), ids), RIGHT[:, ::-1])
    np.testing.assert_array_equal(left.tokens, right.tokens)
    chex.assert_trees_all_close(left.logprobs, right.logprobs, atol=1e-5)
    alone = jax.jit(generate)(params, ids[:1, :6])
    np.testing.assert_array_equal(alone.tokens[0], right.tokens[0])


def test_generation_goes_on_from_its_state():
    model, params, generate = generator()
    ids = tokens()
    whole = jax.jit(generate)(params, ids)
    first = jax.jit(functools.partial(models.generate, model, steps=3))(params, ids)
    more = functools.partial(models.generate, model, steps=3)
    rest = jax.jit(lambda p, t, s: more(p, t, state=s))(params, first.tokens[:, -1:], first.state)
    np.testing.assert_array_equal(
        jnp.concatenate([first.tokens, rest.tokens], axis=1), whole.tokens
    )


def test_a_stop_token_ends_a_sequence():
    _, params, generate = generator()
    ids = tokens()
    free = np.asarray(jax.jit(generate)(params, ids).tokens)
    stops = [int(free[0, 2]), int(free[1, 1])]
    run = aj.capture(functools.partial(generate, stop=stops, pad=1), "decode/positions")
    got, acts = jax.jit(run)(params, ids)
    for row, length, out, logprob in zip(free, got.lengths, got.tokens, got.logprobs):
        ends = np.flatnonzero(np.isin(row, stops))
        want = int(ends[0]) + 1 if len(ends) else STEPS
        assert int(length) == want
        np.testing.assert_array_equal(out[:want], row[:want])
        assert (out[want:] == 1).all()
        assert (logprob[want:] == 0).all()
    assert int(got.lengths[0]) <= 3
    # decode step k runs new token k; nothing is run once all have ended
    assert acts["decode/positions#valid"].tolist() == [
        k < int(got.lengths.max()) - 1 for k in range(STEPS - 1)
    ]


def test_steps_are_captured_one_by_one():
    model, params, generate = generator()
    ids = tokens()
    got, acts = jax.jit(aj.capture(generate, ["**/" + POST, "decode/positions"]))(params, ids)
    whole = jnp.concatenate([ids, got.tokens], axis=1)
    full = jax.jit(aj.capture(model.apply, POST, out=False))(params, whole)[POST]
    chex.assert_trees_all_close(acts["prefill/" + POST], full[:, :, :9], atol=1e-5)
    steps = acts["decode/" + POST]
    assert steps.shape == (STEPS - 1, 2, 2, 1, 16)  # step, layer, sequence, one token, d
    chex.assert_trees_all_close(jnp.moveaxis(steps[..., 0, :], 0, 2), full[:, :, 9:-1], atol=1e-5)
    assert acts["decode/positions"][:, 0, 0].tolist() == [9, 10, 11, 12, 13]


@pytest.mark.parametrize(
    ("selector", "full"),
    [
        ("**/" + POST, POST),
        pytest.param("prefill/" + POST, aj.select(POST, at=list(range(9))), marks=pytest.mark.slow),
        (
            aj.select("decode/" + POST, layers=1, loops={"steps": 2}),
            aj.select(POST, layers=1, at=11),
        ),
        (aj.select("**/" + POST, layers=0, at=11), aj.select(POST, layers=0, at=11)),
        pytest.param(
            aj.select("**/" + POST, layers=0, at=4),
            aj.select(POST, layers=0, at=4),
            marks=pytest.mark.slow,
        ),
        (
            aj.select("**/" + POST, layers=0, at="last_prompt"),
            aj.select(POST, layers=0, at=aj.per_example([8, 8])),
        ),
        (
            aj.select("**/" + POST, layers=0, at=aj.per_example([10, 3])),
            aj.select(POST, layers=0, at=aj.per_example([10, 3])),
        ),
    ],
    ids=["throughout", "prefill", "step", "later", "earlier", "last_prompt", "per_example"],
)
def test_edits_through_decoding_are_those_of_the_full_forward(selector, full):
    model, params, generate = generator()
    ids = tokens()
    edit = aj.edits.add(V)
    got = jax.jit(aj.intervene(generate, [(selector, edit)]))(params, ids)
    apply = jax.jit(aj.intervene(model.apply, [(full, edit)]))
    np.testing.assert_array_equal(got.tokens, continued(apply, params, ids))
    whole = jnp.concatenate([ids, got.tokens], axis=1)
    likely = jax.nn.log_softmax(apply(params, whole)[:, 8:-1])
    want = jnp.take_along_axis(likely, got.tokens[..., None], -1)[..., 0]
    chex.assert_trees_all_close(got.logprobs, want, atol=1e-5)
    plain = jax.jit(generate)(params, ids)
    assert jnp.abs(got.logprobs - plain.logprobs).max() > 1e-3


def test_strengths_and_steps_of_an_edit_do_not_compile_again():
    _, params, generate = generator()
    ids = tokens()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(strength, step):
        where = aj.select("decode/" + POST, layers=1, loops={"steps": step})
        return aj.intervene(generate, [(where, aj.edits.add(strength * V))])(params, ids)

    plain = jax.jit(generate)(params, ids)
    for strength, step in ((0.0, 1), (1.0, 1), (1.0, 3)):
        got = run(jnp.float32(strength), jnp.int32(step))
        moved = np.flatnonzero(np.abs(got.logprobs - plain.logprobs).max(0) > 1e-4)
        assert moved[:1].tolist() == ([step + 1] if strength else [])


def test_a_negative_position_counts_from_the_end_of_the_call():
    _, params, generate = generator()
    ids = tokens()
    where = aj.select("**/" + POST, at=-1)
    each = jax.jit(aj.intervene(generate, [(where, aj.edits.add(V))]))(params, ids)
    steps = [(aj.select("prefill/" + POST, at=8), aj.edits.add(V))]
    steps += [("decode/" + POST, aj.edits.add(V))]
    again = jax.jit(aj.intervene(generate, steps))(params, ids)
    chex.assert_trees_all_close(each.logprobs, again.logprobs, atol=1e-6)


def test_the_prompt_is_what_generate_was_given():
    model, params, _ = generator()
    ids = tokens()
    edit = aj.edits.add(V)
    where = [(aj.select("prefill/" + POST, layers=0, at="last_prompt"), edit)]

    @jax.jit
    def after(p, first, rest):
        _, cache = models.prefill(model, p, first)
        run = functools.partial(models.generate, model, steps=2, state=cache)
        return aj.intervene(run, where)(p, rest)

    got = after(params, ids[:, :4], ids[:, 4:])
    full = [(aj.select(POST, layers=0, at=8), edit)]
    logits = jax.jit(aj.intervene(model.apply, full))(params, ids)[:, -1]
    likely = jnp.max(jax.nn.log_softmax(logits), axis=-1)
    chex.assert_trees_all_close(got.logprobs[:, 0], likely, atol=1e-5)


def test_a_cache_whose_use_is_not_known_is_grown_within_the_context():
    model, params, _ = generator()
    ids = tokens()
    run = functools.partial(models.generate, model, steps=3)
    cache = models.prefill(model, params, ids[:, :4], slots=20)[1]
    known = jax.jit(lambda p, t: run(p, t, state=cache))(params, ids[:, 4:5])
    traced = jax.jit(lambda p, t, c: run(p, t, state=c))(params, ids[:, 4:5], cache)
    np.testing.assert_array_equal(known.tokens, traced.tokens)
    assert jnp.isfinite(traced.logprobs).all()


LOGITS = jnp.log(jnp.array([[0.5, 0.05, 0.3, 0.15]]))


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ({}, [0.5, 0.05, 0.3, 0.15]),
        ({"temperature": 0.5}, np.square([0.5, 0.05, 0.3, 0.15])),
        ({"top_k": 2}, [0.5, 0, 0.3, 0]),
        ({"top_p": 0.79}, [0.5, 0, 0.3, 0]),
        ({"top_p": 0.81}, [0.5, 0, 0.3, 0.15]),
        ({"top_p": 1e-6}, [1, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.5, 0, 0.3, 0]),
        ({"temperature": jnp.float32(0)}, [1, 0, 0, 0]),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution_asked_for(how, want):
    n = 20_000
    draw = jax.jit(lambda k: models.sample(k, jnp.broadcast_to(LOGITS, (n, 4)), **how))
    counts = np.bincount(np.asarray(draw(KEY)), minlength=4)
    share = np.asarray(want) / np.sum(want)
    # five standard deviations of a binomial; nothing at all where nothing may be
    assert (np.abs(counts / n - share) <= 5 * np.sqrt(share * (1 - share) / n)).all()


def test_draws_of_a_sequence_do_not_depend_on_the_others():
    _, params, _ = generator()
    model = network("llama")[0]
    ids = tokens()
    run = jax.jit(functools.partial(models.generate, model, steps=STEPS, temperature=2.0, top_k=9))
    both = run(params, ids, key=KEY)
    np.testing.assert_array_equal(run(params, ids[:1], key=KEY).tokens[0], both.tokens[0])
    assert (run(params, ids, key=jax.random.key(5)).tokens != both.tokens).any()


def test_a_sweep_at_the_last_token_equals_the_full_forward():
    model, params = network("llama")
    ids = tokens()
    vectors = jnp.stack([V, -V, jnp.flip(V)])
    over = (vectors, np.array([0.0, 1.0], np.float32), np.arange(2))

    def edits(at):
        return lambda v, a, layer: [(aj.select(POST, layers=layer, at=at), aj.edits.add(a * v))]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sweep(params, ids, mask):
        return models.sweep_last_token(model, params, ids, edits(None), *over, mask=mask)

    @jax.jit
    def full(v, a, layer):
        return aj.intervene(model.apply, edits("last_prompt")(v, a, layer))(params, ids, mask=RIGHT)

    got = sweep(params, ids, RIGHT)
    assert got.shape == (3, 2, 2, 2, SIZES["vocab"])
    for i in np.ndindex(3, 2, 2):
        want = full(*(axis[j] for axis, j in zip(over, i)))
        chex.assert_trees_all_close(got[i], want[jnp.arange(2), jnp.array([5, 8])], atol=1e-5)
    left = sweep(params, np.where([[1], [0]], np.roll(ids, 3, axis=1), ids), RIGHT[:, ::-1])
    chex.assert_trees_all_close(left, got, atol=1e-5)
    few = jax.jit(
        lambda: models.sweep_last_token(
            model, params, ids, edits("last_prompt"), *over, mask=RIGHT, chunk=5,
            read=lambda logits: logits.argmax(-1),
        )
    )()  # fmt: skip
    np.testing.assert_array_equal(few, got.argmax(-1))


@pytest.mark.parametrize("family", ["llama", pytest.param("neox", marks=pytest.mark.slow)])
def test_a_sweep_by_layer_equals_the_full_forward_at_every_site(family):
    model, params = network(family)
    ids = tokens()
    strengths = np.array([0.0, 0.5, 2.0], np.float32)
    for site in ("resid_post", "mlp/out", "resid_pre", "attn/v"):
        edit = aj.edits.scale if site == "attn/v" else lambda a: aj.edits.add(a * V)
        name = f"blocks/{site}"
        chex.clear_trace_counter()

        @jax.jit
        @chex.assert_max_traces(n=1)
        def sweep(params, ids, mask, layers, name=name, edit=edit):
            return models.sweep_last_token(
                model, params, ids, lambda layer, s: {name: edit(s)}, strengths,
                layers=layers, mask=mask,
            )  # fmt: skip

        @jax.jit
        def full(a, layer, name=name, edit=edit):
            where = aj.select(name, layers=layer, at="last_prompt")
            return aj.intervene(model.apply, [(where, edit(a))])(params, ids, mask=RIGHT)

        got = sweep(params, ids, RIGHT, jnp.array([1, 0]))
        assert got.shape == (2, 3, 2, SIZES["vocab"])
        for i, layer in enumerate((1, 0)):
            for j, a in enumerate(strengths):
                want = full(a, layer)[jnp.arange(2), jnp.array([5, 8])]
                chex.assert_trees_all_close(got[i, j], want, atol=1e-5)
        assert jnp.isnan(sweep(params, ids, RIGHT, jnp.array([2, 0]))[0]).all()


def test_a_sweep_has_gradients_and_takes_prompts_as_long_as_the_context():
    model, params = network("gpt2")
    ids = tokens(2, SIZES["context"])
    mask = np.arange(SIZES["context"])[None] < np.array([[1], [SIZES["context"]]])
    edits = lambda layer, v: {POST: aj.edits.add(v)}  # noqa: E731

    @jax.jit
    def by_layer(vectors):
        out = models.sweep_last_token(model, params, ids, edits, vectors, layers=[0], mask=mask)
        return jnp.sum(out[0, 0] ** 2), out

    @jax.jit
    def whole(vectors):
        where = [(aj.select(POST, layers=0, at="last_prompt"), aj.edits.add(vectors[0]))]
        out = aj.intervene(model.apply, where)(params, ids, mask=mask)
        out = jnp.stack([out[0, 0], out[1, -1]])
        return jnp.sum(out**2), out

    (slope, out), (want, full) = (jax.grad(f, has_aux=True)(V[None]) for f in (by_layer, whole))
    chex.assert_trees_all_close(out[0, 0], full, atol=1e-5)
    chex.assert_trees_all_close(slope, want, rtol=1e-4, atol=1e-4 * float(jnp.abs(want).max()))


def test_layers_alone_can_be_swept_and_are_checked():
    model, params = network("gpt2", scan=False)
    ids = tokens()
    zero = lambda layer: {"blocks/mlp/out": aj.edits.scale(0.0)}  # noqa: E731
    sweep = functools.partial(models.sweep_last_token, model, params, ids, zero)
    got = jax.jit(lambda: sweep(layers=[0, -1], read=lambda x: x.max(-1)))()
    for i in range(2):
        full = aj.intervene(
            model.apply, [(aj.select(f"blocks/{i}/mlp/out", at=-1), jnp.zeros_like)]
        )
        want = jax.jit(full)(params, ids)[:, -1].max(-1)
        chex.assert_trees_all_close(got[i], want, atol=1e-5)
    for bad in ([2], [-3], []):
        with pytest.raises(ValueError, match="layers: expected"):
            sweep(layers=bad)
    with pytest.raises(ValueError, match="chunk: expected at least 1"):
        sweep(layers=[0], chunk=0)


def test_a_sweep_over_prompts_of_one_token():
    model, params = network("gpt2")
    ids = tokens(2, 1)
    edits = lambda a: {POST: aj.edits.scale(a)}  # noqa: E731
    sweep = functools.partial(models.sweep_last_token, model)
    got = jax.jit(lambda p, t: sweep(p, t, edits, jnp.array([1.0, 0.5])))(params, ids)
    chex.assert_trees_all_close(got[0], padded(model)(params, ids)[:, 0], atol=1e-5)


def test_64_bits_change_no_type():
    model, params = network("llama")
    ids = np.asarray(tokens(), np.int64)
    how = {"steps": 4, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "stop": [3]}
    edits = lambda layer, a: {POST: aj.edits.scale(a)}  # noqa: E731

    def both(p):
        return (
            models.generate(model, p, ids, mask=RIGHT, key=jax.random.key(0), **how),
            models.sweep_last_token(model, p, ids, edits, np.ones(3, np.float32), layers=[1]),
        )

    narrow = jax.eval_shape(both, params)
    with jax.enable_x64(True):
        assert jax.eval_shape(both, params) == narrow


def test_what_is_not_chosen_is_not_run_again():
    # 12 combinations of one token each: fewer operations than 12 prompts of 9
    model, params = network("llama")
    ids = tokens()
    edits = lambda a: [(aj.select(POST, at="last_prompt"), aj.edits.scale(a))]  # noqa: E731
    strengths = jnp.arange(12.0)

    def flops(f):
        return jax.jit(f).lower(params, strengths).compile().cost_analysis()["flops"]

    cheap = flops(lambda p, a: models.sweep_last_token(model, p, ids, edits, a))
    full = flops(lambda p, a: jax.vmap(lambda s: aj.intervene(model.apply, edits(s))(p, ids))(a))
    assert cheap < 0.3 * full  # (9 + 12) / (9 * 12) of the tokens is .19


IDS = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"steps": 0}, "steps: expected an integer >= 1"),
        ({"steps": 30}, "prompts of 3 tokens .* and 30 new ones do not fit .* context of 24"),
        ({"stop": [99]}, r"stop: token 99 is outside the vocabulary 0\.\.36"),
        ({"pad": -1}, "pad: token -1 is outside"),
        ({"temperature": -1.0, "key": KEY}, "temperature: expected a number >= 0"),
        ({"temperature": 1.0}, r"needs key=jax.random.key\(0\)"),
        ({"top_k": 99}, r"top_k: expected an integer in 1\.\.37"),
        ({"top_p": 0.0}, r"top_p: expected a number in \(0, 1\]"),
        ({"mask": IDS > 4}, "prompt 0 has no tokens"),
    ],
)
def test_what_cannot_be_generated_is_said_first(kwargs, message):
    model = models.decoder(**SIZES)
    params = jax.eval_shape(model.init, KEY)  # never reached
    with pytest.raises(ValueError, match=message):
        models.generate(model, params, IDS, **{"steps": 4, **kwargs})


def test_prompts_and_sweeps_of_wrong_shape():
    model = models.decoder(**SIZES)
    params = jax.eval_shape(model.init, KEY)  # never reached
    with pytest.raises(ValueError, match=r"prompts: expected shape \[batch, seq\], got \[3\]"):
        models.generate(model, params, IDS[0], steps=2)
    with pytest.raises(ValueError, match="at least one array to sweep"):
        models.sweep_last_token(model, params, IDS, lambda: {})
    with pytest.raises(ValueError, match="argument 0 .* one leading axis"):
        models.sweep_last_token(model, params, IDS, lambda a: {}, jnp.zeros(0))
    run = aj.intervene(functools.partial(models.generate, model, steps=2), {POST: jnp.abs})
    with pytest.raises(aj.SiteError, match=r"no site matches .*nearest: .*blocks/resid_post"):
        jax.eval_shape(run, params, IDS)


def test_everything_lowers_for_accelerators():
    model, params = network("qwen3")
    ids = tokens()
    edits = lambda layer, a: {POST: aj.edits.scale(a)}  # noqa: E731

    @jax.jit
    def everything(p, ids, key):
        new = models.generate(model, p, ids, steps=3, mask=RIGHT, key=key, temperature=1.0, top_k=4)
        some = models.sweep_last_token(model, p, ids, edits, jnp.ones(2), layers=[0, 1])
        return new.tokens, some, jax.grad(lambda p: model.apply(p, ids).sum())(p)

    for platform in ("tpu", "cuda"):
        exported = jax.export.export(everything, platforms=[platform])(params, ids, KEY)
        assert exported.platforms == (platform,)


def test_a_cache_taken_in_another_order_is_that_of_those_sequences():
    model, params, _ = generator()
    ids, rows = tokens(), jnp.array([1, 0, 1])

    @jax.jit
    def last(p, ids):
        _, cache = models.prefill(model, p, ids[:, :-1], slots=ids.shape[1])
        return model.apply(p, ids[rows, -1:], state=cache.take(rows))[0][:, 0]

    # two compilations of a small network
    chex.assert_trees_all_close(last(params, ids), padded(model)(params, ids)[rows, -1], atol=1e-5)
