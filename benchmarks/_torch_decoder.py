"""The decoder of `models.decoder` in plain PyTorch: fused attention, a cache, the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attn_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.pre, self.post = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any, cache: list[Any] | None = None) -> Any:
        batch, seq, width = x.shape
        qkv = self.qkv(self.attn_norm(x)).view(batch, seq, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None:
            k_all, v_all, used = cache
            k_all[:, :, used : used + seq], v_all[:, :, used : used + seq] = k, v
            k, v = k_all[:, :, : used + seq], v_all[:, :, : used + seq]
            cache[2] = used + seq
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=seq > 1)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))
        return x + self.post(F.gelu(self.pre(self.mlp_norm(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        c = config
        self.config = c
        self.embed, self.place = nn.Embedding(c.vocab, c.width), nn.Embedding(c.context, c.width)
        self.blocks = nn.ModuleList([Block(c.width, c.heads) for _ in range(c.layers)])
        self.final = nn.LayerNorm(c.width)

    def forward(self, tokens: Any, caches: list[Any] | None = None) -> Any:
        used = 0 if caches is None else caches[0][2]
        at = torch.arange(used, used + tokens.shape[1])
        x = self.embed(tokens) + self.place(at)
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i])
        return self.final(x) @ self.embed.weight.T

    def empty(self, batch: int, slots: int) -> list[Any]:
        c = self.config
        shape = (batch, c.heads, slots, c.width // c.heads)
        return [[torch.zeros(shape), torch.zeros(shape), 0] for _ in range(c.layers)]

    @torch.no_grad()
    def generate(self, tokens: Any, steps: int) -> Any:
        caches = self.empty(tokens.shape[0], tokens.shape[1] + steps)
        new = []
        for _ in range(steps):
            tokens = self(tokens, caches)[:, -1].argmax(-1, keepdim=True)
            new.append(tokens)
        return torch.cat(new, 1)


def of(config: Any, params: Any) -> Decoder:
    """The PyTorch decoder with the parameters of ours."""
    net, blocks = Decoder(config), params["blocks"]

    def put(target: Any, value: Any) -> None:
        target.data.copy_(torch.from_numpy(np.array(value)))

    def norm(target: Any, p: Any, i: int | None = None) -> None:
        put(target.weight, p["scale"] if i is None else p["scale"][i])
        put(target.bias, p["bias"] if i is None else p["bias"][i])

    put(net.embed.weight, params["embed"]["table"])
    put(net.place.weight, params["place"]["table"])
    norm(net.final, params["final"])
    for i, block in enumerate(net.blocks):
        attn, mlp = blocks["attn"], blocks["mlp"]
        norm(block.attn_norm, blocks["attn_norm"], i)
        norm(block.mlp_norm, blocks["mlp_norm"], i)
        for name in ("kernel", "bias"):
            axis = -1
            joint = np.concatenate([attn[n][name][i] for n in "qkv"], axis=axis)
            target = "weight" if name == "kernel" else "bias"
            put(getattr(block.qkv, target), joint.T)
            put(getattr(block.out, target), np.asarray(attn["out"][name][i]).T)
            put(getattr(block.pre, target), np.asarray(mlp["pre"][name][i]).T)
            put(getattr(block.post, target), np.asarray(mlp["out"][name][i]).T)
    return net
