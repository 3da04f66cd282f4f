"""Silent wrong answers that a hostile review found, each with the input that had it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import introspection, models
from activjax.introspection import Condition, Prompts, Readings, Report, Rows
from activjax.runs.kept import kept
from tests.introspection.world import TALK, WORLD, trials

ASK = TALK.ask(np.full(2, -1), seed=3)
TINY = models.decoder(vocab=WORLD.vocab, context=17, layers=1, width=8, heads=1, mlp_width=8)


def tiny_bank() -> introspection.ConceptBank:
    v = np.eye(64, 8, dtype=np.float32)[None] + 0.5
    return introspection.ConceptBank(
        jnp.asarray(v), jnp.ones(1), TALK.names, "blocks/resid_post", (0,)
    )


TINY_PARAMS = jax.jit(TINY.init)(jax.random.key(0))


def ask(kind, params=TINY_PARAMS, given=None, **options):
    given = tiny_bank() if given is None else given
    return introspection.ask(TINY, params, given, trials(layers=(0,)), kind, chunk=64, **options)


# --- injections ---


def test_the_derivative_by_a_strength_of_zero_is_that_of_the_sum():
    """It was exactly 0, whatever the vector: a zero was left out by a choice between two values."""

    @jax.jit
    @jax.value_and_grad
    def logit(strength):
        apply = introspection.inject(TINY.apply, tiny_bank(), 3, strength, layer=0)
        return apply(TINY_PARAMS, jnp.asarray(ASK.tokens), mask=jnp.asarray(ASK.mask))[
            0, ASK.last[0], 7
        ]

    h = 1e-2  # the cubic's error is about h^2, the rounding of values of about 1 is 1e-7 / h
    slope = (logit(h)[0] - logit(-h)[0]) / (2 * h)
    assert abs(slope) > 1e-2
    np.testing.assert_allclose(logit(0.0)[1], slope, rtol=2e-2)


def test_the_derivative_by_a_weight_of_zero_is_that_of_the_difference():
    """It was exactly 0: a search by gradients that began with no ablation stayed there."""

    @jax.jit
    @jax.value_and_grad
    def logit(weight):
        gone = introspection.ablate(TINY.apply, jnp.arange(8.0)[None] - 3, weight)
        return gone(TINY_PARAMS, jnp.asarray(ASK.tokens))[0, 5, 7]

    h = 1e-2  # as above
    slope = (logit(h)[0] - logit(-h)[0]) / (2 * h)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(logit(0.0)[1], slope, rtol=2e-2)


@pytest.mark.parametrize(
    ("at", "message"),
    [(-1, "from 0 on, got -1"), (np.array([3, -2]), "got -2"), (14, "position 14, but there are")],
)
def test_positions_at_which_nothing_would_be_put_are_refused(at, message):
    """-1 was the last column: of a padded prompt, padding."""

    def put(p):
        return introspection.inject(TINY.apply, tiny_bank(), 3, 1.0, layer=0, at=at)(p, ASK.tokens)

    with pytest.raises(ValueError, match=message):
        jax.eval_shape(put, TINY_PARAMS)


def test_a_later_position_is_still_reached_by_generation():
    def new(at):
        apply = introspection.inject(TINY.apply, tiny_bank(), 3, 50.0, layer=0, at=at)
        edited = dataclasses.replace(TINY, apply=apply)
        tokens = jnp.asarray(ASK.tokens[:, :5])
        return models.generate(edited, TINY_PARAMS, tokens, steps=3).logprobs

    later, never = jax.jit(lambda: (new(6), new(16)))()
    np.testing.assert_array_equal(later[:, :2], never[:, :2])
    assert (later[:, 2] != never[:, 2]).all()


def test_a_traced_layer_that_the_bank_has_not_is_nan_for_noise_too():
    """It had the length that belongs to the bank's first layer."""

    @jax.jit
    def vectors(layer):
        none, one = jnp.full(2, -1), jnp.ones(2)
        return introspection.put(
            tiny_bank(), none, jnp.arange(2), one, layer, seed=0, units="resid_norm"
        )

    found = np.isnan(vectors(jnp.array([0, 5])))
    np.testing.assert_array_equal(found.all(1), [False, True])
    np.testing.assert_array_equal(found.any(1), [False, True])


