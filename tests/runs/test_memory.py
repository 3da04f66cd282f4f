"""What this machine and its processes hold."""

import subprocess
import sys

import numpy as np
import pytest

from activjax.runs import memory

MANY = 2**28


def test_what_is_held_and_the_most_that_was():
    before = memory.resident()
    block = np.ones(MANY, np.uint8)
    assert memory.resident() >= before + MANY - 2**20
    assert memory.peak() >= memory.resident() - 2**22  # two looks, one after the other
    del block
    assert memory.peak() >= before + MANY - 2**20
    assert 0 < memory.available() < 2**50


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells nothing better")
def test_a_process_does_not_count_what_its_parent_held():
    block = np.ones(MANY, np.uint8)
    code = "from activjax.runs import memory; print(memory.peak(), memory.resident())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    most, now = map(int, said.stdout.split())
    assert now <= most + 2**22
    assert most < MANY, "an interpreter and this module need tens of megabytes"
    assert block.nbytes == MANY


def test_a_process_that_is_gone_holds_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert memory.resident(gone.pid) == 0
