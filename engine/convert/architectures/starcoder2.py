"""StarCoder2. Source: llama.cpp conversion/starcoder.py, src/models/starcoder2.cpp."""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config
from engine.convert.options import VocabularyOptions
from engine.convert.rope import require_full_rotation
from engine.convert.rules import BUFFERS, Layer, attention, embedding, tensor, tied_copies
from engine.convert.transformer import Transformer, common_keys, read_transformer, within_window

GELU = ("gelu_pytorch_tanh",)


def declare(config: Config, shapes: Shapes) -> Declared:
    require_full_rotation(config)
    h = read_transformer(config, shapes, tied=True, activations=GELU)
    keys = common_keys(config, h)
    if config.has("sliding_window"):
        keys |= within_window(config)
    return Declared(keys, _rules(h), ignored=(*BUFFERS, *tied_copies(h)))


def _rules(h: Transformer) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    yield tensor("output_norm.bias", "model.norm.bias", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        yield from layer.linear("ffn_up", "mlp.c_fc", h.n_ff, h.n_embd)
        yield from layer.linear("ffn_down", "mlp.c_proj", h.n_embd, h.n_ff)


VOCABULARY = VocabularyOptions(pre_names={"smollm": "starcoder"})
STARCODER2 = Architecture(
    "starcoder2", ("Starcoder2ForCausalLM",), ("starcoder2",), declare, VOCABULARY
)
