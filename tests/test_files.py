"""Files that are whole or not there."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from activjax import _files


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_text_and_bytes_are_written_as_given(tmp_path):
    with _files.whole(tmp_path / "a.txt") as file:
        file.write("Zoë\n")
        assert not (tmp_path / "a.txt").exists(), "it takes its name at the end"
    with _files.whole(tmp_path / "b", "wb") as file:
        file.write(b"\0\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zoë\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\0\r\n"
    assert names(tmp_path) == ["a.txt", "b"]


def test_what_raises_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")

    def write():
        with _files.whole(tmp_path / "a") as file:
            file.write("new")
            file.write(str(1 // 0))

    with pytest.raises(ZeroDivisionError):
        write()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError), _files.whole(tmp_path / "none" / "a"):
        raise AssertionError("not begun")


def test_a_killed_writer_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_text("old")
    code = """
        import os, pathlib, signal, sys
        from activjax import _files
        with _files.whole(pathlib.Path(sys.argv[1])) as file:
            file.write("new" * 100_000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a")])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "old"
    (left,) = set(names(tmp_path)) - {"a"}
    assert left.startswith(".a."), "hidden: whoever lists the folder does not meet it"


def test_two_may_write_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 7)  # of two machines
    with _files.whole(tmp_path / "a") as one, _files.whole(tmp_path / "a") as other:
        one.write("one")
        other.write("other")
    assert (tmp_path / "a").read_text() == "one", "the last to end"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_told_and_nothing_stays(tmp_path):
    def write():
        with open("/dev/full", "wb") as full, _files.whole(tmp_path / "a", "wb") as file:
            os.dup2(full.fileno(), file.fileno())
            file.write(b"x")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert names(tmp_path) == []
