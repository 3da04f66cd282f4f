"""Two and four processes over loopback do what one does, to the bit: the mesh is the same."""

import numpy as np
import pytest

from tests.processes import Job, free_port

HERE = __file__.rpartition("/")[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    with Job(1, lambda *_: (f"{HERE}/together.py", folder), HERE, devices=4) as job:
        codes, said = job.ended()
    assert codes == [0], said
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_capture_harvest_training_and_checkpoints_equal_one_process(alone, count):
    def command(i, count, address):
        return (f"{HERE}/together.py", alone, i, count, address)

    with Job(count, command, HERE, devices=4 // count) as job:
        codes, said = job.ended()
    assert codes == [0] * count, said
    one, many = np.load(alone / "1.npz"), np.load(alone / f"{count}.npz")
    assert one.files == many.files
    for name in one.files:
        np.testing.assert_array_equal(one[name], many[name], err_msg=name)


MESSAGES = """
import sys
from activjax import hosts
i, n, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
hosts.start(address, n, i)
hosts.start(address, n, i)  # a second call does nothing
assert hosts.part() == (i, n)
for size in (0, 10, 4080, 4089, 50_000):  # below and above what one gather holds
    said = hosts.exchange({"from": i, "text": "é" * (size * i)})
    assert [m["from"] for m in said] == list(range(n))
    assert [len(m["text"]) for m in said] == [size * k for k in range(n)]
assert hosts.first(lambda: {"a": i}) == {"a": 0}
try:
    hosts.first(lambda: [][1])
except IndexError:
    pass
else:
    raise SystemExit("first: process 0's error was not raised")
heard = ""
try:
    hosts.exchange("fine", error="it broke" if i == 1 else None)
except hosts.Elsewhere as error:
    heard = str(error)
assert heard == ("" if i == 1 else "process 1: it broke"), heard


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")  # pickle does not give it back


def odd():
    raise Odd(1, 2)


for f, kind in ((odd, Odd if i == 0 else RuntimeError), (lambda: print, None)):
    try:
        assert hosts.first(f) is print
    except Exception as error:
        assert type(error) is kind, error
        assert "1 and 2" in str(error), error
assert hosts.every(lambda: i) == list(range(n))
for bad in ({1}, {0, 2}):  # all raise, and may go on together
    try:
        hosts.every(lambda: 1 // (i not in bad), lambda e: f"no {e}")
    except hosts.Failed as error:
        assert all((f"process {k} on " in str(error)) == (k in bad) for k in range(n)), error
        assert "no integer division" in str(error), error
    else:
        raise SystemExit("every: what failed was not raised")
assert hosts.here().startswith(f"process {i} on ")
hosts.wait()
print("good")
"""


@pytest.mark.slow
def test_messages_and_errors_reach_every_process(tmp_path):
    (tmp_path / "messages.py").write_text(MESSAGES)
    with Job(3, lambda *a: ("messages.py", *a), tmp_path, devices=1) as job:
        codes, said = job.ended()
    assert codes == [0, 0, 0], said
    assert all(text.endswith("good") for text in said)


@pytest.mark.slow
def test_a_disk_that_refuses_one_process_is_heard_of_by_all(tmp_path):
    def command(*where):
        return (f"{HERE}/refusals.py", *where, tmp_path / "kept")

    with Job(2, command, HERE, devices=2) as job:
        codes, said = job.ended()
    assert codes == [0, 0], said
    assert all("good" in text for text in said)


@pytest.mark.slow
def test_under_slurm_nothing_has_to_be_said(tmp_path):
    (tmp_path / "start.py").write_text(
        "from activjax import hosts\nhosts.start()\n"
        "print(hosts.part(), hosts.exchange(hosts.index()))\n"
    )
    job_id = 1000 + free_port() % 3000  # JAX makes the port of it

    def srun(i):  # what `srun --ntasks=2` sets for each task
        return {
            "SLURM_JOB_ID": str(job_id), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(i), "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "2",
        }  # fmt: skip

    with Job(2, lambda *_: ("start.py",), tmp_path, devices=1, more=srun) as job:
        codes, said = job.ended()
    assert codes == [0, 0], said
    assert said == ["(0, 2) [0, 1]", "(1, 2) [0, 1]"]
