"""MiniCPM, a Llama whose parts are scaled, and MiniCPM3, which has latent attention.

Source: llama.cpp conversion/minicpm.py; src/models/minicpm.cpp, minicpm3.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.architectures import llama
from engine.convert.config import Config, unsupported
from engine.convert.rope import longrope_tensors, rope_kind, rope_of
from engine.convert.rules import BUFFERS, Layer, embedding, gated_ffn, tensor, tied_copies
from engine.convert.transformer import Transformer, common_keys, read_transformer
from engine.gguf_values import Value

ROPES = ("default", "linear", "longrope")
# What llama.cpp's MiniCPM3 has built in.
SCALES = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}


def declare(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes)
    residual = config.number("scale_depth") / h.n_layers**0.5
    keys = common_keys(config, h, ropes=ROPES) | {
        "embedding_scale": Value.f32(config.number("scale_emb")),
        "residual_scale": Value.f32(residual),
        "logit_scale": Value.f32(h.n_embd / config.number("dim_model_base")),
    }
    return Declared(
        keys,
        rules=llama.rules(h, shapes),
        made=longrope_tensors(config, h.head_dim),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def declare_minicpm3(config: Config, shapes: Shapes) -> Declared:
    for field, built_in in SCALES.items():
        if config.number(field, built_in) != built_in:
            raise unsupported(f"another {field} than the other models of its kind")
    h = read_transformer(config, shapes)
    n_nope, n_rope = config.count("qk_nope_head_dim"), config.count("qk_rope_head_dim")
    q_rank, kv_rank = config.count("q_lora_rank"), config.count("kv_lora_rank")
    keys = common_keys(config, h, ropes=ROPES)
    keys.pop("attention.value_length", None)
    if rope_kind(rope_of(config)) == "longrope":
        del keys["rope.scaling.type"]  # its factors say it
    sizes = {
        "attention.q_lora_rank": q_rank,
        "attention.kv_lora_rank": kv_rank,
        "attention.key_length": n_nope + n_rope,
        "rope.dimension_count": n_rope,
        "vocab_size": h.n_vocab,
    }
    keys |= {key: Value.u32(size) for key, size in sizes.items()}
    n_value = config.count("v_head_dim", h.n_embd // h.n_heads)
    ranks = (q_rank, kv_rank)
    return Declared(
        keys,
        rules=_minicpm3_rules(h, ranks, n_nope, n_rope, n_value),
        made=longrope_tensors(config, n_rope),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def _minicpm3_rules(
    h: Transformer, ranks: tuple[int, int], n_nope: int, n_rope: int, n_value: int
) -> Iterator[TensorRule]:
    q_rank, kv_rank = ranks
    n_q, n_kv = h.n_heads * (n_nope + n_rope), h.n_heads * (n_nope + n_value)
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from layer.linear("attn_q_a", "self_attn.q_a_proj", q_rank, h.n_embd)
        yield from layer.norm("attn_q_a_norm", "self_attn.q_a_layernorm", q_rank)
        yield from layer.linear("attn_q_b", "self_attn.q_b_proj", n_q, q_rank)
        down = "self_attn.kv_a_proj_with_mqa"
        yield from layer.linear("attn_kv_a_mqa", down, kv_rank + n_rope, h.n_embd)
        yield from layer.norm("attn_kv_a_norm", "self_attn.kv_a_layernorm", kv_rank)
        yield from layer.linear("attn_kv_b", "self_attn.kv_b_proj", n_kv, kv_rank)
        yield from layer.linear("attn_output", "self_attn.o_proj", h.n_embd, h.n_heads * n_value)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        yield from gated_ffn(layer, h.n_embd, h.n_ff)


MINICPM = Architecture("minicpm", ("MiniCPMForCausalLM",), ("minicpm",), declare)
MINICPM3 = Architecture("minicpm3", ("MiniCPM3ForCausalLM",), ("minicpm3",), declare_minicpm3)
