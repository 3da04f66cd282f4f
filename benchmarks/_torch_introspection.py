"""Vectors added to a residual stream, and LoRA, in plain PyTorch with forward hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


@torch.no_grad()
def hooked(net: Any, ids: Any, added: Any, size: int) -> Any:
    """Next-token logits under every vector `[layers, n, d]`, `size` of them a forward pass.

    A hook after each block in turn adds them at the last token: what one writes by hand.
    """
    out = []
    for block, rows in zip(net.blocks, added, strict=True):
        for chunk in rows.split(size):

            def add(module: Any, args: Any, h: Any, chunk: Any = chunk) -> Any:
                h = h.clone()
                h[:, -1] += chunk
                return h

            handle = block.register_forward_hook(add)
            out.append(net(ids.expand(len(chunk), -1))[:, -1])
            handle.remove()
    return torch.cat(out).reshape(*added.shape[:2], -1)


@torch.no_grad()
def by_hand(net: Any, ids: Any, added: Any) -> Any:
    """The same by a cache: the prefix once, then one token in the blocks above each injection."""
    seq, n = ids.shape[1], added.shape[1]
    caches = net.empty(1, seq)
    net(ids[:, :-1], caches)
    kept = [[k, v, used] for k, v, used in caches]
    x = net.embed(ids[:, -1:]) + net.place.weight[seq - 1 : seq]
    out = []
    for layer, rows in enumerate(added):
        x = net.blocks[layer](x, caches[layer])
        h = x + rows[:, None]
        for block, (k, v, used) in zip(net.blocks[layer + 1 :], kept[layer + 1 :], strict=True):
            wide = [k.expand(n, -1, -1, -1).clone(), v.expand(n, -1, -1, -1).clone(), used]
            h = block(h, wide)
        out.append((net.final(h) @ net.embed.weight.T)[:, 0])
    return torch.stack(out)


class LowRank(nn.Module):
    """A frozen linear layer with low-rank additions to pieces of its output, side by side."""

    def __init__(self, base: Any, factors: list[tuple[np.ndarray, np.ndarray]], scale: float):
        super().__init__()
        self.base, self.scale = base, scale
        self.a = nn.ParameterList([torch.from_numpy(np.array(a)) for a, _ in factors])
        self.b = nn.ParameterList([torch.from_numpy(np.array(b)) for _, b in factors])

    def forward(self, x: Any) -> Any:
        low = [(x @ a) @ (self.scale * b) for a, b in zip(self.a, self.b, strict=True)]
        return self.base(x) + torch.cat(low, -1)


def with_lora(net: Any, adapters: Any, alpha: float) -> Any:
    """The network, frozen, with the adapters of q, k, v and out in its attention."""
    for p in net.parameters():
        p.requires_grad_(False)
    attn = adapters["blocks"]["attn"]
    for i, block in enumerate(net.blocks):
        of = {n: (attn[n]["kernel"]["a"][i], attn[n]["kernel"]["b"][i]) for n in attn}
        scale = alpha / of["q"][0].shape[-1]
        block.qkv = LowRank(block.qkv, [of[n] for n in "qkv"], scale)
        block.out = LowRank(block.out, [of["out"]], scale)
    return net


def trainer(
    net: Any, layer: int, batch: dict[str, np.ndarray], rates: list[float], betas: Any, clip: float
) -> Callable[[], float]:
    """One step of AdamW a call: vectors added by a hook, the loss on what is to be learned.

    Args:
      net: as `with_lora` made it.
      layer: after which block the hook is.
      batch: `tokens` and `learned` `[n, seq]`, `last` `[n]`, `added` `[n, d]`.
      rates: of each step; from the start again after the last.
      betas, clip: of the optimiser.
    """
    tokens, last = (torch.from_numpy(batch[k]).long() for k in ("tokens", "last"))
    learned, added = (torch.from_numpy(batch[k]) for k in ("learned", "added"))
    rows, inputs, targets = torch.arange(len(tokens)), tokens[:, :-1], tokens[:, 1:]
    counted = learned[:, 1:]
    share = counted / counted.sum(1, keepdim=True).clamp(min=1) / len(tokens)
    share = share[counted]  # every example alike, however many tokens it has
    last = last.clamp(max=inputs.shape[1] - 1)  # whole documents, to which nothing is added
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, rates[0], betas=betas, weight_decay=0.0, fused=True)

    def add(module: Any, args: Any, h: Any) -> Any:
        h = h.clone()
        h[rows, last] += added
        return h

    net.blocks[layer].register_forward_hook(add)
    steps = 0

    def step() -> float:
        nonlocal steps
        for group in optimiser.param_groups:
            group["lr"] = rates[steps % len(rates)]
        steps += 1
        logits = net(inputs)
        nats = torch.nn.functional.cross_entropy(
            logits[counted], targets[counted], reduction="none"
        )
        loss = (share * nats).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, clip)
        optimiser.step()
        return float(loss.detach())

    return step
