"""SmolLM3: a Llama that rotates nothing in every fourth layer.

Source: llama.cpp conversion/llama.py, src/models/smollm3.cpp.
"""

from __future__ import annotations

from engine.convert.architecture import Architecture, Declared, Shapes
from engine.convert.architectures import llama
from engine.convert.config import Config, unsupported

NO_ROPE_STEP = 4


def declare(config: Config, shapes: Shapes) -> Declared:
    n_layers = config.count("num_hidden_layers")
    expected = [int((i + 1) % NO_ROPE_STEP != 0) for i in range(n_layers)]
    if config.counts("no_rope_layers", n_layers) not in ([], expected):
        raise unsupported("rotation in other layers than usual")
    if config.flag("use_sliding_window", False):
        raise unsupported("sliding windows")
    return llama.declare(config, shapes)


SMOLLM3 = Architecture("smollm3", ("SmolLM3ForCausalLM",), ("smollm3",), declare)
