"""A tiny model in transformers: which tensors its checkpoint holds, and its logits."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import safe_open

from tests.record.recipe import Config, Recipe

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)


def hub_layout(recipe: Recipe, folder: Path) -> dict[str, tuple[int, ...]]:
    """The tensors that transformers stores for a model of this config, in their order.

    `folder` is left with the config.json as transformers writes it.
    """
    config = {key: v for key, v in _runnable(recipe).items() if key != "quantization_config"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    read = transformers.AutoConfig.from_pretrained(folder, attn_implementation="eager")
    _model_class(recipe)(read).save_pretrained(folder)
    with safe_open(folder / "model.safetensors", framework="np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if recipe.is_packed:
        shapes = dict(_packed(shapes))
    if recipe.is_fused:
        shapes = dict(_fused(shapes))
    return {name: shapes[name] for name in _in_order(shapes)}


def logits_of(recipe: Recipe, folder: Path, prompt: list[int]) -> NDArray[np.float32]:
    """The logits after each token of `prompt`, computed in float32: [n_prompt, n_vocab].

    Fails if the checkpoint in `folder` holds too little or too much.
    """
    if recipe.stand_in:
        twin = folder.with_name(f"{folder.name}-stand-in")
        twin.mkdir(exist_ok=True)
        (twin / "config.json").write_text(json.dumps(recipe.stand_in))
        shutil.copy(folder / "model.safetensors", twin)
        folder = twin
    model, said = _model_class(recipe).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    strange = {name for name in said["unexpected_keys"] if name not in recipe.extra}
    assert not said["missing_keys"], said["missing_keys"]
    assert not said["mismatched_keys"], said["mismatched_keys"]
    assert not strange, strange
    model.eval().float()
    with torch.no_grad():
        out = model(input_ids=torch.tensor([prompt]), use_cache=False)
    logits: NDArray[np.float32] = out.logits[0].float().numpy()
    return logits


def _packed(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Experts [n_experts, n_in, n_out] as the blocks and scales of their columns."""
    for name, shape in shapes.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            n_experts, n_in, n_out = shape
            yield f"{name}_blocks", (n_experts, n_out, n_in // 32, 16)
            yield f"{name}_scales", (n_experts, n_out, n_in // 32)
        else:
            yield name, shape


def _fused(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Experts of their own, with gate and up apart, as one tensor of all, gate on top of up."""
    for name, shape in shapes.items():
        first, found, last = name.partition(".experts.")
        number, _, part = last.partition(".")
        if not found:
            yield name, shape
        elif number == "0" and part != "up_proj.weight":
            n_experts = sum(n.startswith(f"{first}.experts.") and n.endswith(part) for n in shapes)
            n_out, n_in = shape
            if part == "down_proj.weight":
                yield f"{first}.experts.down_proj", (n_experts, n_out, n_in)
            else:
                yield f"{first}.experts.gate_up_proj", (n_experts, 2 * n_out, n_in)


def _runnable(recipe: Recipe) -> Config:
    return recipe.stand_in or recipe.config


def _model_class(recipe: Recipe) -> Any:
    return getattr(transformers, _runnable(recipe)["architectures"][0])


def _in_order(names: dict[str, tuple[int, ...]]) -> list[str]:
    """Layer by layer, numbers as numbers."""

    def key(name: str) -> list[tuple[bool, int, str]]:
        parts = name.split(".")
        return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]

    return sorted(names, key=key)
