"""Fresh random configurations of every family, compared with the reference library itself.

Needs the extra `reference` (PyTorch, transformers, PEFT); `.ci/full` runs it:

    python tests/models/published/random_configurations.py [--seed S] [--count N] [--family F]

Every draw is saved by the reference library and loaded by both. Compared are the logits, every
residual, with padding on either side and without; 64 tokens of greedy decoding; what the library
makes of the model that `models.save` writes, bit by bit; adapters of PEFT, both ways. The exit code
is 1 where anything differs; `--seed S --family F --draw I` repeats one draw.
"""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import functools
import json
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import peft
import torch
import transformers
from draws import ADAPTED, FAMILIES, STEPS, Draw, draw, older, shorter
from make_checkpoints import randomise, residuals

import activjax as aj
from activjax import models, training

#: The issue's, for values up to 30: float32 on both sides, sums in another order. Beyond, it grows
#: with the values, for so does rounding.
TOLERANCE, VALUES = 1e-4, 30.0
PROMPT = 8


@dataclasses.dataclass
class Outcome:
    """What came of a draw.

    Attributes:
      noise: how far the library is from itself in float64.
      wrong: what differs.
      worst: the largest difference, in tolerances.
      ties: greedy steps that were too close a call for either.
    """

    wrong: list[str] = dataclasses.field(default_factory=list)
    worst: float = 0.0
    ties: int = 0
    noise: float = 0.0

    def allowed(self, values: Any) -> float:
        """How far values may be apart: two roundings of the library's own size, and some room."""
        return max(TOLERANCE * max(1.0, abs(values).max() / VALUES), 4 * self.noise)

    def close(self, what: str, got: Any, want: Any, real: Any = None) -> None:
        """Compare; `real` leaves padding aside."""
        got, want = np.asarray(got), np.asarray(want)
        if got.shape != want.shape:
            self.wrong.append(f"{what}: shape {got.shape}, expected {want.shape}")
            return
        if real is not None:
            got, want = got[..., real, :], want[..., real, :]
        allowed = self.allowed(want)
        share = float(abs(got - want).max()) / allowed
        self.worst = max(self.worst, share)
        if not share <= 1:  # NaN, too
            self.wrong.append(f"{what}: {share * allowed:.2g} apart, allowed {allowed:.2g}")

    def same(self, what: str, got: Any, want: Any) -> None:
        """Compare bit by bit."""
        if not np.array_equal(got, want):
            self.wrong.append(f"{what}: {abs(np.asarray(got) - want).max():.2g} apart, expected 0")


def write(d: Draw, folder: Path, seed: int) -> None:
    """A folder with the model of a draw, as the reference library writes it."""
    word = d.bare or d.word
    with torch.random.fork_rng():
        model = getattr(transformers, word)._from_config(d.config)
    randomise(model, seed)
    size = {} if d.shard is None else {"max_shard_size": d.shard}
    if d.family.startswith("gemma"):  # whose norms scale by 1 + the weight
        for name, p in model.named_parameters():
            p.data -= float("norm" in name)
    model.to(getattr(torch, d.dtype)).save_pretrained(folder, **size)
    path = folder / "config.json"
    options = json.loads(path.read_text())
    options = older(options) if d.old else options
    path.write_text(json.dumps(shorter(options, d) if d.short else options))


def reference(d: Draw, folder: Path) -> Any:
    """A folder as the reference library loads it."""
    kind = getattr(transformers, d.word)
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    for p in model.parameters():
        p.data = p.data.clone()  # products depend in their last bit on where an array begins
    return model.eval()


