"""The parts of experiments/text_statistics.py, against sums done the long way in float64."""

from __future__ import annotations

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import data, models
from activjax.runs import contract

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
TEXTS = [f"def f{i}(x):\n    return x + {i}  # é{i}\n" * 6 for i in range(6)]


@pytest.fixture(scope="module")
def part():
    return contract.load("text_statistics.py", EXPERIMENTS).module


@pytest.fixture(scope="module")
def report(part):
    return importlib.import_module("text_statistics_report")


def corpus():
    return data.Corpus.of([(f"{i}.py", t) for i, t in enumerate(TEXTS)], label="x", files=())


def config(part, **fields):
    return part.Config(**{"documents": 6, "excerpts": 3, "length": 12, "groups": 3, **fields})


def test_units_in_use_by_hand(part):
    x = jnp.array([[3.0, -3.0, 3.0, -3.0], [5.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0], [0.0] * 4])
    # (sum |x|)^2 / (units * sum x^2); nothing on: nothing in use
    np.testing.assert_allclose(part.in_use(x)[:, 0], [1.0, 0.25, 9 / 20, 0.0], rtol=1e-6)
    huge = jnp.full((1, 4), 1e30, jnp.float32)
    np.testing.assert_allclose(part.in_use(huge)[:, 0], [1.0], rtol=1e-6)  # no overflow


def test_spread_of_attention_by_hand(part):
    p = jnp.array([[[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0.25] * 4]]])
    found = part.spread(p)
    np.testing.assert_allclose(found[0, :, 0], [1.0, 0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(found[0, :, 1], [0.5, 0.0, 0.25], atol=1e-6)


def test_the_jackknife_of_a_mean_is_its_t_interval(part):
    from activjax import stats

    x = np.random.default_rng(0).normal(size=8)
    without = (x.sum() - x) / 7
    low, high = part.jackknife(x.mean(), without)
    mean, half = stats.mean_interval(x)
    np.testing.assert_allclose([low, high], [mean - half, mean + half], rtol=1e-12)


def test_what_noise_would_give(report):
    """The median of the largest of n normal values: within 1 % of that of 400 samples."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(400, 2000)))
    seen = np.median(x.max(1)) / np.median(x)
    assert report.normal_largest(2000) == pytest.approx(seen, rel=0.01)


@pytest.mark.parametrize("begun", [False, True])
def test_excerpts_are_the_text_and_its_bytes(part, begun, tmp_path):
    library = pytest.importorskip("tokenizers")
    data.train_bpe(TEXTS, 275, path=tmp_path)
    if begun:
        inner = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        inner.add_special_tokens(["<s>"])
        inner.post_processor = library.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 275)]
        )
        inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = data.load_tokenizer(tmp_path)
    found = part.excerpts(corpus(), tokenizer, config(part))
    assert found.tokens.shape[1] == 12
    assert (found.tokens[:, 0] == 275).all() == begun
    assert (np.bincount(found.source) <= 3).all()
    for row, source, text in zip(found.tokens, found.source, found.texts):
        assert text == tokenizer.decode(row if begun else row[1:])
        assert text in corpus().texts[corpus().names.index(found.names[source])]
    assert found.sizes.sum() == sum(len(t.encode()) for t in found.texts)
    with pytest.raises(Exception, match=r"documents: 6 held-out ones have .*at least 7"):
        part.excerpts(corpus(), tokenizer, config(part, groups=7, documents=9))


@pytest.mark.slow
def test_the_pass_is_what_capturing_everything_gives(part, report):
    """Float32 sums of 200 values of order 1 against float64 ones: within 1e-4 of each."""
    tokenizer = data.byte_tokenizer()
    model = models.decoder(vocab=257, context=12, layers=2, width=8, heads=2, norm="rms",
                           positions="rotary", bias=False)  # fmt: skip
    params = jax.jit(model.init)(jax.random.key(0))
    settings = config(part, batch=4)  # groups of 6 excerpts: the last batch is filled up
    found = part.excerpts(corpus(), tokenizer, settings)
    harvest = part.pass_over(model, 0, len(found.names))
    states = part.gathered(harvest, params, found, settings)
    assert len(states) == 3
    whole = harvest.finish(harvest.merge(harvest.merge(*states[:2]), states[2]))

    def read(params, tokens):
        return aj.capture(model.apply, [part.RESID, part.UNITS, part.PATTERN])(params, tokens)

    logits, acts = jax.jit(read)(params, found.tokens[:, :-1])
    acts = {k: np.asarray(v, np.float64) for k, v in acts.items()}
    likely = np.asarray(jax.nn.log_softmax(logits), np.float64)
    nats = -np.take_along_axis(likely, found.tokens[:, 1:, None], axis=2)[..., 0]
    spent = whole[part.NATS]
    own = np.asarray(spent.mean)[:, 0] * np.asarray(spent.n)
    np.testing.assert_allclose(own, np.bincount(found.source, nats.sum(1)), rtol=1e-5)

    without = [harvest.finish(states[g])[part.RESID]["moments"] for g in range(3)]
    made = {m.name: m for m in part.measured(whole, without, len(found.names), 12)}
    for layer in range(2):
        rows = acts[part.RESID][layer].reshape(-1, 8)
        e = np.linalg.eigvalsh(np.cov(rows.T))
        sizes = np.abs(acts[part.RESID][layer])
        units = acts[part.UNITS][layer]
        used = np.abs(units).sum(-1) ** 2 / (units.shape[-1] * np.square(units).sum(-1))
        p = acts[part.PATTERN][layer][:, :, 1:]
        entropy = -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)
        wanted = {
            "directions of the residual stream": e.sum() ** 2 / np.square(e).sum(),
            "share of the strongest direction": e[-1] / e.sum(),
            "share of MLP units in use": used.mean(),
            "entropy of attention": entropy.mean(),
            "attention to the first token": p[..., 0].mean(),
        }
        for name, value in wanted.items():
            assert made[name].values[layer] == pytest.approx(value, rel=1e-4), name
        # a histogram's median is a bfloat16
        ratio = made["largest residual value over the median"].values[layer]
        assert ratio == pytest.approx(sizes.max() / np.median(sizes), rel=0.01)
    top = report.massive_lines(whole[part.RESID], found, tokenizer)
    for x in top:
        sizes = np.abs(acts[part.RESID][x.layer])
        row, place, channel = np.unravel_index(sizes.argmax(), sizes.shape)
        assert (x.document, x.position) == (found.names[found.source[row]], place)
        assert x.channel == channel
        assert x.token == tokenizer.decode(found.tokens[row, place : place + 1])
    # as many tokens can be attended to as there are before and at each
    assert made["attention to the first token"].level == pytest.approx(np.mean(1 / np.r_[2:12]))
