"""Options as published models have them, old spellings and all: sizes to the last parameter."""

import json

import jax
import pytest

from activjax import models

GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
    "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
    "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
    "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
    "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25,
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.24.0",
    "use_cache": True, "use_parallel_residual": True, "vocab_size": 50304,
}  # fmt: skip
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "initializer_range": 0.02,
    "model_type": "llama", "rms_norm_eps": 1e-05, "use_cache": True, "pretraining_tp": 1,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "attention_bias": False,
    "attention_dropout": 0.0, "mlp_bias": False,
}  # fmt: skip
LLAMA2 = {
    **LLAMA, "_name_or_path": "meta-llama/Llama-2-7b-hf", "bos_token_id": 1, "eos_token_id": 2,
    "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
    "rope_scaling": None, "vocab_size": 32000, "torch_dtype": "float16",
}  # fmt: skip
LLAMA3 = {
    **LLAMA, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_size": 4096,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rope_theta": 500000.0, "vocab_size": 128256,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
}  # fmt: skip
LLAMA32 = {
    **LLAMA3, "hidden_size": 2048, "intermediate_size": 8192, "head_dim": 64,
    "num_hidden_layers": 16, "tie_word_embeddings": True,
    "rope_scaling": {**LLAMA3["rope_scaling"], "factor": 32.0},
}  # fmt: skip
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
MISTRAL3 = {
    **MISTRAL, "vocab_size": 32768, "sliding_window": None, "rope_theta": 1e6,
    "attention_dropout": 0.0,
}  # fmt: skip
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 131072, "max_window_layers": 24,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 131072, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
QWEN25 = {
    **QWEN2, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_hidden_layers": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    "vocab_size": 152064, "max_window_layers": 28, "use_mrope": False,
}  # fmt: skip
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
    "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid",
    "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304, "initializer_range": 0.02, "intermediate_size": 9216,
    "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
    "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
    "sliding_window": 4096, "torch_dtype": "float32", "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid",
    "eos_token_id": [1, 106], "final_logit_softcapping": None, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
    "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
    "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 262144,
}  # fmt: skip
BERT = {
    "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
    "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
MINILM = {**BERT, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}

PUBLISHED = {
    "gpt2": (GPT2, 124_439_808),
    "pythia-70m": (PYTHIA, 70_426_624),
    "Llama-2-7b": (LLAMA2, 6_738_415_616),
    "Llama-3.1-8B": (LLAMA3, 8_030_261_248),
    "Llama-3.2-1B": (LLAMA32, 1_235_814_400),
    "Mistral-7B-v0.1": (MISTRAL, 7_241_732_096),
    "Mistral-7B-v0.3": (MISTRAL3, 7_248_023_552),
    "Qwen2-0.5B": (QWEN2, 494_032_768),
    "Qwen2.5-7B": (QWEN25, 7_615_616_512),
    "Qwen3-0.6B": (QWEN3, 596_049_920),
    "gemma-2-2b": (GEMMA2, 2_614_341_888),
    "gemma-3-1b": (GEMMA3, 999_885_952),
    "bert-base-uncased": (BERT, 109_482_240),
    "all-MiniLM-L6-v2": (MINILM, 22_713_216),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes(name, tmp_path):
    options, count = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(options))
    model, params, _ = models.load(tmp_path, abstract=True)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    if name in ("gpt2", "bert-base-uncased", "all-MiniLM-L6-v2"):
        return
    tokens = jax.ShapeDtypeStruct((1, 16), "int32")
    assert jax.eval_shape(model.apply, params, tokens).shape == (1, 16, options["vocab_size"])


def config(options, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(options))
    return models.load(tmp_path, abstract=True).model.config


def test_what_the_options_mean(tmp_path):
    c = config(PYTHIA, tmp_path)
    assert (c.rotated, c.parallel, c.activation, c.tied) == (16, True, "gelu_exact", False)
    c = config(LLAMA32, tmp_path)
    assert c.rotary_scaling == models.RotaryScaling("llama3", 32.0, 1.0, 4.0, 8192)
    assert (c.rotary_base, c.groups_of, c.tied) == (500_000.0, 8, True)
    assert (config(MISTRAL, tmp_path).window, config(MISTRAL3, tmp_path).window) == (4096, None)
    c = config(QWEN2, tmp_path)
    assert (c.window, c.bias) == (None, "qkv")
    c = config({**QWEN2, "use_sliding_window": True, "max_window_layers": 21}, tmp_path)
    assert (c.window, c.windowed) == (131072, (21, 22, 23))
    c = config(GEMMA2, tmp_path)
    assert (c.window, c.windowed[:3], c.windowed[-1]) == (4096, (0, 2, 4), 24)
    assert (c.score_cap, c.logit_cap, c.score_scale) == (50.0, 30.0, 1 / 16)
    c = config(GEMMA3, tmp_path)
    assert set(range(26)) - set(c.windowed) == {5, 11, 17, 23}
    assert (c.rotary_base, c.window_rotary_base, c.embed_scale) == (1e6, 1e4, 1152**0.5)
