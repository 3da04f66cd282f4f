"""Codebook bottlenecks in PyTorch: the published layer's computation, and the best one we know.

All take activations `[tokens, groups, d]`, codes `[groups, codes, d]` and the output's cotangent,
and average the k nearest codes. The loss is the output times the cotangent, and the mean over
tokens of the squared error; a forward pass gives `(ids, output)`, with `slope` also the gradients
`(of activations, of codes)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F


class _Snap(torch.autograd.Function):
    """As Tamkin et al. (2023) released it: k vectors are gathered for each token and averaged."""

    @staticmethod
    def forward(ctx: Any, a: Any, codes: Any, k: int) -> Any:
        similarities = (a @ codes.T) / codes.norm(dim=-1)
        ids = similarities.topk(k, dim=-1).indices
        with torch.enable_grad():  # its own small graph, which the backward pass goes through
            mean = F.embedding(ids, codes).sum(dim=-2) / k
        ctx.save_for_backward(a, codes, mean)
        return mean.detach().clone(), ids

    @staticmethod
    def backward(ctx: Any, slope: Any, _: Any) -> Any:
        a, codes, mean = ctx.saved_tensors
        with torch.enable_grad():
            error = (mean - a).square().sum(dim=-1).mean()
            of_error = torch.autograd.grad(error, codes, retain_graph=True)[0]
        of_output = torch.autograd.grad(mean, codes, slope)[0]
        return slope, of_output + of_error, None


def published(a: Any, codes: Any, k: int, slope: Any = None) -> Any:
    """One group after the other. Its LayerNorm and statistics are left out."""
    a, codes = _leaves(a, codes, slope)
    with torch.set_grad_enabled(slope is not None):
        found = [_Snap.apply(a[:, g], codes[g], k) for g in range(a.shape[1])]
        q, ids = (torch.stack(x, dim=1) for x in zip(*found))
    if slope is None:
        return ids, q
    (q * slope).sum().backward()
    return ids, q, a.grad, codes.grad


def best(
    a: Any, codes: Any, k: int, slope: Any = None, *, how: str = "loop", chunk: int = 0
) -> Any:
    """Codes of length 1 once for all tokens, `topk`, `embedding_bag`; no k vectors for each token.

    Args:
      how: "loop" or "batched" over groups.
      chunk: tokens at a time in the selection; 0: all.
    """
    a, codes = _leaves(a, codes, slope)
    tokens, groups, d = a.shape
    with torch.no_grad():
        unit = F.normalize(codes, dim=-1)
        parts = a.split(chunk or tokens)
        if how == "batched":
            every = [_topk(x.transpose(0, 1) @ unit.transpose(1, 2), k) for x in parts]
            ids = torch.cat(every, dim=1).transpose(0, 1)
        else:
            every = [
                torch.stack([_topk(x[:, g] @ unit[g].T, k) for g in range(groups)], 1)
                for x in parts
            ]
            ids = torch.cat(every)
        places = ids + codes.shape[1] * torch.arange(groups)[:, None]
    with torch.set_grad_enabled(slope is not None):
        table = codes.reshape(-1, d)
        q = F.embedding_bag(places.reshape(-1, k), table, mode="mean").reshape(a.shape)
        error = (q - a.detach()).square().sum(dim=-1).mean(dim=0).sum()
    if slope is None:
        return ids, q
    ((q + (a - a.detach())) * slope).sum().add(error).backward()
    return ids, q, a.grad, codes.grad


def vector_quantize(a: Any, codes: Any) -> Callable[..., Any]:
    """`vector-quantize-pytorch` with these codes, by cosine: its forward pass, or a training step.

    A training step moves codes by moving averages instead of a gradient; k is 1.
    """
    from vector_quantize_pytorch import VectorQuantize

    tokens, groups, d = a.shape
    layer = VectorQuantize(
        dim=groups * d,
        codebook_size=codes.shape[1],
        codebook_dim=d,
        heads=groups,
        separate_codebook_per_head=groups > 1,
        use_cosine_sim=True,
        rotation_trick=False,
    )
    layer._codebook.embed.data.copy_(F.normalize(codes, dim=-1))
    x = a.reshape(1, tokens, groups * d)

    def run(slope: Any = None) -> Any:
        layer.train(slope is not None)
        if slope is None:
            with torch.no_grad():
                q, ids, _ = layer(x)
            return ids.reshape(tokens, groups, 1), q.reshape(a.shape)
        leaf = x.clone().requires_grad_()
        q, ids, loss = layer(leaf)
        ((q * slope.reshape(x.shape)).sum() + loss.sum()).backward()
        return ids.reshape(tokens, groups, 1), q.reshape(a.shape), leaf.grad

    return run


def _topk(similarities: Any, k: int) -> Any:
    return similarities.topk(k, dim=-1).indices


def _leaves(a: Any, codes: Any, slope: Any) -> tuple[Any, Any]:
    if slope is None:
        return a, codes
    return a.detach().requires_grad_(), codes.detach().requires_grad_()
