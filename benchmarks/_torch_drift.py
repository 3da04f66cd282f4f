"""Drift of a PyTorch decoder, one example after the other, as people write it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F


def drifts(net: Any, tokens: Any, targets: Any, eta: float, *, how: str) -> Any:
    """Features `[n, d]` of `activjax.membership`, in its order.

    Args:
      net: a `_torch_decoder.Decoder`.
      tokens, targets: `[n, seq]`.
      eta: length of the unit step.
      how: "in place" (add the step, and subtract it again) or "deepcopy" (step a copy).
    """
    run = {"in place": _in_place, "deepcopy": _deepcopy}[how]
    return torch.stack([run(net, x[None], y, eta) for x, y in zip(tokens, targets)])


def _read(net: Any, x: Any) -> tuple[Any, list[Any]]:
    acts: list[Any] = []
    keep: Callable[..., None] = lambda module, args, out: acts.append(out[0])  # noqa: E731
    first = net.blocks[0].register_forward_pre_hook(lambda module, args: acts.append(args[0][0]))
    hooks = [first, *(block.register_forward_hook(keep) for block in net.blocks)]
    logits = net(x)[0]
    for hook in hooks:
        hook.remove()
    return logits, acts


def _climb(net: Any, x: Any, y: Any, eta: float) -> tuple[Any, list[Any], list[Any], float]:
    logits, acts = _read(net, x)
    grads = torch.autograd.grad(
        F.cross_entropy(logits, y), list(net.parameters()), allow_unused=True
    )
    grads = [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), grads)]
    norm = torch.sqrt(sum(g.square().sum() for g in grads))
    return logits.detach(), [a.detach() for a in acts], grads, float(eta / norm)


def _in_place(net: Any, x: Any, y: Any, eta: float) -> Any:
    logits, acts, grads, step = _climb(net, x, y, eta)
    with torch.no_grad():
        for p, g in zip(net.parameters(), grads):
            p.add_(g, alpha=step)
        after, moved = _read(net, x)
        for p, g in zip(net.parameters(), grads):
            p.sub_(g, alpha=step)
        return _features(logits, after, acts, moved, y)


def _deepcopy(net: Any, x: Any, y: Any, eta: float) -> Any:
    other = copy.deepcopy(net)
    logits, acts, grads, step = _climb(other, x, y, eta)
    with torch.no_grad():
        for p, g in zip(other.parameters(), grads):
            p.add_(g, alpha=step)
        after, moved = _read(other, x)
        return _features(logits, after, acts, moved, y)


def _features(z: Any, z_after: Any, acts: list[Any], moved: list[Any], y: Any) -> Any:
    out = []
    for h, h_after in zip(acts, moved):
        size = (h_after - h).norm(dim=-1)
        turn = (F.normalize(h_after, dim=-1) - F.normalize(h, dim=-1)).square().sum(-1) / 2
        relative = size / h.norm(dim=-1)
        spread = size.std(correction=0)
        out += [size.mean(), size.max(), spread, relative.mean(), turn.mean()]
    log_p, log_q = z.log_softmax(-1), z_after.log_softmax(-1)
    gain = (log_q - log_p).gather(-1, y[:, None])[:, 0]
    label = (z_after - z).gather(-1, y[:, None])[:, 0]
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    out += [(z_after - z).norm(dim=-1).mean(), label.mean(), kl.mean()]
    out += [gain.min(), gain.std(correction=0), -gain.mean()]
    return torch.stack(out)
