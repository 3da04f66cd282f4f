"""Every family that is loaded: a family is a file here and a line below."""

from activjax.models.published._family import Family
from activjax.models.published.families import bert, gemma, gpt2, gpt_neox, llama

FAMILIES: tuple[Family, ...] = (
    gpt2.FAMILY,
    gpt_neox.FAMILY,
    llama.LLAMA,
    llama.MISTRAL,
    llama.QWEN2,
    llama.QWEN3,
    gemma.GEMMA2,
    gemma.GEMMA3,
    bert.FAMILY,
)
