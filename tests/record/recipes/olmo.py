"""OLMo 2, OLMo 3 and OLMoE."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe
from tests.record.tokenizer import N_TRAINED

OLMO_2: Config = {
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": N_TRAINED + 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": N_TRAINED + 5,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0",
    "use_cache": False,
    "vocab_size": n_tokens(tokenizers.OLMO_2) + 2,
}
OLMO_3: Config = {
    **{key: value for key, value in OLMO_2.items() if key != "torch_dtype"},
    "architectures": ["Olmo3ForCausalLM"],
    "dtype": "bfloat16",
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    "max_position_embeddings": 65536,
    "model_type": "olmo3",
    "num_hidden_layers": 4,
    "rope_scaling": {
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "yarn",
    },
    "sliding_window": 8,
    "transformers_version": "4.57.0",
}
OLMOE: Config = {
    "architectures": ["OlmoeForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "clip_qkv": None,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "max_position_embeddings": 4096,
    "model_type": "olmoe",
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.OLMOE) + 2,
}

RECIPES = (
    Recipe("olmo2", OLMO_2, tokenizers.OLMO_2, dtype="F32"),
    Recipe("olmo3", OLMO_3, tokenizers.OLMO_2),
    Recipe("olmoe", OLMOE, tokenizers.OLMOE),
)
