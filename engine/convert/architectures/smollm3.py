"""SmolLM3: a Llama that rotates nothing in every fourth layer.

Source: llama.cpp conversion/llama.py, src/models/smollm3.cpp.
"""

from __future__ import annotations

from engine.convert.architecture import Architecture, Declared, Shapes
from engine.convert.architectures import llama
from engine.convert.config import Config, unsupported
from engine.convert.transformer import MAX_LAYERS

NO_ROPE_STEP = 4


def declare(config: Config, shapes: Shapes) -> Declared:
    n_layers = config.count("num_hidden_layers", largest=MAX_LAYERS)
    expected = [int((i + 1) % NO_ROPE_STEP != 0) for i in range(n_layers)]
    step = config.count("no_rope_layer_interval", NO_ROPE_STEP)
    told = config.counts("no_rope_layers", n_layers)
    if told not in ([], expected) or (not told and step != NO_ROPE_STEP):
        raise unsupported("rotation in other layers than usual")
    if config.flag("use_sliding_window", False):
        raise unsupported("sliding windows")
    return llama.declare(config, shapes, rope_theta=2_000_000.0)


SMOLLM3 = Architecture("smollm3", ("SmolLM3ForCausalLM",), ("smollm3",), declare)
