"""DeepSeek V2, with and without a compressed query, and V3."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe, Shapes
from tests.record.tokenizer import N_TRAINED

# llama.cpp knows the Lite model, whose queries are not compressed, by its 26 or 27 layers.
V2_LITE: Config = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV2Config",
        "AutoModel": "modeling_deepseek.DeepseekV2Model",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM",
    },
    "aux_loss_alpha": 0.001,
    "bos_token_id": N_TRAINED,
    "eos_token_id": N_TRAINED + 1,
    "first_k_dense_replace": 24,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "kv_lora_rank": 32,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 32,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "greedy",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 32,
    "vocab_size": n_tokens(tokenizers.DEEPSEEK_2) + 3,
}
# llama.cpp chooses the groups by the sum of their two best experts, which is the way of V3; V2 goes
# by the best one.
V2: Config = {
    **V2_LITE,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "n_routed_experts": 8,
    "num_hidden_layers": 3,
    "q_lora_rank": 48,
    "routed_scaling_factor": 16.0,
    "topk_group": 2,
    "topk_method": "group_limited_greedy",
}
V3: Config = {
    **V2,
    "architectures": ["DeepseekV3ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModel": "modeling_deepseek.DeepseekV3Model",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
    },
    "ep_size": 1,
    "model_type": "deepseek_v3",
    "n_group": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_nextn_predict_layers": 1,
    "rope_scaling": {**V2["rope_scaling"], "mscale": 1.0, "mscale_all_dim": 1.0},
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "vocab_size": n_tokens(tokenizers.DEEPSEEK_3) + 3,
}
# A layer that predicts the token after the next one: stored, and left out by llama.cpp's converter.
NEXT_TOKENS: Shapes = {
    "model.layers.3.embed_tokens.weight": (V3["vocab_size"], 64),
    "model.layers.3.enorm.weight": (64,),
    "model.layers.3.hnorm.weight": (64,),
    "model.layers.3.eh_proj.weight": (64, 128),
    "model.layers.3.input_layernorm.weight": (64,),
    "model.layers.3.shared_head.norm.weight": (64,),
    "model.layers.3.shared_head.head.weight": (V3["vocab_size"], 64),
}
F32_BIAS = (r"e_score_correction_bias$", "F32")

RECIPES = (
    Recipe("deepseek2-lite", V2_LITE, tokenizers.DEEPSEEK_2),
    Recipe("deepseek2", V2, tokenizers.DEEPSEEK_2),
    Recipe("deepseek3", V3, tokenizers.DEEPSEEK_3, dtypes=(F32_BIAS,), extra=NEXT_TOKENS),
)
