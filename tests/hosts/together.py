"""What every process of a job runs: capture, harvest, a training step, a checkpoint.

    python together.py FOLDER [INDEX COUNT ADDRESS]

Process 0 writes what came out to FOLDER/<count>.npz. The same program with one process, and with
many, must agree: rows of the batches are the parts' in turn whatever the number of processes.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import activjax as aj
from activjax import hosts
from activjax.training import checkpoint

PARTS, ROWS, WIDTH = 4, 4, 16  # parts of the data, rows of each, features
HIDDEN = 32


def model(params, x):
    for i in range(2):
        x = aj.tag(jax.nn.relu(x @ params[f"w{i}"] + params[f"b{i}"]), f"layers/{i}/post")
    return x @ params["out"]


def init(key):
    keys = jax.random.split(key, 3)
    sizes = [(WIDTH, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 3)]
    a, b, c = (jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, sizes))
    return {"w0": a, "b0": jnp.zeros(HIDDEN), "w1": b, "b1": jnp.zeros(HIDDEN), "out": c}


def rows(part, step):
    """The batch of one part of the data."""
    rng = np.random.default_rng([part, step])
    return rng.normal(size=(ROWS, WIDTH)).astype(np.float32)


def mine(step):
    """This process's rows: those of its parts."""
    index, count = hosts.part()
    share = PARTS // count
    return np.concatenate([rows(p, step) for p in range(index * share, (index + 1) * share)])


def main(folder, index=None, count=None, address=None):
    if address is not None:
        hosts.start(address, int(count), int(index))
    mesh = hosts.mesh()
    whole = NamedSharding(mesh, PartitionSpec())
    params = hosts.place(init(jax.random.key(0)), whole)
    x = hosts.together(mine(0), mesh)
    assert hosts.spread(x) == (hosts.count() > 1)
    found = {}

    logits, acts = jax.jit(aj.capture(model, "layers/*/post"))(params, x)
    found["logits"] = logits
    found |= {f"act {name}": value for name, value in acts.items()}

    reduce = aj.stats.moments("diagonal")
    harvested = aj.harvest(model, "layers/*/post", reduce=reduce, mesh=mesh)(
        params, [hosts.together(mine(step), mesh) for step in range(1, 4)]
    )
    for name, moments in harvested.items():
        found |= {f"harvest {name} mean": moments.mean, f"harvest {name} n": moments.n}

    optimiser = optax.adam(1e-2)

    @jax.jit
    def train(params, state, x):
        def loss(p):
            return jnp.mean((model(p, x) - x[:, :3]) ** 2)

        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(grad, state)
        return optax.apply_updates(params, updates), state, value

    state = jax.jit(optimiser.init)(params)
    losses = []
    for step in range(3):
        params, state, loss = train(params, state, hosts.together(mine(step), mesh))
        losses.append(float(loss))
    found["losses"] = np.asarray(losses)

    # rows of a table over all devices, replicated parameters and typed keys, saved and back
    apart = NamedSharding(mesh, PartitionSpec("data"))
    kept = {
        "params": params,
        "state": state,
        "table": hosts.place(np.arange(48.0, dtype=np.float32).reshape(16, 3), apart),
        "half": hosts.place(np.arange(16).astype(jnp.bfloat16), apart),
        "keys": hosts.place(jax.random.split(jax.random.key(3), 16), apart),
        "step": 3,
    }
    path = Path(folder) / f"checkpoints-{hosts.count()}"
    checkpoint.save(path, 3, kept, meta={"n": 1})
    like = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
        if isinstance(a, jax.Array) else a,
        kept,
    )  # fmt: skip
    back = checkpoint.restore(path, like)
    assert back.step == 3
    assert back.state["step"] == 3
    assert hosts.spread(back.state["table"]) == (hosts.count() > 1)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(back.state), strict=True):
        one, other = hosts.fetch([a, b]) if isinstance(a, jax.Array) else (a, b)
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    found["table"] = back.state["table"]
    # of another number of processes: what was saved by one is there for all
    first = Path(folder) / "checkpoints-1"
    if hosts.count() > 1:
        other = checkpoint.restore(first, like)
        np.testing.assert_array_equal(*hosts.fetch([other.state["table"], kept["table"]]))

    found = {name: np.asarray(hosts.fetch(value)) for name, value in found.items()}
    if hosts.index() == 0:
        np.savez(Path(folder) / f"{hosts.count()}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
