"""The Python blocks of the README and the guide run, in order, as they stand."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/guide/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks
    space = {"__name__": page}
    for i, block in enumerate(blocks):
        with jax.numpy_dtype_promotion("standard"):  # as a reader's interpreter has it
            exec(compile(block, f"{page}, block {i + 1}", "exec"), space)


def test_links_lead_somewhere():
    for page in [*PAGES, "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
