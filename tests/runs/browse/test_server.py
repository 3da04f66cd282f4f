"""What the server answers, and above all what it does not."""

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest
from folders import PICTURE, SWEEP, batch, change, long_texts, make_run, root, snapshot

from activjax.runs.browse import Server, _assets, _packed, _paths
from activjax.runs.browse._routes import Routes
from activjax.runs.errors import StorageError
from activjax.runs.sweep import index
from activjax.runs.sweep._formats import Column
from activjax.runs.sweep.folder import SweepFolder

PLACE = "/".join(SWEEP)
SECRET = "a secret that no answer may hold"


@pytest.fixture
def runs(tmp_path):
    """A root beside a file that is nobody's business."""
    (tmp_path / "secret.json").write_text(json.dumps(SECRET))
    (tmp_path / "runs-of-others").mkdir()
    (tmp_path / "runs-of-others" / "secret.json").write_text(json.dumps(SECRET))
    return root(tmp_path / "runs")


@pytest.fixture
def server(runs):
    with Server(runs, 0) as found:
        yield found


def ask(server, path, method="GET", **headers):
    """The raw answer to a path as it stands: `(status, headers, body)`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    headers = {"Host": f"127.0.0.1:{server.port}"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    for key, value in headers.items():
        if value is not None:
            connection.putheader(key, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def data_of(server, path):
    status, _, body = ask(server, path)
    assert status == 200, (path, status, body)
    return json.loads(body)


def test_every_route_answers(server, runs):
    path = runs.joinpath(*SWEEP)
    cells = SweepFolder(path).cells
    name = batch(path, cells[:1])
    for route, kind in [("/", "text/html"), ("/app.js", "text/javascript"),
                        ("/style.css", "text/css"),
                        (f"/file/{PLACE}/sweep.json", "application/json"),
                        (f"/file/{PLACE}/sweep.yaml", "text/plain")]:  # fmt: skip
        status, headers, body = ask(server, route)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert body
    listed = data_of(server, "/api/list")
    assert listed["cells"] == 3
    names = [column["name"] for column in listed["columns"]]
    assert names[:5] == ["state", "kind", "name", "id", "changed"]
    assert {"lr", "accuracy", "loss"} <= set(names)
    sweep = data_of(server, f"/api/sweep/{PLACE}")
    assert sweep["counts"] == {"done": 17, "failed": 1, "missing": 0}
    assert sweep["state"] == "done"
    assert sweep["failures"][0]["text"] == "ValueError: no plain"
    cell = data_of(server, f"/api/cell/{PLACE}/{cells[0]['id']}")
    assert (cell["batch"], cell["index"], cell["metrics"]) == (name, 0, True)
    assert cell["config"]["width"] == 8
    assert cell["log"] == "compiling\nstep 50\n"
    (path / "logs").mkdir()
    (path / "logs" / "7.txt").write_text("of another place\n")
    for log, text in [("logs/7.txt", "of another place\n"), ("../../../secret.json", ""),
                      ("/etc/passwd", "")]:  # fmt: skip
        change(path, f"cells/{cells[0]['id']}.json", lambda r, log=log: r["run"].update(log=log))
        assert data_of(server, f"/api/cell/{PLACE}/{cells[0]['id']}")["log"] == text
    run = data_of(server, "/api/run/single/aaaaaaaaaaaa")
    assert run["summary"][1]["value"] == "nan"
    assert run["config"] == {"experiment": "e.py", "seeds": "[0, 1]", "lr": 0.5}
    curves = data_of(server, f"/api/metrics/{PLACE}/{name}")
    assert curves["series"][0]["step"] == list(range(1, 51))
    assert data_of(server, f"/api/live/{PLACE}") == {"kind": "live", "batches": []}


def test_the_sweeps_columns_are_those_of_its_export(server, runs):
    from activjax.runs.sweep.table import columns

    path = runs.joinpath(*SWEEP)
    folder = SweepFolder(path)
    table = {c.name: c for c in columns(index.rows(folder), list(folder.about["axes"]))}
    for packed in data_of(server, f"/api/sweep/{PLACE}")["columns"]:
        if "same" in packed:
            values = [packed["same"]] * 18
        else:
            values = packed.get("values") or [packed["levels"][code] for code in packed["codes"]]
        wanted = table[packed["name"]].values
        # numbers are rounded to seven digits
        assert values == [pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for v in wanted]


ATTACKS = [
    "/..", "/../secret.json", "/file/../secret.json", "/file/../../secret.json",
    "/file/demo/../../secret.json", "/file/demo/0123456789ab/../../../secret.json",
    "/file/%2e%2e/%2e%2e/secret.json", "/file/demo/%2e%2e/%2e%2e/secret.json",
    "/file/demo/0123456789ab/..%2f..%2f..%2fsecret.json",
    "/file/demo/0123456789ab/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.json",
    "/file/demo/0123456789ab/..%5c..%5c..%5csecret.json",
    "/file/demo/0123456789ab/%252e%252e/%252e%252e/secret.json",
    "/file/demo/0123456789ab/..%c0%af..%c0%afsecret.json", "/file/demo/0123456789ab/%ff%fe",
    "/file//etc/passwd", "//etc/passwd", "/file/demo/0123456789ab//etc/passwd",
    "/file/demo/0123456789ab/%2fetc%2fpasswd", "/file/%2fetc/passwd/x",
    "/file/demo/0123456789ab/sweep.json%00.png", "/file/demo/0123456789ab/%00",
    "/file/demo/0123456789ab/.lock", "/file/demo/0123456789ab/.hidden/secret.json",
    "/file/demo/0123456789ab/link.json", "/file/demo/0123456789ab/links/secret.json",
    "/file/demo/0123456789ab/to-hidden", "/file/demo/0123456789ab/broken",
    "/file/demo/0123456789ab/loop", "/file/demo/0123456789ab/cells", "/file/demo/0123456789ab/pipe",
    "/file/linked/0123456789ab/secret.json", "/file/runs-of-others/x/secret.json",
    "/file/../runs-of-others/secret.json", "/api/metrics/demo/0123456789ab/..",
    "/api/metrics/demo/0123456789ab/%2e%2e%2f%2e%2e", "/api/cell/demo/0123456789ab/..%2f..%2fsweep",
    "/api/cell/demo/0123456789ab/../../secret", "/api/sweep/../runs", "/api/run/../runs",
    "/api/sweep/%2e%2e/runs", "/api/live/demo/..", "/api/__init__/a/b", "/api/file/a/b", "/api",
    "/api/list/x", "/api/nothing", "/page/main.js", "/app.js/..", "/%61pp.js/x",
    "http://127.0.0.1/secret.json", "/file/demo/0123456789ab/" + "a/" * 2500 + "x",
    "/file/demo/0123456789ab/" + "x" * 300, "/file/demo/0123456789ab/~root", "\\..\\secret.json",
    "/file/demo/0123456789ab/C:%5csecret.json", "/file/demo/0123456789ab/x%0d%0aSet-Cookie:%20a=b",
]  # fmt: skip


@pytest.fixture
def attacked(server, runs, tmp_path):
    """The same with links that lead outside and to what is hidden."""
    path = runs.joinpath(*SWEEP)
    (path / "link.json").symlink_to(tmp_path / "secret.json")
    (path / "links").symlink_to(tmp_path / "runs-of-others")
    (path / ".lock").write_text(SECRET)
    (path / ".hidden").mkdir()
    (path / ".hidden" / "secret.json").write_text(json.dumps(SECRET))
    (path / "to-hidden").symlink_to(path / ".hidden" / "secret.json")
    (path / "broken").symlink_to(path / "nowhere")
    (path / "loop").symlink_to(path / "loop")
    os.mkfifo(path / "pipe")
    (runs / "linked").symlink_to(tmp_path / "runs-of-others")
    return server


@pytest.mark.parametrize("path", ATTACKS)
def test_nothing_outside_is_read(attacked, path):
    status, _, body = ask(attacked, path)
    assert status in (400, 404, 414), (path, status, body[:200])
    assert SECRET.encode() not in body
    assert len(body) < 100


def test_a_folder_with_a_link_outside_is_not_read_at_all(attacked, runs, tmp_path):
    answer = data_of(attacked, f"/api/sweep/{PLACE}")
    assert answer["kind"] == "error"
    assert "leads outside" in answer["error"]
    outside = make_run(tmp_path / "elsewhere" / "eeeeeeeeeeee", note=SECRET)
    (runs / "other").symlink_to(outside.parent)
    half = make_run(runs / "half" / "dddddddddddd")
    (half / "result.json").unlink()
    (half / "result.json").symlink_to(outside / "result.json")
    assert ask(attacked, "/api/run/other/eeeeeeeeeeee")[0] == 404
    assert ask(attacked, "/api/run/half/dddddddddddd")[0] == 404
    listed = json.dumps(data_of(attacked, "/api/list"))
    assert SECRET not in listed
    assert "eeeeeeeeeeee" not in listed


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:{}", 200), ("localhost:{}", 200), ("LOCALHOST:{}", 200), ("[::1]:{}", 200),
     ("evil.example:{}", 403), ("127.0.0.1.evil.example:{}", 403), ("127.0.0.1", 403),
     ("127.0.0.1:1", 403), ("localhost.:{}", 403), ("0.0.0.0:{}", 403), ("", 403), (None, 403),
     ("127.0.0.1:{}@evil", 403)],
)  # fmt: skip
def test_only_this_machines_names_are_answered(server, host, status):
    found = ask(server, "/api/list", Host=host and host.format(server.port))
    assert found[0] == status
    if status != 200:
        assert b"demo" not in found[2]


def test_other_sites_and_other_methods_are_refused(server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "X"):
        assert ask(server, "/", method)[0] == 405
    assert ask(server, "/api/list", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, "/api/list", Sec_Fetch_Site="same-origin")[0] == 200
    assert ask(server, "/", Content_Length="3")[0] == 400
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost:{server.port}\r\nHost: evil\r\n\r\n".encode()
        )
        assert line.recv(100).startswith(b"HTTP/1.1 403")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(b"<script>alert(1)</script>\r\n\r\n")
        assert b"<script>" not in line.recv(10_000)


def test_it_listens_to_this_machine_only(server):
    assert server._http.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.port}/"


def test_headers_forbid_scripts_of_others(server, runs):
    (runs.joinpath(*SWEEP) / "report.html").write_text("<script>alert(1)</script>")
    policy = ask(server, "/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    for path in ("/", "/api/list", "/app.js", f"/file/{PLACE}/report.html", "/nothing"):
        headers = ask(server, path)[1]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    # a run's own file gets no scripts and no origin
    policy = ask(server, f"/file/{PLACE}/report.html")[1]["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert not [
        word for word in ("http:", "https:", "<script>", "onload") if word in _assets.shell()
    ]


def test_unknown_files_are_downloads_and_pictures_pictures(server, runs):
    path = runs.joinpath(*SWEEP)
    (path / "a.npy").write_bytes(b"123")
    (path / "a.svg").write_bytes(b"<svg onload='alert(1)'/>")
    (path / "a.png").write_bytes(PICTURE.encode())
    for name in ("a.npy", "a.svg"):
        headers = ask(server, f"/file/{PLACE}/{name}")[1]
        assert headers["Content-Disposition"] == "attachment"
        assert headers["Content-Type"].startswith("application/octet-stream")
    assert ask(server, f"/file/{PLACE}/a.png")[1]["Content-Type"] == "image/png"


def test_what_has_not_changed_is_not_sent_again(server, runs):
    path = f"/api/sweep/{PLACE}"
    _, headers, body = ask(server, path)
    assert headers["Cache-Control"] == "no-cache"
    status, again, nothing = ask(server, path, If_None_Match=headers["ETag"])
    assert (status, nothing, again["ETag"]) == (304, b"", headers["ETag"])
    status, packed, data = ask(server, path, Accept_Encoding="gzip")
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(data) == body
    status, head, nothing = ask(server, path, "HEAD")
    assert (status, nothing, head["Content-Length"]) == (200, b"", str(len(body)))
    record = next((runs.joinpath(*SWEEP) / "cells").glob("*.json"))
    record.rename(record.with_suffix(".gone"))
    status, headers, body = ask(server, path, If_None_Match=headers["ETag"])
    assert status == 200
    assert json.loads(body)["counts"]["missing"] == 1


def test_looking_writes_nothing_and_needs_no_jax(runs):
    path = runs.joinpath(*SWEEP)
    name = batch(path, SweepFolder(path).cells[:1])
    cell = SweepFolder(path).cells[0]["id"]
    before = snapshot(runs)
    program = f"""
