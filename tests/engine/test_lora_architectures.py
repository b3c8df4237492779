"""Every matrix of every architecture: an adapter beside the model counts as the merged one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint import Checkpoint
from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from engine.convert.job import Convert
from engine.convert.lora.choice import Lora
from engine.convert.lora.job import ConvertAdapter
from engine.convert.lora.pairs import UNTOUCHED
from engine.convert.multimodal import text_config, text_weights
from engine.jobs import finish
from tests.helpers.adapters import even_numbers, write_adapter
from tests.helpers.checkpoints import Tensors
from tests.helpers.llama_logits import exact_logits
from tests.helpers.upstream import case_names, load_case, write_checkpoint

RANK = 3
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2}


def adaptable(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The matrices that a GGUF adapter may change, by the names of linear layers, with shapes."""
    checkpoint = Checkpoint.open(folder)
    config = checkpoint.config
    named = text_weights(config, {name: (name, t.shape) for name, t in checkpoint.tensors.items()})
    shapes = {name: shape for name, (_, shape) in named.items()}
    architecture = find_architecture(config)
    declared = architecture.declare(Config(text_config(config)), shapes)
    untouched = UNTOUCHED.get(architecture.name)
    for rule in declared.rules:
        is_told = rule.change or any(part.is_transposed for part in rule.parts)
        if is_told or rule.name.endswith(("_norm.weight", "token_embd.weight")):
            continue
        if len(rule.shape) < 2 or (untouched and untouched.fullmatch(rule.name)):
            continue
        for part in rule.parts:
            name = next((name for name in part.names if name in shapes), "")
            if name.endswith(".weight") and len(part.shape) == 2:
                yield named[name]


def adapter_of(folder: Path) -> Tensors:
    tensors: Tensors = {}
    for name, (n_out, n_in) in adaptable(folder):
        module = f"base_model.model.{name.removesuffix('.weight')}"
        spread = 1 / np.sqrt(n_in)
        for kind, shape in (("lora_A", (RANK, n_in)), ("lora_B", (n_out, RANK))):
            full = f"{module}.{kind}.weight"
            tensors[full] = even_numbers(full, shape, spread if kind == "lora_A" else 0.5)
    return tensors


@pytest.mark.parametrize("name", case_names())
def test_an_adapter_of_all_matrices(tmp_path: Path, name: str) -> None:
    case = load_case(name)
    base = write_checkpoint(case, tmp_path / "base")
    tensors = adapter_of(base)
    assert len(tensors) >= 8
    adapter = write_adapter(tmp_path / "adapter", CONFIG, tensors)
    alone, merged, beside = (tmp_path / f"{kind}.gguf" for kind in ("alone", "merged", "beside"))
    finish(Convert(str(base), str(alone), "f32").run())
    finish(Convert(str(base), str(merged), "f32", loras=(Lora(str(adapter)),)).run())
    finish(ConvertAdapter(str(adapter), str(base), str(beside)).run())
    expected = exact_logits(merged, case.prompt)
    largest = float(np.abs(expected).max())
    effect = float(np.abs(exact_logits(alone, case.prompt) - expected).max())
    deviation = float(np.abs(exact_logits(alone, case.prompt, beside) - expected).max())
    assert effect > 0.03 * largest
    assert deviation < 1e-3 * effect
