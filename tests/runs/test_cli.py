"""The command line: exit codes, help, and use from outside the repository."""

import subprocess
import sys

from activjax import __version__, cli


def call(capsys, *arguments):
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as end:  # argparse
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def test_version_and_help(capsys):
    assert call(capsys, "--version")[:2] == (0, f"activjax {__version__}\n")
    code, out, _ = call(capsys, "run", "--help")
    assert code == 0
    for words in ("activjax run my.yaml lr=0.01 model.width=64", "exit codes:", "130  stopped by"):
        assert words in out
    assert call(capsys)[0] == 2


def test_the_command_line_itself_is_light():
    code = (
        "import sys, importlib.util\n"
        "import activjax\n"
        "before = set(sys.modules)\n"
        "from activjax import cli\n"
        "cli.main(['--version'])\n"
        "heavy = {'jax', 'pydantic', 'orbax', 'matplotlib', 'rich', 'yaml', 'scipy', 'numpy'}\n"
        "sys.exit(str(heavy & (set(sys.modules) - before)) if heavy & (set(sys.modules) - before)"
        " else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_run_ls_show_from_outside_the_repository(tiny, activjax_run):
    """The user's own experiment, in a folder that is no part of the project."""
    code, out, err = activjax_run("run", "average.yaml", "n=20", cwd=tiny)
    assert code == 0, err
    assert err == "sampling\n"
    assert "Is it a half?" in out
    assert "expected" in out
    (folder,) = (tiny / "runs/average").iterdir()
    assert out.rstrip().endswith(f"runs/average/{folder.name}") or "report.html" in out

    code, out, err = activjax_run("ls", cwd=tiny)
    assert (code, err) == (0, "")
    assert out.split()[5:10] == ["done", "average", folder.name, *out.split()[8:10]]
    code, out, _ = activjax_run("show", folder.name[:5], cwd=tiny)
    assert code == 0
    for words in ("average/" + folder.name, "About.", "n: 20", "wall_seconds", "source_hash"):
        assert words in out


def test_errors_are_one_message_and_a_code(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    cases = [
        (("run", tiny / "averag.yaml"), 2, "did you mean 'average.yaml'?"),
        (("run", tiny / "average.yaml", "m=3", "--out", out), 2, "override `m=3`: m: unknown key"),
        (("run", tiny / "average.yaml", "--out", tmp_path / "file/x"), 3, "is a file, expected"),
        (("show", "abc", "--out", out), 3, "no run 'abc'"),
        (("run", tiny / "average.yaml", "--n=3"), 2, "overrides have no dashes: n=3"),
        (("sites", tiny / "average.yaml"), 2, "average.py: defines no sites(config)"),
    ]
    for arguments, code, words in cases:
        got, stdout, stderr = call(capsys, *arguments)
        assert (got, stdout) == (code, "")
        assert words in stderr
        assert "Traceback" not in stderr


def test_an_experiment_that_raises_is_code_1(tiny, tmp_path, capsys):
    (tiny / "average.py").write_text(
        (tiny / "average.py").read_text().replace('out.log("sampling")', "1 / 0")
    )
    code, _, err = call(capsys, "run", tiny / "average.yaml", "--out", tmp_path)
    assert code == 1
    assert err.splitlines()[0] == "activjax: average.py: main raised"
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    code, out, _ = call(capsys, "ls", tmp_path)
    assert "failed" in out
    assert "ZeroDivisionError" in out
    code, out, _ = call(capsys, "show", "average", "--out", tmp_path)
    assert "to continue: activjax run" in out
    code, _, err = call(capsys, "report", "average", "--out", tmp_path)
    assert code == 3
    assert "this run is failed, not done" in err


def test_options_may_come_before_overrides(tiny, tmp_path, capsys):
    code, out, err = call(
        capsys, "run", "--quiet", tiny / "average.yaml", "--out", tmp_path, "n=3", "seeds=1"
    )
    assert code == 0
    assert out.startswith(str(tmp_path))
    assert err == ""


def test_keys(tiny, capsys):
    code, out, _ = call(capsys, "keys", tiny / "regression.yaml")
    assert code == 0
    for words in ("lr", "float, traced", "a value > 0 and <= 1", "step size", "100000"):
        assert words in out


def test_ls_of_nothing(tmp_path, capsys):
    assert call(capsys, "ls", tmp_path / "no")[:2] == (
        0,
        f"no runs in {tmp_path}/no (no such folder)\n",
    )


def test_ls_of_a_file(tiny, capsys):
    code, _, err = call(capsys, "ls", tiny / "regression.yaml")
    assert code != 0
    assert "expected the folder that holds all runs, got a file" in err


def test_sites(tiny, capsys):
    code, out, err = call(capsys, "sites", tiny / "regression.yaml")
    assert code == 0, err
    assert "tiny/product" in out
    assert "float32" in out


def test_long_answers_leave_room_for_the_rest(tiny, tmp_path, capsys):
    (tiny / "average.py").write_text(
        (tiny / "average.py").read_text().replace('"About."', '"About half. " * 100')
    )
    call(capsys, "run", "--quiet", tiny / "average.yaml", "--out", tmp_path)
    _, out, _ = call(capsys, "ls", tmp_path)
    (folder,) = (tmp_path / "average").iterdir()
    assert out.splitlines()[1].split()[:3] == ["done", "average", folder.name]
    assert len(out.splitlines()) == 2