import sys
from activjax.runs.browse import Server
import urllib.request
with Server({str(runs)!r}, 0) as server:
    for path in ("", "app.js", "api/list?quick", "api/list", "api/sweep/{PLACE}",
                 "api/live/{PLACE}", "api/cell/{PLACE}/{cell}", "api/metrics/{PLACE}/{name}",
                 "api/run/single/aaaaaaaaaaaa", "file/{PLACE}/sweep.json"):
        assert urllib.request.urlopen(server.address + path, timeout=20).read()
assert not {{"jax", "jaxlib", "matplotlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert snapshot(runs) == before
    assert not (path / "index.sqlite").exists()


def test_an_index_that_is_there_is_used_and_left_alone(runs, monkeypatch):
    folder = SweepFolder(runs.joinpath(*SWEEP))
    lines = index.rows(folder)
    before = snapshot(runs)
    monkeypatch.setattr(index, "_read", None)  # would raise: no record is opened
    known = {}
    assert index.rows(folder, known) == lines
    assert len(known) == 18
    (folder.path / "index.sqlite").rename(folder.path / "gone")
    assert index.rows(folder, known) == lines
    (folder.path / "gone").rename(folder.path / "index.sqlite")
    assert {k: v for k, v in snapshot(runs).items() if k != str(folder.path)} == {
        k: v for k, v in before.items() if k != str(folder.path)
    }


def test_pruned_cells_are_over_and_counted_apart(server, runs):
    path = runs.joinpath(*SWEEP)
    cells = SweepFolder(path).cells
    cell, name = cells[0]["id"], batch(path, cells[:1])

    def prune(record):
        for key in ("summary", "contents", "question", "answer", "warnings", "run"):
            record.pop(key, None)
        about = {"step": 30, "metric": "loss", "value": 0.5, "why": "median"}
        record.update(status="pruned", pruned=about)

    change(path, f"cells/{cell}.json", prune)
    sweep = data_of(server, f"/api/sweep/{PLACE}")
    assert sweep["counts"] == {"done": 16, "failed": 1, "missing": 0, "pruned": 1}
    assert sweep["state"] == "done"
    found = data_of(server, f"/api/cell/{PLACE}/{cell}")
    assert found["state"] == "pruned"
    assert (found["batch"], found["index"], found["metrics"]) == (name, 0, True)
    assert found["provenance"]["pruned.step"] == 30
    facts = server._http.routes._listing.answer()["columns"]
    listed = {column["name"]: column.get("values") for column in facts}
    at = listed["kind"].index("sweep")
    names = ("state", "cells", "done", "failed", "pruned")
    assert [listed[name][at] for name in names] == ["done", 18, 16, 1, 1]


def test_damage_is_said_and_does_not_hide_the_rest(server, runs):
    path = runs.joinpath(*SWEEP)
    (path / "cells.jsonl").write_text("{")
    (runs / "single" / "aaaaaaaaaaaa" / "config.yaml").write_text("a: [1, &x {b: *x}")
    (runs / "single" / "bbbbbbbbbbbb" / "result.json").write_text("[" * 100_000)
    assert data_of(server, f"/api/sweep/{PLACE}")["kind"] == "error"
    assert "(unreadable)" in data_of(server, "/api/run/single/aaaaaaaaaaaa")["config"]
    assert data_of(server, "/api/list")["cells"] == 3
    for data in ("[]", "3", '{"axes": 3}', '{"axes": {"a": 1}, "seeds": 2}'):
        (path / "sweep.json").write_text(data)
        ask(server, f"/api/sweep/{PLACE}")
        assert data_of(server, "/api/list")["cells"] == 3


def test_a_small_config_cannot_become_a_huge_one(runs):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    file = runs / "single" / "aaaaaaaaaaaa" / "config.yaml"
    file.write_text("\n".join(lines))
    answer = Routes(runs).answer(["api", "run", "single", "aaaaaaaaaaaa"], {})
    assert len(answer.body) < 100_000


def test_hostile_texts_pass_through_json_and_a_script_element(runs):
    texts = long_texts()
    column = Column("<b>", "text", "axis", texts * 2)
    (packed,) = _packed.pack([column])
    whole = _packed.embedded({"columns": [packed]})
    assert not set("<>&") & set(whole)
    assert json.loads(whole) == {"columns": [packed]}
    assert all(len(text) < 2100 for text in packed["values"])
    odd = Column("x", "number", "value", [float("nan"), float("inf"), -float("inf"), 0.1 + 0.2])
    assert _packed.pack([odd])[0]["values"] == ["nan", "inf", "-inf", 0.3]
    assert _packed.plain(2**60) == str(2**60)
    assert _packed.plain("\ud800\0\x1b") == "?\ufffd\ufffd"
    flags = Column("x", "text", "axis", [True, 1, "1", None] * 4)
    packed = _packed.pack([flags])[0]
    found = [packed["levels"][code] for code in packed["codes"]]
    assert [(type(v), v) for v in found] == [(type(v), v) for v in flags.values]


def test_names_that_are_odd_but_no_paths_are_found(runs):
    name = "<img src=x onerror=alert(1)>"
    make_run(runs / name / "a b'\"&%", lr=1)
    with Server(runs, 0) as server:
        quoted = "/".join(urllib.parse.quote(part, safe="") for part in (name, "a b'\"&%"))
        assert data_of(server, f"/api/run/{quoted}")["config"]["lr"] == 1
        assert name in json.dumps(data_of(server, "/api/list"))
    for part in ("", ".", "..", ".a", "a/b", "a\\b", "a\0", "a\nb", "x" * 256, "\ud800", "a:b"):
        assert not _paths.plain(part)


def test_ten_thousand_cells_are_a_small_answer():
    import random

    rng = random.Random(0)
    table = [Column(f"c{k}", "number", "value", [rng.random() for _ in range(10_000)])
             for k in range(24)]  # fmt: skip
    table += [Column(f"a{k}", "number", "axis", [float(i % (k + 3)) for i in range(10_000)])
              for k in range(6)]  # fmt: skip
    size = len(gzip.compress(_packed.dumps({"columns": _packed.pack(table)}).encode(), 5))
    # seven random digits are 23 bits at least: 24 such columns of 10,000 are 0.7 MB
    assert 0.7e6 < size < 2e6


def test_a_server_says_why_it_cannot_start(tmp_path):
    with pytest.raises(StorageError, match="expected the folder that holds all runs"):
        Server(tmp_path / "nothing")
    with Server(tmp_path, 0) as first:
        with pytest.raises(StorageError, match=rf"port {first.port}: cannot be listened on"):
            Server(tmp_path, first.port)
        with pytest.raises(StorageError, match="expected a number from 0 to 65535"):
            Server(tmp_path, 70_000)
        assert data_of(first, "/api/list")["cells"] == 0


def test_a_modules_imports_come_before_it():
    script = _assets.script()
    assert "import " not in script.replace("important", "")
    assert script.startswith('"use strict";')
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(",
                 "setTimeout(\"", "srcdoc"):  # fmt: skip
        assert word not in script, word


@pytest.fixture
def heard():
    """Children of a process that ignores Ctrl-C, as one started with `&` does, ignore it too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_command_says_where_and_ends_with_ctrl_c(runs, heard):
    command = [sys.executable, "-m", "activjax.cli", "serve", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{address}api/list", timeout=20) as answer:
                assert json.load(answer)["cells"] == 3
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    command[-3] = str(runs / "nothing")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "expected the folder that holds all runs" in done.stderr
