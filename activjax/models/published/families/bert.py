"""BERT (Devlin et al. 2019), the family of MiniLM and most sentence encoders."""

from __future__ import annotations

from typing import Any

from activjax.models.encoder import EncoderConfig, encoder
from activjax.models.published._family import Family
from activjax.models.published._layout import SAME, TURNED, Entry, linear, norm, plain
from activjax.models.published._options import Options
from activjax.models.published.families._common import ACTIVATIONS, activation_name, need

BLOCK = "bert.encoder.layer.{}"
_PARTS = {
    "pooler": ("pooler.dense.weight", ("BertModel", "BertForPreTraining")),
    "mlm": ("cls.predictions.transform.dense.weight", ("BertForMaskedLM", "BertForPreTraining")),
    "next_sentence": ("cls.seq_relationship.weight", ("BertForPreTraining",)),
}


def read(options: Options) -> EncoderConfig:
    """The config of BERT's options; which parts there are, the file says if there is one."""
    options.only("position_embedding_type", "absolute")
    options.only("is_decoder", False)
    options.only("add_cross_attention", False)
    options.unused("is_causal")
    words = options.get("architectures", None) or ["BertModel"]

    def has(part: str) -> bool:
        key, known = _PARTS[part]
        if options.keys is None:
            return words[0] in known
        return key in options.keys or f"bert.{key}" in options.keys

    return EncoderConfig(
        vocab=options.count("vocab_size"),
        context=options.count("max_position_embeddings"),
        layers=options.layers("num_hidden_layers"),
        width=options.count("hidden_size"),
        heads=options.count("num_attention_heads"),
        mlp_width=options.count("intermediate_size"),
        types=options.count("type_vocab_size", 2),
        activation=options.one_of("hidden_act", ACTIVATIONS, "gelu"),
        norm_eps=options.number("layer_norm_eps", 1e-12),
        tied=options.flag("tie_word_embeddings", True),
        pooler=has("pooler"),
        mlm=has("mlm"),
        next_sentence=has("next_sentence"),
    )


def write(config: EncoderConfig) -> dict[str, Any]:
    """The options of a config."""
    need(config.types > 0, "types=0")
    words = {True: "BertForPreTraining", False: "BertForMaskedLM" if config.mlm else "BertModel"}
    return {
        "architectures": [words[config.next_sentence and config.mlm]],
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.shared.hidden,
        "type_vocab_size": config.types,
        "hidden_act": activation_name(config),
        "layer_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
    }


FAMILY = Family(
    name="bert",
    architectures=("BertModel", "BertForMaskedLM", "BertForPreTraining"),
    build=encoder,
    read=read,
    write=write,
    entries=(
        plain("bert.embeddings.word_embeddings.weight", "embed/table"),
        plain("bert.embeddings.position_embeddings.weight", "place/table"),
        plain("bert.embeddings.token_type_embeddings.weight", "type/table"),
        *norm("bert.embeddings.LayerNorm", "embed_norm"),
        *linear(f"{BLOCK}.attention.self.query", "blocks/attn/q"),
        *linear(f"{BLOCK}.attention.self.key", "blocks/attn/k"),
        *linear(f"{BLOCK}.attention.self.value", "blocks/attn/v"),
        *linear(f"{BLOCK}.attention.output.dense", "blocks/attn/out"),
        *norm(f"{BLOCK}.attention.output.LayerNorm", "blocks/attn_norm"),
        *linear(f"{BLOCK}.intermediate.dense", "blocks/mlp/pre"),
        *linear(f"{BLOCK}.output.dense", "blocks/mlp/out"),
        *norm(f"{BLOCK}.output.LayerNorm", "blocks/mlp_norm"),
        *linear("bert.pooler.dense", "pooler"),
        *linear("cls.predictions.transform.dense", "mlm/dense"),
        *norm("cls.predictions.transform.LayerNorm", "mlm/norm"),
        Entry("cls.predictions.bias", ("mlm/bias",), SAME, tied=True),
        # a matrix of its own has a bias of its own, and nobody uses the other
        Entry("cls.predictions.decoder.bias", ("mlm/bias",), SAME, tied=False),
        Entry("cls.predictions.decoder.weight", ("mlm/head/kernel",), TURNED),
        *linear("cls.seq_relationship", "next_sentence"),
    ),
    prefix="bert.",
    leftovers=("bert.embeddings.position_ids",),
    twins={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
