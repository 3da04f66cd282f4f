"""The committed checkpoints, and what their own library made of them."""

from pathlib import Path

from activjax.models.published._safetensors import TensorFile

CHECKPOINTS = Path(__file__).parent / "checkpoints"
DECODERS = ["gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"]
ADAPTED = ["gpt2", "gpt_neox", "llama"]


def reference(*parts):
    """The arrays of a reference file."""
    file = TensorFile(CHECKPOINTS.joinpath(*parts, "reference.safetensors"))
    return {name: file.array(name).copy() for name in file.tensors}