# --- answers ---


def test_answers_that_the_context_has_no_room_for_are_refused():
    """In a compiled program the cache was full, logits were NaN, and the answer token 0."""
    prompts = Prompts(ASK.tokens, ASK.last)

    def run(steps, prefix, at):
        return jax.eval_shape(
            lambda p, v: introspection.respond(
                TINY, p, prompts, jnp.arange(2), v, site="blocks/resid_post", layer=0, steps=steps,
                prefix=prefix, at=at,
            ),
            TINY_PARAMS, jnp.ones((2, 8)),
        )  # fmt: skip

    for at in ("last_prompt", "persistent", "all"):
        assert run(3, np.array([5]), at).shape == (2, 3)  # 14 + 1 + 3 - 1 = 17, all of the context
        for steps, prefix in ((4, np.array([5])), (5, None)):
            with pytest.raises(ValueError, match="context"):
                run(steps, prefix, at)


def test_a_broken_model_has_no_rate_of_false_positives():
    """NaN is token 0, which claims nothing: 0 % false positives."""
    broken = jax.tree.map(lambda x: x * jnp.nan, TINY_PARAMS)
    with pytest.raises(ValueError, match="logits of 6 of 6 answers are NaN"):
        ask("clean", broken)


def test_rows_that_are_no_prompts_are_refused():
    args = (TINY, TINY_PARAMS, Prompts(ASK.tokens, ASK.last), jnp.array([0, 2]), jnp.ones((2, 8)))
    with pytest.raises(ValueError, match="rows: expected prompts 0 to 1"):
        introspection.respond(*args, site="blocks/resid_post", layer=0, steps=1, at="all")


# --- what is counted ---


def test_at_strength_zero_inputs_are_the_questions():
    """Each of two prompts counted once for each of sixteen concepts that were not put in."""
    injected = ask("injected", strength=0.0)
    assert len(injected.rows) == 32
    rate = injected.rate("detected")
    assert (rate.n, rate.distinct, rate.clusters) == (32, 2, 2)
    assert ask("injected", strength=1.0).rate("detected")[-2:] == (32, 16)
    noise = ask("noise", strength=0.0)
    assert noise.rows.distinct == noise.rate("detected").clusters == 6


@pytest.mark.parametrize("option", ["concepts", "nothing", "strength", "name"])
def test_no_option_makes_a_condition_mean_another(option):
    """Of `concepts=` trained ones, the condition "injected, held out" said nothing."""
    with pytest.raises(TypeError, match=f"no option '{option}'"):
        introspection.evaluate(TINY, TINY_PARAMS, tiny_bank(), trials(), **{option: [1]})


def test_questions_about_one_concept_are_one_cluster_also_with_nothing_put_in():
    found = ask("wrong prompt", nothing=True)
    mentioned = len(np.unique(found.rows.mentions))
    assert mentioned < len(found.rows)
    assert found.rate("detected").clusters == mentioned


def test_equal_inputs_are_one_cluster():
    """A conversation with few wordings: four trials of two questions are not four."""
    none, zero = np.full(4, -1, np.int32), np.zeros(4, np.int32)
    prompts = Prompts(np.array([[1], [2], [1], [2]], np.int32), zero)
    clean = np.full(4, introspection.KINDS.index("clean"), np.int32)
    rows = Rows(prompts, clean, none, none, np.zeros(4, np.float32), zero, none)
    no = np.zeros(4, bool)
    found = Condition("clean", 0.0, 0, rows, zero[:, None], Readings(no, ~no, none, no))
    assert found.rate("detected")[3:] == (0, 4, 2, 2)
    twice = Report(TALK, (found, dataclasses.replace(found, strength=1.0)))
    with pytest.raises(KeyError, match="2 conditions 'clean'"):
        twice.get("clean")
    assert twice.get("clean", 1.0).strength == 1.0


# --- what belongs together ---


