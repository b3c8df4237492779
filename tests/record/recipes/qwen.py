"""Qwen 2, 2.5, 3 and 3.5, dense and of experts."""

from __future__ import annotations

from tests.helpers.tiny_tokenizers import n_tokens
from tests.record import tokenizers
from tests.record.recipe import Config, Recipe, Shapes
from tests.record.tokenizer import N_TRAINED

END_OF_TEXT, IM_START, IM_END = (N_TRAINED + i for i in range(3))
# Rows of the embedding that belong to no token are usual in this family.
N_VOCAB = n_tokens(tokenizers.QWEN_2) + 5

QWEN_2: Config = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": END_OF_TEXT,
    "eos_token_id": IM_END,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "model_type": "qwen2",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": N_VOCAB,
}
QWEN_2_GENERATION: Config = {
    "bos_token_id": END_OF_TEXT,
    "do_sample": True,
    "eos_token_id": [IM_END, END_OF_TEXT],
    "pad_token_id": END_OF_TEXT,
    "repetition_penalty": 1.1,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "transformers_version": "4.37.0",
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
QWEN_2_MOE: Config = {
    "architectures": ["Qwen2MoeForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": END_OF_TEXT,
    "decoder_sparse_step": 1,
    "eos_token_id": END_OF_TEXT,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": 8192,
    "max_window_layers": 2,
    "model_type": "qwen2_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 96,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.39.0.dev0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": N_VOCAB,
}
QWEN_3: Config = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": END_OF_TEXT,
    "eos_token_id": IM_END,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 40960,
    "max_window_layers": 2,
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": N_VOCAB,
}
QWEN_3_MOE: Config = {
    **QWEN_3,
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": False,
}
QWEN_35_TEXT: Config = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_output_gate": True,
    "dtype": "bfloat16",
    "eos_token_id": END_OF_TEXT,
    "full_attention_interval": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_types": [*["linear_attention"] * 3, "full_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 32,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "model_type": "qwen3_5_text",
    "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [3, 3, 2],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": n_tokens(tokenizers.QWEN_35) + 5,
}
QWEN_35: Config = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "image_token_id": n_tokens(tokenizers.QWEN_35),
    "model_type": "qwen3_5",
    "text_config": QWEN_35_TEXT,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.0.dev0",
    "video_token_id": n_tokens(tokenizers.QWEN_35) + 1,
    "vision_config": {
        "deepstack_visual_indexes": [],
        "depth": 1,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "model_type": "qwen3_5",
        "num_heads": 2,
        "num_position_embeddings": 16,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
    "vision_end_token_id": n_tokens(tokenizers.QWEN_35) + 3,
    "vision_start_token_id": n_tokens(tokenizers.QWEN_35) + 2,
}
QWEN_35_MOE: Config = {
    **QWEN_35,
    "architectures": ["Qwen3_5MoeForConditionalGeneration"],
    "model_type": "qwen3_5_moe",
    "text_config": {
        **{key: value for key, value in QWEN_35_TEXT.items() if key != "intermediate_size"},
        "model_type": "qwen3_5_moe_text",
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 48,
    },
    "vision_config": {**QWEN_35["vision_config"], "model_type": "qwen3_5_moe"},
}
# A text model that was tuned with transformers, which knows no layer that predicts further tokens.
QWEN_35_TUNED: Config = {
    **QWEN_35_TEXT,
    "architectures": ["Qwen3_5ForCausalLM"],
    "linear_num_value_heads": 2,
    "tie_word_embeddings": True,
    "transformers_version": "5.5.0",
}


def next_token_layer(mlp: Shapes) -> Shapes:
    """The tensors of the layer that predicts the token after the next, a full attention one."""
    attention = {
        "q_proj": (512, 64), "k_proj": (128, 64), "v_proj": (128, 64), "o_proj": (64, 256),
        "q_norm": (64,), "k_norm": (64,),
    }  # fmt: skip
    return {
        "mtp.fc.weight": (64, 128),
        "mtp.layers.0.input_layernorm.weight": (64,),
        **{f"mtp.layers.0.mlp.{name}": shape for name, shape in mlp.items()},
        "mtp.layers.0.post_attention_layernorm.weight": (64,),
        **{f"mtp.layers.0.self_attn.{name}.weight": shape for name, shape in attention.items()},
        "mtp.norm.weight": (64,),
        "mtp.pre_fc_norm_embedding.weight": (64,),
        "mtp.pre_fc_norm_hidden.weight": (64,),
    }


DENSE_MLP: Shapes = {
    "down_proj.weight": (64, 96),
    "gate_proj.weight": (96, 64),
    "up_proj.weight": (96, 64),
}
SHARED_EXPERT: Shapes = {
    "gate.weight": (4, 64),
    "shared_expert.down_proj.weight": (64, 48),
    "shared_expert.gate_proj.weight": (48, 64),
    "shared_expert.up_proj.weight": (48, 64),
    "shared_expert_gate.weight": (1, 64),
}
FUSED_MLP: Shapes = {
    "experts.down_proj": (4, 64, 32),
    "experts.gate_up_proj": (4, 64, 64),
    **SHARED_EXPERT,
}
SPLIT_MLP: Shapes = {
    **{f"experts.{i}.down_proj.weight": (64, 32) for i in range(4)},
    **{f"experts.{i}.gate_proj.weight": (32, 64) for i in range(4)},
    **{f"experts.{i}.up_proj.weight": (32, 64) for i in range(4)},
    **SHARED_EXPERT,
}
GATED_NORM = (r"linear_attn\.norm\.weight$", 1.0, 0.3)
IN_F32 = ((r"A_log$|linear_attn\.norm\.weight$", "F32"),)

RECIPES = (
    Recipe("qwen2", QWEN_2, tokenizers.QWEN_2, QWEN_2_GENERATION),
    Recipe("qwen2-yarn", {**QWEN_2, "rope_scaling": YARN}, tokenizers.QWEN_2),
    Recipe("qwen2-moe", QWEN_2_MOE, tokenizers.QWEN_2),
    Recipe("qwen3", QWEN_3, tokenizers.QWEN_2),
    Recipe("qwen3-moe", QWEN_3_MOE, tokenizers.QWEN_2),
    Recipe("qwen35", QWEN_35, tokenizers.QWEN_35, norm_center=0, rules=(GATED_NORM,),
           dtypes=IN_F32, extra=next_token_layer(DENSE_MLP)),
    # Qwen 3.5 was published with fused experts, except in the layer that predicts further tokens;
    # that of Qwen 3.6 has them fused too, and transformers saves them split.
    Recipe("qwen35-moe", QWEN_35_MOE, tokenizers.QWEN_35, norm_center=0, rules=(GATED_NORM,),
           dtypes=IN_F32, extra=next_token_layer(SPLIT_MLP), is_fused=True),
    Recipe("qwen35-moe-split", QWEN_35_MOE, tokenizers.QWEN_35, norm_center=0, rules=(GATED_NORM,),
           dtypes=IN_F32, extra=next_token_layer(FUSED_MLP)),
    # Without the option upstream fails: it insists on the layer that the config names.
    Recipe("qwen35-tuned", QWEN_35_TUNED, tokenizers.QWEN_35, norm_center=0,
           rules=(GATED_NORM,), options=("--no-mtp",)),
)  # fmt: skip
