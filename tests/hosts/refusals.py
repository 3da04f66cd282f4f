"""What every process of a job runs: checkpoints that one process alone cannot write or read.

    python refusals.py INDEX COUNT ADDRESS FOLDER

Every process must hear of it, soon, and the checkpoint before must be as it was.
"""

import os
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from activjax import hosts
from activjax.training import _orbax, checkpoint

SECONDS = 20  # the heartbeat's limit is 100, Orbax's own 1200


def states():
    apart = NamedSharding(hosts.mesh(), PartitionSpec("data"))
    rng = np.random.default_rng(0)
    w = rng.random((8, 20_000)).astype(np.float32)
    return {"w": hosts.place(w, apart), "step": 1}


def check(folder, kept, step, warnings=0):
    said = []
    like = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
        if isinstance(a, jax.Array) else a,
        kept,
    )  # fmt: skip
    found = checkpoint.restore(folder, like, warn=said.append)
    assert found.step == step, found.step
    assert len(said) == warnings, said
    np.testing.assert_array_equal(*hosts.fetch([found.state["w"], kept["w"]]))
    return said


def error_of(f):
    try:
        f()
    except checkpoint.CheckpointError as error:
        return str(error)
    raise AssertionError("it was not refused")


def refused(f, who, *words):
    begin = time.monotonic()
    text = error_of(f)
    assert time.monotonic() - begin < SECONDS
    assert all(word in text for word in (f"process {who} on ", *words)), text


def limited(f):
    """Files of more than 50 kB are refused meanwhile."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        f()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def broken(*_, **__):
    raise OSError(5, "Input/output error")


def writing(folder, kept, mine):
    def save():
        checkpoint.save(folder, 2, kept)

    for who in range(hosts.count()):
        refused(lambda who=who: limited(save) if mine(who) else save(), who,
                "cannot write", "0000000002", "File too large")  # fmt: skip
        check(folder, kept, 1)
        digest = checkpoint.hashlib.file_digest
        checkpoint.hashlib.file_digest = broken if mine(who) else digest
        refused(save, who, "cannot write", "Input/output error")
        checkpoint.hashlib.file_digest = digest
        check(folder, kept, 1)
    merge = _orbax.merge
    _orbax.merge = broken if mine(0) else merge
    refused(save, 0, "cannot write", "Input/output error")
    _orbax.merge = merge
    hosts.wait()
    assert not list(Path(folder).glob("*tmp*"))  # process 0 has removed it
    hosts.wait()
    save()
    check(folder, kept, 2)


def reading(folder, kept, mine):
    """As if the folders were not shared: the copy of one process lacks the data."""
    whole = checkpoint._check_files
    for who in range(hosts.count()):
        for stage in ("digests", "arrays"):
            checkpoint._check_files = whole if stage == "digests" else lambda *_: None
            copy = Path(f"{folder}-{hosts.index()}-{who}-{stage}")
            shutil.copytree(folder, copy)
            if mine(who):
                for file in copy.glob("0000000002/**/d/*"):
                    file.unlink()
            (told,) = check(copy, kept, 1, warnings=1)
            if (who, stage) != (0, "digests"):  # process 0 says which files there are
                assert f"process {who} on " in told, told
            shutil.rmtree(copy / "0000000001")
            text = error_of(lambda copy=copy: checkpoint.restore(copy, kept))
            assert "no older one is left" in text, text
    checkpoint._check_files = whole


def main(index, count, address, folder):
    hosts.start(address, int(count), int(index))
    kept = states()
    checkpoint.save(folder, 1, kept)
    check(folder, kept, 1)

    def mine(who):
        return who == hosts.index()

    writing(folder, kept, mine)
    reading(folder, kept, mine)
    hosts.wait()
    print("good")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception:  # at once: taking leave would wait for the others
        traceback.print_exc()
        os._exit(1)
