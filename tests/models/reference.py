"""A decoder written out in NumPy, one token and one head at a time: what `decoder` must equal."""

import math

import numpy as np
import scipy.special


def _norm(x, p, config, kind=None):
    kind = kind or config.norm
    if kind == "layer":
        x = x - x.mean()
    gain = p["scale"] + (kind == "rms_1p")
    return x / np.sqrt((x**2).mean() + config.norm_eps) * gain + p.get("bias", 0)


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


def _rate(i, config, windowed):
    """How far plane `i` turns with each token, in radians."""
    base, scaling = config.rotary_base, config.rotary_scaling
    if windowed and config.window_rotary_base is not None:
        base, scaling = config.window_rotary_base, None
    rate = base ** (-2 * i / config.rotated)
    if scaling is None:
        return rate
    if scaling.kind == "linear":
        return rate / scaling.factor
    length = 2 * math.pi / rate  # tokens for one turn
    shortest, longest = scaling.original / scaling.high, scaling.original / scaling.low
    if length < shortest:
        return rate
    if length > longest:
        return rate / scaling.factor
    share = (scaling.original / length - scaling.low) / (scaling.high - scaling.low)
    return share * rate + (1 - share) * rate / scaling.factor


def _rotate(x, position, config, windowed):
    out, n = x.copy(), config.rotated
    for i in range(n // 2):
        angle = position * _rate(i, config, windowed)
        a, b = x[i], x[i + n // 2]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + n // 2] = b * math.cos(angle) + a * math.sin(angle)
    return out


def _cap(x, cap):
    return x if cap is None else cap * np.tanh(x / cap)


def forward(params, tokens, config):
    """Logits `[seq, vocab]` of one sequence, in float64."""
    c, size = config, config.head_size
    table = params["embed"]["table"]
    xs = [table[t] * (c.embed_scale or 1) for t in tokens]
    scale = 1 / math.sqrt(size) if c.score_scale is None else c.score_scale
    if c.positions == "learned":
        xs = [x + params["place"]["table"][i] for i, x in enumerate(xs)]
    for layer in range(c.layers):
        p = _at(params["blocks"], layer)
        windowed = c.window is not None and (c.windowed is None or layer in c.windowed)
        q, k, v = [], [], []
        for i, x in enumerate(xs):
            h = _norm(x, p["attn_norm"], c)
            made = []
            for name, heads in (("q", c.heads), ("k", c.groups_of), ("v", c.groups_of)):
                each = _linear(h, p["attn"][name]).reshape(heads, size)
                if name != "v":
                    if c.qk_norm:
                        kind = "rms_1p" if c.norm == "rms_1p" else "rms"
                        own = p["attn"][f"{name}_norm"]
                        each = np.stack([_norm(e, own, c, kind) for e in each])
                    if c.positions == "rotary":
                        each = np.stack([_rotate(e, i, c, windowed) for e in each])
                made.append(each)
            for store, value in zip((q, k, v), made):
                store.append(value)
        out = []
        for i, x in enumerate(xs):
            heads, seen = [], range(max(0, i + 1 - c.window) if windowed else 0, i + 1)
            for h in range(c.heads):
                g = h // (c.heads // c.groups_of)
                scores = _cap(np.array([q[i][h] @ k[j][g] for j in seen]) * scale, c.score_cap)
                weights = scipy.special.softmax(scores)
                heads.append(sum(w * v[j][g] for j, w in zip(seen, weights)))
            added = _linear(np.concatenate(heads), p["attn"]["out"])
            mid = x + (_norm(added, p["attn"]["out_norm"], c) if c.out_norm else added)
            h = _norm(x if c.parallel else mid, p["mlp_norm"], c)
            hidden = _activation(c.activation, _linear(h, p["mlp"]["pre"]))
            if c.gated:
                hidden = hidden * _linear(h, p["mlp"]["up"])
            added = _linear(hidden, p["mlp"]["out"])
            out.append(mid + (_norm(added, p["mlp"]["out_norm"], c) if c.out_norm else added))
        xs = out
    xs = [_norm(x, params["final"], c) for x in xs]
    head = table.T if c.tied else params["head"]["kernel"]
    return _cap(np.stack([x @ head for x in xs]), c.logit_cap)


def _at(tree, i):
    return {k: _at(v, i) if isinstance(v, dict) else v[i] for k, v in tree.items()}
