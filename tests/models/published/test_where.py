"""By name: what is asked of the hub, and what is said when it cannot be had."""

import sys
import types

import jax
import numpy as np
import pytest

from activjax import models
from activjax.models.published import _tokenizer
from tests.models.published.common import CHECKPOINTS


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub that has one model; `online` False is a machine without."""
    state = types.SimpleNamespace(online=True, cached=False, asked=[])

    def snapshot_download(name, *, revision, allow_patterns, local_files_only=False):
        state.asked.append((name, revision, local_files_only))
        if not local_files_only and not state.online:
            raise ConnectionError("no network\nand more")
        if name != "someone/llama" or (local_files_only and not state.cached):
            raise LookupError(f"404: {name}")
        assert "*.safetensors" in allow_patterns
        assert not any("bin" in pattern or "*.py" in pattern for pattern in allow_patterns)
        return str(CHECKPOINTS / "llama")

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return state


def test_a_name(hub):
    params = models.load("someone/llama", revision="abc").params
    assert hub.asked == [("someone/llama", "abc", False)]
    plain = models.load(CHECKPOINTS / "llama").params
    assert jax.tree.all(jax.tree.map(np.array_equal, params, plain))


def test_without_a_network_the_cache_is_used(hub):
    hub.online, hub.cached = False, True
    assert models.load("someone/llama").params
    hub.cached = False
    with pytest.raises(RuntimeError, match=r"'someone/llama' is no folder here.*no network\)"):
        models.load("someone/llama")


def test_an_unknown_name(hub):
    with pytest.raises(RuntimeError, match="'someone/lama' is no folder.*404"):
        models.load("someone/lama")


def test_a_folder_has_no_revisions():
    with pytest.raises(ValueError, match="only names of the hub have revisions"):
        models.load(CHECKPOINTS / "llama", revision="main")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"no folder here.*activjax\[hub\]"):
        models.load("someone/llama")


def test_a_tokenizer_without_its_library(monkeypatch, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(_tokenizer.importlib.util, "find_spec", lambda name: None)
    found = _tokenizer.tokenizer_of(tmp_path)
    with pytest.raises(ImportError, match=r"needs the library tokenizers.*activjax\[text\]"):
        found.encode("a")
    assert "MissingTokenizer" in repr(found)
    assert _tokenizer.tokenizer_of(tmp_path / "none") is None
