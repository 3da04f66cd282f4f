"""A decoder written out in NumPy, one token and one head at a time: what `decoder` must equal."""

import math

import numpy as np
import scipy.special


def _norm(x, p, config):
    if config.norm == "layer":
        x = x - x.mean()
    x = x / np.sqrt((x**2).mean() + config.norm_eps) * p["scale"]
    return x + p.get("bias", 0)


def _rms(x, p, config):
    return x / np.sqrt((x**2).mean() + config.norm_eps) * p["scale"]


def _linear(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def _activation(name, x):
    return {
        "gelu": lambda: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "gelu_exact": lambda: x * 0.5 * (1 + scipy.special.erf(x / math.sqrt(2))),
        "gelu_quick": lambda: x / (1 + np.exp(-1.702 * x)),
        "relu": lambda: np.maximum(x, 0),
        "silu": lambda: x / (1 + np.exp(-x)),
    }[name]()


def _rotate(x, position, config):
    out, n = x.copy(), config.rotated
    for i in range(n // 2):
        angle = position * config.rotary_base ** (-2 * i / n)
        a, b = x[i], x[i + n // 2]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + n // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def forward(params, tokens, config):
    """Logits `[seq, vocab]` of one sequence, in float64."""
    c, size = config, config.head_size
    table = params["embed"]["table"]
    xs = [table[t].copy() for t in tokens]
    if c.positions == "learned":
        xs = [x + params["place"]["table"][i] for i, x in enumerate(xs)]
    for layer in range(c.layers):
        p = _at(params["blocks"], layer)
        q, k, v = [], [], []
        for i, x in enumerate(xs):
            h = _norm(x, p["attn_norm"], c)
            made = []
            for name, heads in (("q", c.heads), ("k", c.groups_of), ("v", c.groups_of)):
                each = _linear(h, p["attn"][name]).reshape(heads, size)
                if name != "v":
                    if c.qk_norm:
                        each = np.stack([_rms(e, p["attn"][f"{name}_norm"], c) for e in each])
                    if c.positions == "rotary":
                        each = np.stack([_rotate(e, i, c) for e in each])
                made.append(each)
            for store, value in zip((q, k, v), made):
                store.append(value)
        out = []
        for i, x in enumerate(xs):
            heads = []
            for h in range(c.heads):
                g = h // (c.heads // c.groups_of)
                scores = np.array([q[i][h] @ k[j][g] for j in range(i + 1)]) / math.sqrt(size)
                weights = scipy.special.softmax(scores)
                heads.append(sum(w * v[j][g] for j, w in enumerate(weights)))
            mid = x + _linear(np.concatenate(heads), p["attn"]["out"])
            h = _norm(x if c.parallel else mid, p["mlp_norm"], c)
            hidden = _activation(c.activation, _linear(h, p["mlp"]["pre"]))
            if c.gated:
                hidden = hidden * _linear(h, p["mlp"]["up"])
            out.append(mid + _linear(hidden, p["mlp"]["out"]))
        xs = out
    xs = [_norm(x, params["final"], c) for x in xs]
    head = table.T if c.tied else params["head"]["kernel"]
    return np.stack([x @ head for x in xs])


def _at(tree, i):
    return {k: _at(v, i) if isinstance(v, dict) else v[i] for k, v in tree.items()}
