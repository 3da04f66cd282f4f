"""Checkpoints: the same bits back, the newest whole one, clear words for damage."""

import json
import os
import shutil
import subprocess
import sys
import typing

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from activjax.training import checkpoint
from activjax.training.checkpoint import CheckpointError


class State(typing.NamedTuple):
    w: typing.Any
    rest: typing.Any


def everything():
    return State(
        w=jnp.asarray([1.5, -0.0, jnp.nan, jnp.inf], jnp.float32),
        rest={
            "bf16": jnp.arange(6).astype(jnp.bfloat16).reshape(2, 3),
            "f16": jnp.float16(1.5),
            "f8": jnp.arange(4.0).astype(jnp.float8_e4m3fn),
            "i4": jnp.arange(4).astype(jnp.int4).reshape(2, 2),
            "i8": jnp.int8(-3),
            "u32": jnp.asarray([2**32 - 1], jnp.uint32),
            "bool": jnp.asarray([True, False]),
            "complex": jnp.complex64(1 + 2j),
            "empty": jnp.zeros((0, 3), jnp.bfloat16),
            "keys": jax.random.split(jax.random.key(3), 5),
            "rbg": jax.random.key(1, impl="rbg"),
            "none": (None, (), [jnp.ones((2, 1, 2))]),
            "numpy": np.arange(3, dtype=np.int64),
            "numpy bf16": np.ones((), ml_dtypes.bfloat16),
            "python": (3, 2.5, True),
            "a/b": jnp.int32(1),
            "a": {"b": jnp.int32(2)},
        },
    )


