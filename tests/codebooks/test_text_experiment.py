"""The parts of experiments/codebook_text.py, where a mistake would not be seen in its numbers."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import activjax as aj
from activjax import codebooks, models
from activjax.codebooks._index import Code, IndexWriter, Layout, find, open_index, reported_half
from activjax.runs import contract

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
SOURCE = '''"""Doc é."""
import os.path as path  # why
def f(self):
    """Twice
    told."""
    x = 'a"b' + "c"
    return self.x
'''


@pytest.fixture(scope="module", autouse=True)
def loaded():
    contract.load("codebook_text.py", EXPERIMENTS)  # finds the modules beside it


def part(name):
    return importlib.import_module(f"codebook_text_{name}")


def shown(mask, text=SOURCE):
    """What is marked, each run of bytes for itself."""
    raw = text.encode()
    at = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [raw[a:b].decode() for a, b in zip(at[::2], at[1::2])]


def test_strings_docstrings_and_comments_are_marked_in_bytes():
    masks = part("data").marked(SOURCE)
    assert shown(masks["in a docstring"]) == ["Doc é.", "Twice\n    told."]
    assert shown(masks["in a string"]) == ['a"b', "c"]
    assert shown(masks["in a comment"]) == [" why"]


def test_what_is_no_python_is_left_out():
    assert part("data").marked('x = """never ends') is None


def test_regular_expressions_mean_what_their_names_say():
    import re

    concepts = part("data").CONCEPTS
    text = "import os\nclass A:\n    def f(self):\n        self.ab = 1\n            b"
    meant = {n: [m.group(1) for m in re.finditer(c.label, text)] for n, c in concepts.items()
             if c.label != "tokenize"}  # fmt: skip
    assert meant == {
        "attribute of self": ["ab"], "line at depth 1": ["d"], "line at depth 2": ["s"],
        "name after def": ["f"], "in an import": ["os"],
    }  # fmt: skip


@pytest.mark.parametrize("context", [4, 8])
def test_windows_are_joined_to_the_excerpts_they_were_cut_from(context):
    size = context + 5 * (context // 2)
    tokens = np.arange(3 * size).reshape(3, size)
    held = part("data").Held(("a", "b", "c"), tokens, context, {})
    windows = held.windows
    assert (held.joined(windows) == tokens).all()
    assert (held.joined(windows[:, 1:], lost=1) == tokens[:, 1:]).all()
    features = np.stack([windows, -windows], axis=-1)
    assert (held.joined(features)[..., 1] == -tokens).all()


def test_the_other_half_is_the_one_that_find_reports_on(tmp_path):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 2, (12, 6))
    with IndexWriter(tmp_path / "codes", {"s": Layout((), 1, 2, 1)}) as writer:
        writer.add(tokens, {"s": (tokens[..., None, None], np.ones((12, 6, 1, 1)))})
    labels = tokens == 1
    found = find(open_index(tmp_path / "codes"), labels.reshape(-1))
    second = reported_half(12)
    assert int(labels[second].sum()) == found.reported_on.labelled
    assert int(labels[~second].sum()) == found.chosen_on.labelled


def test_precision_recall_and_f1_by_hand():
    on = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    marked = np.array([[1, 0, 1, 0], [1, 0, 1, 0]], bool)
    best = part("concepts").measured("unit", on, marked, 0.5)
    assert best.precision[0] == pytest.approx(2 / 3)  # two of the three bytes with the unit
    assert best.recall[0] == 0.5
    assert best.f1[0] == pytest.approx(4 / 7)
    assert best.lift == pytest.approx(4 / 3)  # half of all bytes are marked


@pytest.mark.parametrize("sign", [1, -1])
def test_the_neuron_and_the_side_of_its_threshold_are_found(sign):
    rng = np.random.default_rng(0)
    acts = rng.normal(size=(6, 50, 2, 3)).astype(np.float16)
    marks = rng.random((6, 50)) < 0.2
    acts[..., 1, 2] = sign * (marks * 10.0 + rng.normal(size=(6, 50)))
    second = np.array([0, 1, 0, 1, 0, 1], bool)
    best = part("concepts").neurons(acts, second, {"it": marks})["it"]
    assert best.name.startswith("blocks/mlp/post[1] #2 ")
    assert (">" if sign > 0 else "<") in best.name
    assert best.f1[0] > 0.8


def small():
    networks, data = part("models"), part("data")
    model = models.decoder(vocab=data.CODER.vocab, context=16, layers=2, width=8, heads=2)
    spec = {
        networks.MLP: codebooks.Spec(6, 2),
        networks.HEADS: codebooks.Spec(5, 1, groups=2, axis=-2),
    }
    rows = data.rows(["def f(x):\n    return x\n" * 4], 17)
    return networks.Network(model, spec, rows, 2)


