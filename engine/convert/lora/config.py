"""Reading adapter_config.json: how strongly an adapter counts, and what Snug cannot do with it.

Which matrices it changes is told by its tensors; `target_modules` and its like are not read.
Source: peft/tuners/lora/config.py.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_json_object
from engine.convert.config import Config
from engine.convert.lora.patterns import Patterns, read_patterns
from engine.convert.lora.refusals import unsupported_adapter
from engine.errors import FormatError, UnsupportedTensor

NAME = "adapter_config.json"

# Fields that make it something else than B times A, added to a matrix.
_VARIANTS = {
    "use_qalora": "a QALoRA adapter",
    "kasa_config": "a KaSA adapter",
    "arrow_config": "an Arrow router",
    "use_bdlora": "a BD-LoRA adapter",
    "monteclora_config": "a MonteCLoRA adapter",
    "layer_replication": "an adapter that repeats layers",
    "lora_bias": "an adapter with biases of its own (lora_bias)",
    "target_parameters": "an adapter of fused experts (target_parameters)",
    "trainable_token_indices": "an adapter of single tokens (trainable_token_indices)",
}
# How B and A began where the base model was left as it is.
_PLAIN_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


class AdapterConfig(msgspec.Struct, frozen=True):
    """What counts of an adapter's config.

    `ranks` and `alphas` are those of single modules. `base` is the base
    model by the words of whoever trained it; `invocation` are the tokens from which on an aLoRA
    counts.
    """

    rank: int
    alpha: float
    is_rank_stabilized: bool
    is_dora: bool
    is_transposed: bool
    ranks: Patterns
    alphas: Patterns
    base: str
    invocation: tuple[int, ...]

    def rank_of(self, module: str) -> float:
        return self.ranks.find(module, self.rank)

    def strength_of(self, module: str, rank: int) -> float:
        """By how much B times A is multiplied, times `rank`: llama.cpp's alpha."""
        alpha = self.alphas.find(module, self.alpha)
        return alpha * math.sqrt(rank) if self.is_rank_stabilized else alpha


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter, and no whole model."""
    whole = ("model.safetensors", "model.safetensors.index.json")
    with contextlib.suppress(OSError):  # a folder that may not be looked into
        return (folder / NAME).is_file() and not any((folder / name).exists() for name in whole)
    return False


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read and check the config in `folder`.

    Raises NotFound, StorageError, CorruptFile, and UnsupportedTensor by name for what is no plain
    LoRA or DoRA.
    """
    values = read_json_object(folder / NAME)
    if "peft_type" not in values and "lora_parameters" in values:
        raise FormatError(
            f"{folder.name} holds an adapter of mlx-lm, which Snug cannot read.",
            hint="Fuse it into its base model with mlx_lm.fuse, then choose that model.",
        )
    config = Config(values, NAME)
    kind = config.text("peft_type")
    if kind != "LORA":
        raise unsupported_adapter(folder, f"an adapter of the kind {kind[:40]!a}")
    _refuse_variants(folder, values)
    return AdapterConfig(
        rank=config.count("r"),
        alpha=config.number("lora_alpha"),
        is_rank_stabilized=config.flag("use_rslora", False),
        is_dora=config.flag("use_dora", False),
        is_transposed=config.flag("fan_in_fan_out", False),
        ranks=read_patterns(config, "rank_pattern"),
        alphas=read_patterns(config, "alpha_pattern"),
        base=config.text("base_model_name_or_path"),
        invocation=tuple(config.counts("alora_invocation_tokens")),
    )


def _refuse_variants(folder: Path, values: Mapping[str, Any]) -> None:
    for field, what in _VARIANTS.items():
        if values.get(field):
            raise unsupported_adapter(folder, what)
    beginning = values.get("init_lora_weights")
    if not any(beginning is plain or beginning == plain for plain in _PLAIN_BEGINNINGS):
        raise UnsupportedTensor(
            f"{folder.name} began as {str(beginning)[:20]!a}, which changes the base model too.",
            hint="Save it again as a plain LoRA: PEFT's save_pretrained does that with"
            " path_initial_model_for_weight_conversion.",
        )