def padded(d: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, and which are real: all, those on the right, those on the left."""
    batch = 1 if d.seq > 1000 else 3
    ids = d.rng.integers(0, d.config.vocab_size, (batch, d.seq))
    mask = np.ones(ids.shape, bool)
    mask[-1, : d.rng.integers(1, d.seq // 2)] = False
    if batch > 1:
        mask[1, -d.rng.integers(1, d.seq // 2) :] = False
    return ids, mask


def given(mask: np.ndarray) -> dict[str, torch.Tensor]:
    """What the reference library is told of padding: positions count real tokens here."""
    places = np.maximum(mask.cumsum(1) - 1, 0)
    return {"attention_mask": torch.tensor(mask).long(), "position_ids": torch.tensor(places)}


def rounding(model: Any, run: Any) -> float:
    """What float32 costs the reference library: large where a draw amplifies every rounding.

    The rates of rotary planes are float32 in any case, here off by their last bit (but that of the
    first plane, which is no power): the angle of a token differs by that bit times its position.
    """
    exact = copy.deepcopy(model).double()
    for name, buffer in exact.named_buffers():
        if "inv_freq" in name:
            buffer[1:] *= 1 + 2**-23
    exact = run(exact)
    return max(float(abs(a - b).max()) for a, b in zip(run(model), exact))


def compare_decoder(d: Draw, folder: Path, out: Outcome) -> None:
    """A decoder: residuals and logits, 64 tokens, saved files, adapters."""
    theirs = reference(d, folder)
    model, params, _ = models.load(folder, param_dtype="float32")
    ids, mask = padded(d)
    out.noise = rounding(theirs, lambda m: residuals(m, torch.tensor(ids)))
    hidden, logits = residuals(theirs, torch.tensor(ids), **given(mask))
    read = jax.jit(aj.capture(functools.partial(model.apply, mask=mask), "blocks/resid_*"))
    got, acts = read(params, ids)
    out.close("logits", got, logits, mask)
    out.close("residuals before blocks", acts["blocks/resid_pre"], hidden[:-1], mask)
    out.close("residuals after blocks", acts["blocks/resid_post"], hidden[1:], mask)

    prompt = ids[:1, :PROMPT]
    written = jax.jit(functools.partial(models.generate, model, steps=STEPS))(params, prompt)
    whole = np.concatenate([prompt, np.asarray(written.tokens)], axis=1)
    before = logits_of(theirs, whole)
    run = jax.jit(model.apply)
    out.close("logits without a mask", run(params, whole), before)
    # the same prefix at each step: equal everywhere exactly where the library writes the same text
    steps = before[0, PROMPT - 1 : -1]
    margins = steps.max(-1) - steps[np.arange(STEPS), whole[0, PROMPT:]]
    ties = (margins > 0) & (margins < out.allowed(steps))
    out.ties += int(ties.sum())
    if (bad := (margins > 0) & ~ties).any():
        out.wrong.append(f"greedy: step {bad.argmax()} is another token, by {margins.max():.2g}")

    def tuned(adapters: Any, alpha: float) -> Any:
        return run(training.lora.merge(params, adapters, alpha=alpha), whole)

    round_trip(d, folder, whole, before, out, logits_of)
    adapters_both_ways(d, folder, model, whole, tuned, out, logits_of)


def logits_of(model: Any, ids: np.ndarray) -> np.ndarray:
    """The logits of the reference library, without padding."""
    with torch.no_grad():
        return model(torch.tensor(ids), use_cache=False).logits.numpy()


def compare_encoder(d: Draw, folder: Path, out: Outcome) -> None:
    """BERT: residuals, the parts that the file has, saved files, adapters."""
    theirs = reference(d, folder)
    model, params, _ = models.load(folder, param_dtype="float32")
    ids, mask = padded(d)
    out.noise = rounding(theirs, lambda m: [states_of(m, ids)])
    types = d.rng.integers(0, d.config.type_vocab_size, ids.shape)
    told = {**given(mask), "token_type_ids": torch.tensor(types)}
    body = getattr(theirs, "bert", theirs)
    with torch.no_grad():
        want = body(torch.tensor(ids), **told, output_hidden_states=True)
        heads = None if body is theirs else theirs(torch.tensor(ids), **told)
    hidden = np.stack([h.numpy() for h in want.hidden_states])
    ours = functools.partial(model.apply, mask=mask, types=types)
    final, acts = jax.jit(aj.capture(ours, "blocks/resid_*"))(params, ids)
    out.close("final", final, hidden[-1], mask)
    out.close("residuals before blocks", acts["blocks/resid_pre"], hidden[:-1], mask)
    out.close("residuals after blocks", acts["blocks/resid_post"], hidden[1:], mask)
    # the library reads the first column, padding or not; here it is the first token
    first = mask[:, :1]
    parts = {"pooled": want.pooler_output}
    if heads is not None:
        parts["logits"] = getattr(heads, "prediction_logits", getattr(heads, "logits", None))
        parts["next_sentence"] = getattr(heads, "seq_relationship_logits", None)
    for name, value in parts.items():
        part = {"pooled": "pooler", "logits": "mlm"}.get(name, name)
        if (value is not None) != getattr(model.config, part):
            out.wrong.append(f"{name}: {part}={getattr(model.config, part)}")
        elif value is not None:
            got = jax.jit(functools.partial(ours, read=name))(params, ids)
            if name == "logits":
                out.close(name, got, value, mask)
            elif first.any():
                out.close(name, np.asarray(got)[:, None], value.numpy()[:, None], first)

    def tuned(adapters: Any, alpha: float) -> Any:
        merged = training.lora.merge(params, adapters, alpha=alpha)
        return jax.jit(model.apply)(merged, ids)

    round_trip(d, folder, ids, states_of(theirs, ids), out, states_of)
    adapters_both_ways(d, folder, model, ids, tuned, out, states_of)


def states_of(model: Any, ids: np.ndarray) -> np.ndarray:
    """The last residuals of the reference library's BERT, without padding."""
    with torch.no_grad():
        return model(torch.tensor(ids), output_hidden_states=True).hidden_states[-1].numpy()


def round_trip(
    d: Draw, folder: Path, ids: np.ndarray, before: np.ndarray, out: Outcome, run: Any
) -> None:
    """Saved in the dtype of the file, and loaded by the reference library: the same bits."""
    model, params, _ = models.load(folder)
    small = {} if d.shard is None else {"shard_bytes": d.shard}
    models.save(folder / "again", model, params, like=folder, **small)
    after = reference(d, folder / "again")
    # an activation of several names comes back by one of them, its sum in another order
    names = [activation(c) for c in (d.config, after.config)]
    compare = out.same if names[0] == names[1] else out.close
    compare("saved and loaded by the library", run(after, ids), before)


def activation(config: Any) -> str:
    """What the reference library computes; "swish" is the same code as "silu"."""
    words = ("activation_function", "hidden_activation", "hidden_act")
    return next(getattr(config, w) for w in words if hasattr(config, w)).replace("swish", "silu")


def adapters_both_ways(
    d: Draw, folder: Path, model: Any, ids: np.ndarray, tuned: Any, out: Outcome, run: Any
) -> None:
    """Adapters that PEFT writes, loaded here; saved here, loaded by PEFT."""
    rng = d.rng
    names = [n for n in ADAPTED[d.family] if rng.random() < 0.5] or [ADAPTED[d.family][0]]
    settings = peft.LoraConfig(
        r=int(rng.integers(1, 5)),
        lora_alpha=int(rng.integers(1, 9)),
        target_modules=names,
        init_lora_weights=False,
        use_rslora=bool(rng.random() < 0.3),
        rank_pattern={names[-1]: 2} if rng.random() < 0.5 else {},
        alpha_pattern={names[0]: 3} if rng.random() < 0.5 else {},
        fan_in_fan_out=d.family == "gpt2",
    )
    torch.manual_seed(int(rng.integers(2**31)))
    theirs = peft.get_peft_model(reference(d, folder), settings).eval()
    theirs.save_pretrained(folder / "adapters")
    want = run(theirs, ids)
    # another network than the one without them, and one that rounds as it will
    out.noise = max(out.noise, rounding(theirs, lambda m: [torch.as_tensor(run(m, ids))]))
    adapters, alpha = models.load_adapters(folder / "adapters", model)
    out.close("adapters of PEFT", tuned(adapters, alpha), want)
    models.save_adapters(folder / "ours", model, adapters, alpha=alpha)
    again = peft.PeftModel.from_pretrained(reference(d, folder), folder / "ours").eval()
    out.close("adapters saved here", run(again, ids), want)


def one(family: str, seed: int, number: int) -> tuple[Outcome, str]:
    """A draw, and what is to be said of it."""
    d = draw(family, seed, number)
    out = Outcome()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            write(d, folder, int(d.rng.integers(2**31)))
            (compare_encoder if family == "bert" else compare_decoder)(d, folder, out)
        except Exception as error:  # the other draws are worth knowing, too
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error}".replace(name, "FOLDER")
            out.wrong.append(f"{text} ({Path(where.filename).name}:{where.lineno})")
    jax.clear_caches()
    return out, str(d)


