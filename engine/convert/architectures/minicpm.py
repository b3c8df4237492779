"""MiniCPM: a Llama whose parts are scaled. Source: llama.cpp conversion/minicpm.py."""

from __future__ import annotations

from engine.convert.architecture import Architecture, Declared, Shapes
from engine.convert.architectures import llama
from engine.convert.config import Config
from engine.convert.rope import longrope_tensors
from engine.convert.rules import BUFFERS, tied_copies
from engine.convert.transformer import common_keys, read_transformer
from engine.gguf_values import Value


def declare(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes)
    residual = config.number("scale_depth") / h.n_layers**0.5
    keys = common_keys(config, h, ropes=("default", "linear", "longrope")) | {
        "embedding_scale": Value.f32(config.number("scale_emb")),
        "residual_scale": Value.f32(residual),
        "logit_scale": Value.f32(h.n_embd / config.number("dim_model_base")),
    }
    return Declared(
        keys,
        rules=llama.rules(h),
        made=longrope_tensors(config, h.head_dim),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


MINICPM = Architecture("minicpm", ("MiniCPMForCausalLM",), ("minicpm",), declare)
