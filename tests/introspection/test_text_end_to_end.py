"""Vectors, training and evaluation in plain text, on tiny random decoders."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from activjax import cli, data, introspection, models, training
from activjax.introspection._conversation import conversation
from activjax.introspection._templates import Templates, parse_templates

CONFIG = Path(__file__).parent.parent.parent / "configs/introspection_text.yaml"
KERNELS = ("blocks/attn/*/kernel", "blocks/mlp/*/kernel")
SHORT = {
    "elicit": "{c}=", "frame": "{text}:", "before_answer": "", "report": "yes {c}",
    "claim": "yes", "denial": "no", "claims": ["yes"], "denials": ["no"],
    "paraphrases": ["any?", "now?", "it?", "eh?"], "other": ["say", "why"],
    "plain": ["so", "hm", "oh", "ah", "we", "go", "up", "ok"],
    "mention": ["a {c}", "the {c}", "see {c}", "my {c}"],
    "instructions": ["run", "sit", "eat", "dig"],
}  # fmt: skip
NAMES = ("dust", "rain", "mud", "ice", "tea", "salt", "fog", "silk")


@pytest.mark.slow
def test_a_random_decoder_learns_its_trained_concepts_by_heart_and_nothing_else():
    talk = conversation(data.byte_tokenizer(), NAMES, templates=parse_templates(SHORT), steps=9)
    model = models.decoder(
        vocab=257, context=64, layers=2, width=32, heads=4, norm="rms",
        positions="rotary", bias=False,
    )  # fmt: skip
    params = model.init(jax.random.key(0))
    bank = jax.jit(
        lambda p: introspection.concept_vectors(
            model.apply, p, talk.elicit(np.arange(len(NAMES))),
            talk.baseline_prompts(["sun", "oats", "wool", "jam"]), layer=[0], names=NAMES,
        )
    )(params)  # fmt: skip
    trials = introspection.Trials(
        talk, train=range(6), held_out=range(6, 8), layers=(0,), strengths=(1.0,), clean=8,
        mentions=20, noises=10, prompts=3,
        mix={"injected": 0.3, "mismatch": 0.1, "clean": 0.3, "mention": 0.1, "noise": 0.1,
             "replay": 0.1},
    )  # fmt: skip
    tuned = introspection.train(
        model, params, bank, trials, adapter=introspection.LoRA(32, 64.0, KERNELS), steps=300,
        batch=16, rate=1e-2,
    )  # fmt: skip
    after = introspection.evaluate(tuned.model, tuned.params, bank, trials, chunk=32)

    assert [c.name for c in after] == [  # with every control
        "clean", "mention", "wrong prompt, nothing put in", "injected, held out",
        "injected, trained", "mismatch", "noise", "wrong prompt",
    ]  # fmt: skip
    assert after.get("injected, trained").rate("identified").value > 0.9
    assert after.get("injected, trained").rate("forced").value > 0.9
    for control in ("clean", "mention"):
        assert after.get(control).rate("detected").value < 0.1
        assert after.get(control).rate("coherent").value > 0.9
    assert after.get("noise").rate("detected").value < 0.3
    # a random decoder has nothing in common between concepts
    assert after.get("injected, held out").rate("identified").value < 0.5
    assert "yes dust" in after.dialogues()

    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, tuned.params)
    for path, changed in jax.tree_util.tree_leaves_with_path(moved):
        assert changed == jax.tree_util.keystr(path, simple=True, separator="/").endswith("kernel")


def folder(path, context):
    """A decoder with a byte-pair tokenizer, its vocabulary padded as published ones are."""
    t = Templates()
    texts = [*t.plain, *t.mention, *t.paraphrases, *t.other, *t.instructions, t.report, t.denial]
    data.train_bpe([*texts, *texts, "Human: Tell me about Assistant:"] * 2, 500, path=path)
    model = models.decoder(
        vocab=512, context=context, layers=3, width=16, heads=2, norm="rms", positions="rotary",
        bias=False,
    )  # fmt: skip
    params = model.init(jax.random.key(1))
    return training.save_model(path / "model", model, params, tokenizer=path / "tokenizer.json")


SMALL = [
    "names=[dust, rain, mud, ice cream, tea, salt]", "held_out=2", "baseline=[water, wood]",
    "steps=3", "batch=4", "rank=4", "tested=[0.0, 40.0]", "reported=40.0", "units=abs",
    "strengths=[40, 60, 80, 100]", "clean=4", "mentions=4", "noises=4", "chunk=8", "answer=40",
]  # fmt: skip


@pytest.mark.slow
def test_a_saved_model_by_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = folder(tmp_path / "own", 160)
    assert cli.main(["run", str(CONFIG), f"model={model}", "begin=0", *SMALL]) == 0
    (run,) = (tmp_path / "runs").glob("*/*")
    result = json.loads((run / "result.json").read_text())
    assert "is random and small" not in result["answer"]
    rows = {(row["name"], row["where"].get("strength")): row for row in result["summary"]}
    assert rows["false reports, concept mentioned", 0.0]["n"] == 4
    assert rows["held-out concepts identified", 40.0]["n"] == 4
    assert rows["change of other text", None]["value"] >= 0
    contents = json.loads((run / "contents.json").read_text())
    shown = json.dumps(contents)
    for name in ("before", "after", "dialogues_before", "dialogues_after", "doses", "confusion"):
        assert f'"{name}"' in shown

    capsys.readouterr()
    short = folder(tmp_path / "short", 64)
    assert cli.main(["run", str(CONFIG), f"model={short}", *SMALL]) != 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert "its context of 64 tokens does not hold" in said
    assert cli.main(["run", str(CONFIG), "templates.plane=['Hi.']"]) != 0
    assert "plain" in "".join(capsys.readouterr())
