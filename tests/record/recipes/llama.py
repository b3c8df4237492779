"""Llama 2 and 3, and what differs between checkpoints of this architecture; SmolLM3."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe, Shapes
from tests.record.tokenizer import N_TRAINED

LLAMA_2: Config = {
    "_name_or_path": "Tiny",
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.LLAMA_2),
}
LLAMA_3: Config = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": N_TRAINED,
    "eos_token_id": [N_TRAINED + i for i in (1, 4, 5)],
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 64,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.LLAMA_3),
}
LLAMA_3_GENERATION: Config = {
    "bos_token_id": N_TRAINED,
    "do_sample": True,
    "eos_token_id": [N_TRAINED + i for i in (1, 4, 5)],
    "temperature": 0.6,
    "top_p": 0.9,
    "transformers_version": "4.45.0.dev0",
}

LLAMA_LINEAR: Config = {**LLAMA_2, "rope_scaling": {"factor": 2.0, "type": "linear"}}
LLAMA_BIAS: Config = {
    **LLAMA_3,
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": False,
}
LLAMA_3_0: Config = {
    **{key: value for key, value in LLAMA_3.items() if key not in ("head_dim", "mlp_bias")},
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
LLAMA_WITHOUT_MODEL: Config = {
    **LLAMA_2,
    "num_key_value_heads": 1,
    "torch_dtype": "bfloat16",
    "vocab_size": n_tokens(tokenizers.LLAMA_WITHOUT_MODEL),
}
YI: Config = {
    **{key: value for key, value in LLAMA_2.items() if key != "_name_or_path"},
    "eos_token_id": 7,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rope_theta": 5000000.0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0",
    "vocab_size": n_tokens(tokenizers.YI) + 5,
}
# Of old checkpoints.
BUFFERS: Shapes = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (8,) for i in range(2)}

RECIPES = (
    Recipe("llama-2", LLAMA_2, tokenizers.LLAMA_2, dtype="F16", extra=BUFFERS,
           dtypes=((r"inv_freq$", "F32"),)),
    Recipe("llama-linear", LLAMA_LINEAR, tokenizers.LLAMA_2),
    Recipe("llama-3", LLAMA_3, tokenizers.LLAMA_3, LLAMA_3_GENERATION),
    Recipe("llama-3.0", LLAMA_3_0, tokenizers.LLAMA_3),
    Recipe("llama-bias", LLAMA_BIAS, tokenizers.LLAMA_3),
    Recipe("llama-without-model", LLAMA_WITHOUT_MODEL, tokenizers.LLAMA_WITHOUT_MODEL),
    Recipe("yi", YI, tokenizers.YI),
)  # fmt: skip
