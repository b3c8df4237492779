"""Mistral and Mixtral, which are Llamas to llama.cpp."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe

MISTRAL: Config = {
    "architectures": ["MistralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.MISTRAL),
}
# Mistral 7B v0.1: llama.cpp knows no window here, so the prompt stays within it.
MISTRAL_WINDOW: Config = {
    **{key: value for key, value in MISTRAL.items() if key != "head_dim"},
    "rope_theta": 10000.0,
    "sliding_window": 40,
}
# Mistral Nemo.
MISTRAL_NEMO: Config = {
    **MISTRAL,
    "head_dim": 32,
    "max_position_embeddings": 1024000,
    "torch_dtype": "bfloat16",
    "vocab_size": n_tokens(tokenizers.TEKKEN),
}
MIXTRAL: Config = {
    "architectures": ["MixtralForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "model_type": "mixtral",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.LLAMA_2),
}

RECIPES = (
    Recipe("mistral", MISTRAL, tokenizers.MISTRAL),
    Recipe("mistral-sliding-window", MISTRAL_WINDOW, tokenizers.LLAMA_2),
    Recipe("mistral-nemo", MISTRAL_NEMO, tokenizers.TEKKEN),
    Recipe("mixtral", MIXTRAL, tokenizers.LLAMA_2),
)
