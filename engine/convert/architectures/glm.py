"""GLM-4 (0414), which has norms before and after attention and network, and GLM-4 (9B, Edge).

Source: llama.cpp conversion/glm.py, chatglm.py; src/models/glm4.cpp, chatglm.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.options import VocabularyOptions
from engine.convert.rope import n_rotated, rope_of
from engine.convert.rules import BUFFERS, Layer, attention, embedding, tensor, tied_copies
from engine.convert.transformer import Transformer, common_keys, read_transformer
from engine.gguf_values import Value

NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
POST_NORMS = {
    "post_attention_norm": "post_self_attn_layernorm",
    "post_ffw_norm": "post_mlp_layernorm",
}


def declare(config: Config, shapes: Shapes, *, norms: dict[str, str]) -> Declared:
    rope = rope_of(config)
    if rope.has("mrope_section"):
        raise unsupported("positions in pictures")
    h = read_transformer(config, shapes)
    n_rot = n_rotated(config, rope.number("partial_rotary_factor", 0.5), h.head_dim)
    keys = common_keys(config, h) | {"rope.dimension_count": Value.u32(n_rot)}
    return Declared(keys, _rules(h, norms), ignored=(*BUFFERS, *tied_copies(h)))


def _rules(h: Transformer, norms: dict[str, str]) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        for ours, theirs in norms.items():
            yield from layer.norm(ours, theirs, h.n_embd)
        yield from attention(layer, h)
        yield from layer.linear("ffn_up", "mlp.gate_up_proj", 2 * h.n_ff, h.n_embd)
        yield from layer.linear("ffn_down", "mlp.down_proj", h.n_embd, h.n_ff)


# As llama.cpp's converter has them.
ENDS = {"eos": "<|endoftext|>", "eot": "<|user|>", "unknown": "<|endoftext|>"}
GLM = Architecture(
    "chatglm",
    ("GlmForCausalLM",),
    ("glm",),
    partial(declare, norms=NORMS),
    VocabularyOptions(default_ids=ENDS),
)
GLM4 = Architecture(
    "glm4",
    ("Glm4ForCausalLM",),
    ("glm4",),
    partial(declare, norms=NORMS | POST_NORMS),
    VocabularyOptions(default_ids=ENDS | {"bos": "<|endoftext|>"}),
)
