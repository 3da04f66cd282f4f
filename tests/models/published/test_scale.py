"""Seven and seventy billion parameters over 64 devices, as shapes: nothing is materialised."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_step_is_compiled_and_nothing_is_held():
    out = subprocess.run(
        [sys.executable, "benchmarks/scale.py"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "120"},
    ).stdout  # fmt: skip
    rows = {
        name: [float(cell.replace(",", "")) for cell in cells.split("│")]
        for name, cells in re.findall(r"│ +(Llama [\w. ]+?B) │ +8 x 8 │(.*)│", out)
    }
    # to the last parameter, as published
    counts = {name: row[0] for name, row in rows.items()}
    assert counts == {"Llama 2 7B": 6_738_415_616, "Llama 3.1 70B": 70_553_706_496}
    for count, held, with_adam, _, _, process in rows.values():
        share = 4 * count / 64 / 2**30  # norms alone are whole on every device
        assert share - 0.005 <= held <= 1.02 * share + 0.005
        assert abs(with_adam - 3 * held) < 0.02
        assert process < 2  # GiB: the models would take 25 and 263
