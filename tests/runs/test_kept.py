"""What costs much is made once for equal settings, whoever asks, and again when it is damaged."""

import contextlib

import jax
import numpy as np

from activjax.runs import kept
from activjax.runs.out import Out

LIKE = {"a": jax.ShapeDtypeStruct((3,), np.float32), "b": jax.ShapeDtypeStruct((), np.int32)}


def out_of(tmp_path, run):
    return Out(tmp_path / "name" / run, None, np.zeros(1, np.int64))


def asked(out, made, **settings):
    def make():
        made.append(settings)
        return {"a": np.arange(3, dtype=np.float32) / 3, "b": np.int32(len(made))}

    return out.kept("base", settings, LIKE, make)


def test_made_once_for_equal_settings_by_all_runs(tmp_path):
    made = []
    first = asked(out_of(tmp_path, "one"), made, steps=1)
    again = asked(out_of(tmp_path, "two"), made, steps=1)
    assert len(made) == 1
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first["a"].dtype == np.float32
    other = asked(out_of(tmp_path, "two"), made, steps=2)
    assert len(made) == 2
    assert int(other["b"]) == 2


def test_changed_sources_count_as_other_settings(tmp_path, monkeypatch):
    made = []
    asked(out_of(tmp_path, "one"), made)
    monkeypatch.setattr(kept, "source_hash", lambda path: "another")
    asked(out_of(tmp_path, "one"), made)
    assert len(made) == 2


def test_a_damaged_one_is_made_anew(tmp_path):
    made = []
    asked(out_of(tmp_path, "one"), made)
    (path,) = (tmp_path / kept.FOLDER).iterdir()
    largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(b"x")
    found = asked(out_of(tmp_path, "one"), made)
    assert len(made) == 2
    assert int(found["b"]) == 2
    assert int(asked(out_of(tmp_path, "one"), made)["b"]) == 2
    assert len(made) == 2


def test_nothing_half_made_is_found(tmp_path):
    """A kill while it is made leaves nothing that counts."""

    class KillError(Exception):
        pass

    def make():
        raise KillError

    out = out_of(tmp_path, "one")
    with contextlib.suppress(KillError):
        out.kept("base", {}, LIKE, make)
    assert not list((tmp_path / kept.FOLDER).glob("base*"))