def bottleneck():
    """One bottleneck of two groups, and activations [batch, seq, groups, d]."""
    rng = np.random.default_rng(0)
    shapes = {"enc": (2, 4, 6), "enc_bias": (2, 6), "dec": (2, 6, 4), "bias": (2, 4)}
    p = {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
    p["scale"] = np.array([0.5, 2.0], np.float32)
    return jax.tree.map(jnp.asarray, p), jnp.asarray(rng.normal(size=(2, 5, 2, 4)), jnp.float32)


def replaced(p, x):
    models_ = part("models")
    return aj.capture(lambda p, x: models_.topk_bottleneck(models_.Kept(3), p, x), "topk/*")(p, x)


def test_a_topk_bottleneck_is_what_it_says():
    """Against a loop in float64: sums of at most 6 float32 terms of order 10."""
    p, x = bottleneck()
    y, tags = jax.jit(replaced)(p, x)
    p = {k: np.asarray(v, np.float64) for k, v in p.items()}
    error = 0.0
    for b, t, g in np.ndindex(2, 5, 2):
        a = (np.asarray(x[b, t, g], np.float64) - p["bias"][g]) / p["scale"][g]
        z = np.maximum(a @ p["enc"][g] + p["enc_bias"][g], 0)
        best = [i for i in np.argsort(-z)[:3] if z[i] > 0]
        assert [i for i in tags["topk/ids"][b, t, g].tolist() if i >= 0] == best
        values = np.asarray(tags["topk/values"][b, t, g])[: len(best)]
        np.testing.assert_allclose(values, z[best], atol=1e-5)
        out = z[best] @ p["dec"][g][best] * p["scale"][g] + p["bias"][g]
        np.testing.assert_allclose(y[b, t, g], out, atol=1e-4)
        error += (((out - np.asarray(x[b, t, g])) / p["scale"][g]) ** 2).sum() / 10
    np.testing.assert_allclose(tags["topk/error"], error, rtol=1e-5)


def test_the_error_of_a_topk_bottleneck_trains_the_bottleneck_only():
    p, x = bottleneck()
    of_p, of_x = jax.jit(jax.grad(lambda p, x: replaced(p, x)[1]["topk/error"], (0, 1)))(p, x)
    assert not of_x.any()
    assert not of_p["scale"].any()
    assert all(of_p[name].any() for name in ("enc", "enc_bias", "dec", "bias"))


@pytest.mark.slow
def test_steering_begins_with_the_first_new_byte_and_nothing_is_a_no_op():
    steering, networks, net = part("steering"), part("models"), small()
    params = jax.tree.map(jnp.asarray, net.model.init(jax.random.key(0)))
    params["embed"]["table"] *= 1000  # logits far apart: samples are the largest
    books = networks.first_codes(net, params, jax.random.key(1))
    prompts = net.rows.tokens[:2, :6]
    own = steering.Steering(net, (params, books), params, params, prompts, new=4, temperature=0.5)
    name = "in a comment"
    plain = own.with_vectors(name, own.nothing)
    again = models.generate(
        net.model, params, jnp.asarray(prompts), steps=4, temperature=0.5, key=own.key
    ).tokens
    coder = part("data").CODER
    assert plain.texts == [coder.decode(row) for row in np.asarray(again)]  # codes are off
    # towards the longest embedding, whose product with itself is larger than with any other
    table = np.asarray(params["embed"]["table"])
    most = int(np.linalg.norm(table, axis=1).argmax())
    pushed = own.with_vectors(name, np.tile(1e6 * table[most], (2, 1)))
    assert pushed.texts == [coder.decode([most] * 4)] * 2  # from the first byte on
    codes = [Code(networks.MLP, (1,), 0, 3), Code(networks.HEADS, (0,), 1, 2)]
    filled = own.put(codes, "fill, all codebooks")
    ids = np.asarray(filled.sites[networks.MLP].ids)  # [layers, 1, positions, groups, k]
    assert (ids[:, :, :5] == -1).all()
    assert (ids[1, :, 5:] == 3).all()
    assert (ids[0] == -1).all()
    heads = np.asarray(filled.sites[networks.HEADS].ids)
    assert (heads[0, :, 5:, 1] == 2).all()
    assert (heads[:, :, :, 0] == -1).all()
    over = own.put(codes, "last, 1 codebook")
    last = np.asarray(over.sites[networks.MLP].ids)
    assert (np.asarray(over.sites[networks.HEADS].ids) == -1).all()
    assert (last[1, :, 5:, :, -1] == 3).all()
    assert (last[1, :, :, :, 0] == -1).all()