def small(value=0.0):
    return {"w": jnp.full(4, float(value)), "n": jnp.int32(value)}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert type(x) is type(y)
        assert getattr(x, "dtype", None) == getattr(y, "dtype", None)
        if checkpoint._is_key(x):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.shape(x) == np.shape(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_everything_round_trips_bit_for_bit(tmp_path):
    state = everything()
    checkpoint.save(tmp_path / "ck", 7, state, meta={"offset": 12})
    found = checkpoint.restore(tmp_path / "ck", state)
    assert found is not None
    assert found.step == 7
    assert found.meta == {"offset": 12, "step": 7}
    assert_same(state, found.state)


def test_restores_to_abstract_shapes(tmp_path):
    state = small(2.0)
    checkpoint.save(tmp_path, 1, state)
    found = checkpoint.restore(tmp_path, jax.eval_shape(lambda: small(2.0)))
    assert_same(state, found.state)


def test_keeps_the_last_two_and_replaces_a_step(tmp_path):
    for step in (3, 6, 9, 9):
        checkpoint.save(tmp_path, step, small(step))
    assert checkpoint.steps(tmp_path) == [6, 9]
    assert sorted(os.listdir(tmp_path)) == ["0000000006", "0000000009"]
    assert int(checkpoint.restore(tmp_path, small()).state["n"]) == 9


def test_nothing_there(tmp_path):
    assert checkpoint.restore(tmp_path / "no", small()) is None
    assert checkpoint.restore(tmp_path, small()) is None


def damage(folder, how):
    files = [f for f in folder.rglob("*") if f.is_file()]
    if how == "largest file cut":
        biggest = max(folder.rglob("d/*"), key=lambda f: f.stat().st_size)
        biggest.write_bytes(biggest.read_bytes()[: biggest.stat().st_size // 2])
    elif how == "all files empty":
        for f in files:
            f.write_bytes(b"")
    elif how == "data gone":
        for f in folder.rglob("d/*"):
            f.unlink()
    else:
        for f in folder.rglob("d/*"):
            data = bytearray(f.read_bytes())
            data[len(data) // 2] ^= 0x10
            f.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "how", ["largest file cut", "all files empty", "data gone", "bits flipped"]
)
def test_damage_falls_back_or_says_what_to_do(tmp_path, how):
    checkpoint.save(tmp_path, 1, small(1.0))
    checkpoint.save(tmp_path, 2, small(2.0))
    damage(tmp_path / "0000000002", how)
    said = []
    found = checkpoint.restore(tmp_path, small(), warn=said.append)
    assert found.step == 1
    assert_same(found.state, small(1.0))
    assert len(said) == 1
    assert str(tmp_path / "0000000002") in said[0]
    assert "continuing from the one before, step 1" in said[0]

    damage(tmp_path / "0000000001", how)
    with pytest.raises(CheckpointError, match=r"is damaged .*no older one is left: delete .* to"):
        checkpoint.restore(tmp_path, small())
    checkpoint.save(tmp_path, 2, small(2.0))  # the damaged one is simply replaced
    assert checkpoint.restore(tmp_path, small()).step == 2


def test_another_state_is_refused_by_name(tmp_path):
    checkpoint.save(tmp_path, 1, small())
    with pytest.raises(CheckpointError, match=r"\['w'\] is float32\[4\], expected float32\[5\]"):
        checkpoint.restore(tmp_path, {"w": jnp.zeros(5), "n": jnp.int32(0)})
    with pytest.raises(CheckpointError, match=r"holds another state: \['v'\], \['w'\]"):
        checkpoint.restore(tmp_path, {"v": jnp.zeros(4), "n": jnp.int32(0)})


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    checkpoint.save(tmp_path, 1, small(1.0))
    left = tmp_path / "0000000002.checkpoint-part"
    left.mkdir()
    (left / "half").write_text("x")
    assert checkpoint.restore(tmp_path, small()).step == 1
    checkpoint.save(tmp_path, 3, small(3.0))
    assert not left.exists()


def test_what_another_process_saves_beside_it_is_left_alone(tmp_path):
    beside = tmp_path / "other.checkpoint-part"
    own = tmp_path / "mine.checkpoint-part"  # of a save that was killed
    beside.mkdir()
    own.mkdir()
    checkpoint.save_tree(tmp_path / "mine", small())
    assert beside.exists()
    assert not own.exists()


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*Not a directory"):
        checkpoint.save(tmp_path / "file" / "ck", 1, small())


FULL_DISK = """
import resource, sys
import numpy as np
from activjax.training import checkpoint
small = {"w": np.ones(4)}
checkpoint.save(sys.argv[1], 1, small)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    checkpoint.save(sys.argv[1], 2, {"w": np.random.default_rng(0).random(100_000)})
except checkpoint.CheckpointError as error:
    print("ERROR", error)
assert checkpoint.restore(sys.argv[1], small).step == 1
"""


def test_full_disk_leaves_the_older_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ERROR cannot write {tmp_path}/0000000002: File too large\n"
    assert done.stderr == ""


def test_orbax_is_imported_only_when_used():
    code = (
        "import sys; import activjax.training.checkpoint, activjax.training.loop; "
        "bad = [m for m in ('orbax', 'pydantic', 'matplotlib', 'sklearn') if m in sys.modules]; "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_that_orbax_itself_has_saved(tmp_path):
    """So they were until one process could no longer make the others wait."""
    from orbax.checkpoint import v1

    path = checkpoint.save(tmp_path, 1, small(1.0))
    manifest = json.loads((path / "manifest.json").read_text())
    shutil.rmtree(path)
    leaves = enumerate(jax.tree.leaves(small(1.0)))
    v1.save(path, {f"{i:05d}": checkpoint._encode(leaf)[0] for i, leaf in leaves})
    manifest["files"] = checkpoint._digests(path)
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert_same(checkpoint.restore(tmp_path, small()).state, small(1.0))


def test_a_checkpoint_of_before_every_file_had_a_digest(tmp_path):
    state = {"w": jnp.arange(3.0)}
    path = checkpoint.save(tmp_path, 1, state)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]
    manifest["digest"] = checkpoint._whole.digest(path)
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.restore(tmp_path, state).step == 1
    manifest["digest"] = "0" * 32
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="its files have changed"):
        checkpoint.restore(tmp_path, state)


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from activjax.training import checkpoint

path, at = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def count(event, args):
    global calls
    if event in WATCHED and path.name in str(args[0]):
        calls += 1
        if calls == at:
            os._exit(9)

WATCHED = {"os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
sys.addaudithook(count)
checkpoint.save_tree(path, {"w": np.ones(3)})
"""


@pytest.mark.slow
def test_killed_anywhere_one_is_whole(tmp_path):
    """One that replaces another, killed before each change of a name, is the old or the new."""
    path, like = tmp_path / "of_a_run", {"w": np.zeros(3)}
    seen = []
    for at in range(1, 200):
        shutil.rmtree(tmp_path, ignore_errors=True)
        checkpoint.save_tree(path, like)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(at)], check=False)
        tree, _ = checkpoint.load_tree(path, like)
        seen.append(float(tree["w"][0]))
        checkpoint.save_tree(path, like)  # what is left does not hinder the next
        assert not list(tmp_path.glob("*.checkpoint-*"))
        if ended.returncode == 0:
            break
        assert ended.returncode == 9
    assert set(seen) == {0.0, 1.0}
    assert seen == sorted(seen)
    assert seen.count(1.0) > 1  # killed in the middle of the exchange, too


def test_a_whole_one_without_its_name_counts_and_is_kept(tmp_path):
    checkpoint.save(tmp_path, 1, {"w": np.ones(3)})
    checkpoint.save(tmp_path, 2, {"w": np.full(3, 2.0)})
    (tmp_path / "0000000002").rename(tmp_path / "0000000002.checkpoint-part")
    assert checkpoint.steps(tmp_path) == [1, 2]
    assert checkpoint.save(tmp_path, 3, {"w": np.full(3, 3.0)}).is_dir()
    assert checkpoint.steps(tmp_path) == [2, 3]
    (tmp_path / "0000000003").rename(tmp_path / "0000000003.checkpoint-part")
    found = checkpoint.restore(tmp_path, {"w": np.zeros(3)})
    assert (found.step, found.state["w"][0]) == (3, 3.0)
