"""GLM-4: the first one (9b-chat-hf) and that of 2025 (9B-0414, 32B-0414)."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe
from tests.record.tokenizer import N_TRAINED

GLM_4: Config = {
    "architectures": ["Glm4ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": [N_TRAINED + i for i in (0, 7, 9)],
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "model_type": "glm4",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": N_TRAINED,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.52.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.GLM_4) + 5,
}
GLM: Config = {
    **GLM_4,
    "architectures": ["GlmForCausalLM"],
    "attention_bias": True,
    "head_dim": 16,
    "max_position_embeddings": 131072,
    "model_type": "glm",
    "rms_norm_eps": 1.5625e-07,
    "transformers_version": "4.47.0.dev0",
    "vocab_size": n_tokens(tokenizers.GLM) + 5,
}
GLM_4_BIAS: Config = {**GLM_4, "attention_bias": True}

RECIPES = (
    Recipe("glm", GLM, tokenizers.GLM),
    Recipe("glm4", GLM_4, tokenizers.GLM_4),
    Recipe("glm4-bias", GLM_4_BIAS, tokenizers.GLM_4),
)