def chosen(args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Families and numbers of draws."""
    for family in args.family or FAMILIES:
        for number in range(args.count) if args.draw is None else [args.draw]:
            yield family, number


def main() -> int:
    """Compare, print, say whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5, help="draws of a family")
    parser.add_argument("--family", action="append", choices=list(FAMILIES))
    parser.add_argument("--draw", type=int, help="this draw alone")
    args = parser.parse_args()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # PEFT warns of keys that it does not find: that is an error here
    warnings.filterwarnings("error", message="Found missing adapter keys")
    warnings.filterwarnings("ignore", category=FutureWarning)  # the library's of itself
    table: dict[str, list[Outcome]] = collections.defaultdict(list)
    for family, number in chosen(args):
        start = time.perf_counter()
        out, said = one(family, args.seed, number)
        table[family].append(out)
        more = f", {out.ties} ties" if out.ties else ""
        more += f", tolerance {4 * out.noise:.1g}" if 4 * out.noise > TOLERANCE else ""
        head = f"{family} {number}: {'FAILED' if out.wrong else 'equal'} ({out.worst:.3f}{more})"
        print(f"{head}; {said}; {time.perf_counter() - start:.0f} s", flush=True)
        for text in out.wrong:
            print(f"    {text}", flush=True)
        if out.wrong:
            print(f"    again: --seed {args.seed} --family {family} --draw {number}", flush=True)
    print("\nfamily      draws  failed  wider  greedy ties  largest difference, in tolerances")
    for family, outs in table.items():
        failed, ties = sum(bool(o.wrong) for o in outs), sum(o.ties for o in outs)
        worst = max(o.worst for o in outs)
        wider = sum(4 * o.noise > TOLERANCE for o in outs)
        print(f"{family:10} {len(outs):6} {failed:7} {wider:6} {ties:12}  {worst:.3f}")
    failed = sum(bool(o.wrong) for outs in table.values() for o in outs)
    total = sum(map(len, table.values()))
    print(f"seed {args.seed}: {total - failed} of {total} draws are equal")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
