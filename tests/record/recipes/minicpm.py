"""MiniCPM, whose network transformers has as Granite, and MiniCPM 3."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe

MINICPM: Config = {
    "_name_or_path": "Tiny",
    "architectures": ["MiniCPMForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_minicpm.MiniCPMConfig",
        "AutoModel": "modeling_minicpm.MiniCPMModel",
        "AutoModelForCausalLM": "modeling_minicpm.MiniCPMForCausalLM",
    },
    "bos_token_id": 1,
    "dim_model_base": 16,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.1,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "scale_depth": 1.4,
    "scale_emb": 12,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.MINICPM),
}
# MiniCPM 4.
MINICPM_LONGROPE: Config = {
    **MINICPM,
    "max_position_embeddings": 512,
    "rope_scaling": {
        "long_factor": [1.0, 1.3, 2.4, 5.1, 9.7, 17.2, 30.0, 41.5],
        "original_max_position_embeddings": 512,
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.15, 1.4, 1.7, 2.2, 2.5, 2.9],
    },
    "tie_word_embeddings": False,
}
MINICPM_3: Config = {
    **MINICPM_LONGROPE,
    "architectures": ["MiniCPM3ForCausalLM"],
    "attention_bias": False,
    "dim_model_base": 256,
    "kv_lora_rank": 32,
    "model_type": "minicpm3",
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "tie_word_embeddings": True,
    "v_head_dim": 16,
}
del MINICPM_3["auto_map"]


def granite(config: Config) -> Config:
    """Granite's name for the same network."""
    keys = ("hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings",
            "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps",
            "rope_scaling", "vocab_size")  # fmt: skip
    return {
        **{key: config[key] for key in keys},
        "architectures": ["GraniteForCausalLM"],
        "attention_multiplier": (config["hidden_size"] / config["num_attention_heads"]) ** -0.5,
        "embedding_multiplier": config["scale_emb"],
        "logits_scaling": config["hidden_size"] / config["dim_model_base"],
        "model_type": "granite",
        "residual_multiplier": config["scale_depth"] / config["num_hidden_layers"] ** 0.5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }


RECIPES = (
    Recipe("minicpm", MINICPM, tokenizers.MINICPM, stand_in=granite(MINICPM)),
    Recipe(
        "minicpm-longrope",
        MINICPM_LONGROPE,
        tokenizers.MINICPM,
        stand_in=granite(MINICPM_LONGROPE),
    ),
    Recipe("minicpm3", MINICPM_3, tokenizers.MINICPM),
)
