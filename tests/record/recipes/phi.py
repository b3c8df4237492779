"""Phi 2, 3 and 4."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe
from tests.record.tokenizer import N_TRAINED

PHI_2: Config = {
    "architectures": ["PhiForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": N_TRAINED,
    "embd_pdrop": 0.0,
    "eos_token_id": N_TRAINED,
    "hidden_act": "gelu_new",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "phi",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "partial_rotary_factor": 0.5,
    "qk_layernorm": False,
    "resid_pdrop": 0.1,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.37.0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.PHI_2) + 8,
}
END_OF_TEXT = next(i for i, text, _ in tokenizers.PHI_3["added"] if text == "<|endoftext|>")
PHI_3: Config = {
    "_name_or_path": "Tiny",
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": END_OF_TEXT,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 4096,
    "pad_token_id": END_OF_TEXT,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    # llama.cpp knows no window here, so the prompt stays within it.
    "sliding_window": 40,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.2",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.PHI_3) + 3,
}
FACTORS: Config = {
    "long_factor": [1.08, 1.3, 2.4, 5.1, 9.7, 17.2, 30.0, 41.5],
    "short_factor": [1.05, 1.1, 1.15, 1.4, 1.7, 2.2, 2.5, 2.9],
    "type": "longrope",
}
# Phi-3-mini-128k. llama.cpp goes by the length of its context, at least 256 tokens, transformers by
# the 32 of the prompt.
PHI_3_SHORT: Config = {
    **PHI_3,
    "max_position_embeddings": 2048,
    "original_max_position_embeddings": 512,
    "rope_scaling": FACTORS,
    "sliding_window": 262144,
}
PHI_3_LONG: Config = {
    **PHI_3_SHORT,
    "max_position_embeddings": 512,
    "original_max_position_embeddings": 16,
}
PHI_4: Config = {
    **{key: value for key, value in PHI_3.items() if key not in ("_name_or_path", "auto_map")},
    "bos_token_id": N_TRAINED,
    "eos_token_id": N_TRAINED + 3,
    "max_position_embeddings": 16384,
    "num_key_value_heads": 2,
    "original_max_position_embeddings": 16384,
    "pad_token_id": N_TRAINED,
    "rope_theta": 250000,
    "sliding_window": None,
    "transformers_version": "4.47.0",
    "vocab_size": n_tokens(tokenizers.PHI_4) + 3,
}
PHI_4_MINI: Config = {
    **PHI_4,
    "auto_map": PHI_3["auto_map"],
    "eos_token_id": N_TRAINED,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "original_max_position_embeddings": 512,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {
        "long_factor": FACTORS["long_factor"][:6],
        "short_factor": FACTORS["short_factor"][:6],
        "type": "longrope",
    },
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "transformers_version": "4.45.0",
    "vocab_size": n_tokens(tokenizers.PHI_4_MINI),
}
# Of GELU in half precision: see gemma.py.
LITTLE = (r"fc2\.weight$", 0.0, 0.01)

RECIPES = (
    Recipe("phi2", PHI_2, tokenizers.PHI_2, dtype="F16", rules=(LITTLE,)),
    Recipe("phi3", PHI_3, tokenizers.PHI_3),
    Recipe("phi3-longrope-short", PHI_3_SHORT, tokenizers.PHI_3),
    Recipe("phi3-longrope-long", PHI_3_LONG, tokenizers.PHI_3),
    Recipe("phi4", PHI_4, tokenizers.PHI_4),
    Recipe("phi4-mini", PHI_4_MINI, tokenizers.PHI_4_MINI),
)