def test_a_bank_of_other_concepts_is_refused():
    """In another order, every report would name the wrong concept."""
    own, recipe = tiny_bank(), trials(layers=(0,))
    turned = dataclasses.replace(own, names=own.names[::-1])
    few = dataclasses.replace(own, names=own.names[:3], vectors=own.vectors[:, :3])
    for wrong, message in ((turned, "concept 0 is 'H8', the conversation's 'A1'"), (few, "has 3")):
        with pytest.raises(ValueError, match=message):
            introspection.ask(TINY, TINY_PARAMS, wrong, recipe, "clean")
        with pytest.raises(ValueError, match=message):  # it trained on NaN
            introspection.train(TINY, TINY_PARAMS, wrong, recipe, steps=1)
    numbered = dataclasses.replace(tiny_bank(), names=tuple(map(str, range(64))))
    assert len(ask("clean", given=numbered).rows) == 6


@pytest.mark.parametrize("concepts", [[], [3, 64], [-1], [1.5]])
def test_concepts_that_there_are_not_cannot_be_asked_for(concepts):
    """64 was NaN inside a compiled program, and so never identified."""
    with pytest.raises(ValueError, match="concepts: expected some of 0 to 63"):
        trials().testing("injected", concepts=concepts)


def test_another_mix_is_checked_as_the_recipe_is():
    """A kind that does not exist was left out; with "dpo", "replay" alone left nothing."""
    with pytest.raises(ValueError, match="did you mean 'injected'"):
        trials().training(4, mix={"injectd": 1, "clean": 1})
    with pytest.raises(ValueError, match="share above 0"):
        introspection.train(
            TINY,
            TINY_PARAMS,
            tiny_bank(),
            trials(layers=(0,), mix={"replay": 1}),
            objective="dpo",
            steps=1,
        )


def test_strength_zero_cannot_be_trained_on():
    """It taught the model to report thoughts that are not there."""
    with pytest.raises(ValueError, match="strengths: at 0"):
        trials(strengths=(0.0, 1.0))


def test_parameters_spread_over_devices_are_trained():
    """It was refused by JAX: what goes round the loop lay on the first device alone."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.NamedSharding(mesh, jax.P())
    recipe = trials(layers=(0,), mix={"clean": 1})
    given = recipe.training(8)
    moved = jax.device_put(TINY_PARAMS, spread)
    found = introspection.train(TINY, moved, tiny_bank(), recipe, steps=1, batch=8, examples=given)
    assert all(len(x.devices()) == 8 for x in jax.tree.leaves(found.trained))
    nats = -jax.nn.log_softmax(jax.jit(TINY.apply)(TINY_PARAMS, given.tokens[:, :-1]))
    nats = np.take_along_axis(np.asarray(nats), given.tokens[:, 1:, None], -1)[..., 0]
    learned = given.learned[:, 1:]
    # sums of 17 terms in another order
    expected = ((nats * learned).sum(1) / learned.sum(1)).mean()
    np.testing.assert_allclose(found.curves["loss"], [expected], rtol=1e-5)


def test_dpo_refuses_documents_and_layers_of_given_examples_are_checked():
    """Their rejected answer was padding."""
    found = trials(layers=(0,)).training(16)
    with pytest.raises(ValueError, match="'replay'"):
        introspection.train(
            TINY, TINY_PARAMS, tiny_bank(), trials(layers=(0,)), objective="dpo", examples=found
        )
    deep = dataclasses.replace(found.rows, layer=np.full(16, 7, np.int32))
    with pytest.raises(ValueError, match="layer 7"):
        introspection.train(
            TINY,
            TINY_PARAMS,
            tiny_bank(),
            trials(layers=(0,)),
            examples=dataclasses.replace(found, rows=deep),
        )


@pytest.mark.parametrize("wrapped", [jax.jit, functools.cache])
def test_what_is_kept_knows_the_source_inside_a_wrapper(tmp_path, wrapped):
    made = []

    def make():
        made.append(1)
        return {"a": jnp.arange(3)}

    like = {"a": jax.ShapeDtypeStruct((3,), np.int32)}
    for _ in range(2):
        np.testing.assert_array_equal(kept(tmp_path, "x", {}, like, wrapped(make))["a"], [0, 1, 2])
    assert len(made) == 1


def test_what_has_no_source_is_not_kept(tmp_path):
    """It was found again whatever had changed in activjax."""
    names = {}
    exec("def make(): return {}", names)
    for make in (names["make"], functools.partial(dict, a=1)):
        with pytest.raises(ValueError, match="function written in a file"):
            kept(tmp_path, "x", {}, {}, make)
