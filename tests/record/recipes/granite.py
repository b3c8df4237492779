"""Granite 3, dense, of experts, and with an expert that all share."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe

GRANITE: Config = {
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.2,
    "bos_token_id": 0,
    "embedding_multiplier": 12.0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "logits_scaling": 8.0,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "residual_multiplier": 2.2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.49.0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.GRANITE) + 1,
}
GRANITE_MOE: Config = {
    **{key: value for key, value in GRANITE.items() if key != "mlp_bias"},
    "architectures": ["GraniteMoeForCausalLM"],
    "intermediate_size": 32,
    "logits_scaling": 6.0,
    "model_type": "granitemoe",
    "num_experts_per_tok": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.0,
}
GRANITE_MOE_SHARED: Config = {
    **GRANITE_MOE,
    "architectures": ["GraniteMoeSharedForCausalLM"],
    "model_type": "granitemoeshared",
    "shared_intermediate_size": 64,
}

RECIPES = (
    Recipe("granite", GRANITE, tokenizers.GRANITE),
    Recipe("granite-moe", GRANITE_MOE, tokenizers.GRANITE),
    Recipe("granite-moe-shared", GRANITE_MOE_SHARED, tokenizers.GRANITE),
)
