"""The base model of an adapter: where it may lie, and what a GGUF adapter needs of it.

Its config is enough; its tensors only tell whether what an adapter holds whole is as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint import Checkpoint, read_config
from engine.convert.architecture import TensorRule
from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from engine.convert.lora.adapter import Adapter, LowRank
from engine.convert.lora.config import read_adapter_config
from engine.convert.lora.merge import are_same
from engine.convert.lora.refusals import no_gguf_adapter
from engine.convert.multimodal import text_config, text_weights
from engine.convert.transformer import EMBEDDING, OUTPUT
from engine.convert.weights import StoredWeight
from engine.errors import NotFound
from engine.other_apps import Place
from engine.walk import is_file

_NAME = re.compile(r"[\w-][\w.-]{0,199}")


class Base(NamedTuple):
    """The architecture with its rules, and an adapter's pairs under the names that they have."""

    architecture: str
    rules: Iterator[TensorRule]
    low_rank: Mapping[str, LowRank]


def find_base(adapter: Path, models_folder: Path, places: Sequence[Place]) -> Path:
    """The folder of the base model that `adapter` names, beside it or among the models here.

    A path in the config is one of another computer: only its last part counts. Raises NotFound, and
    what read_adapter_config raises.
    """
    named = read_adapter_config(adapter).base
    owner, name = ("", *re.split(r"[/\\]", named.rstrip("/\\")))[-2:]
    candidates: list[Path] = []
    if _NAME.fullmatch(name):
        candidates.append(adapter.absolute().parent / name)
        if _NAME.fullmatch(owner) and named == f"{owner}/{name}":
            candidates.append(models_folder / owner / name)
            for place in places:
                folder = Path(place.folder) / f"models--{owner}--{name}" / "snapshots"
                candidates += sorted(folder.glob("*")) if place.app == "Hugging Face" else ()
    found = next((folder for folder in candidates if is_file(folder / "config.json")), None)
    if found is None:
        raise NotFound(
            f"The base model of {adapter.name} is not here: {named[:80]!a}.",
            hint="Say where it is with --base FOLDER; its config.json is enough.",
        )
    return found


def read_base(folder: Path, adapter: Adapter) -> Base:
    """What the model in `folder` says of the pairs of `adapter`.

    Raises what read_config and Checkpoint.open raise, UnsupportedArchitecture, and
    UnsupportedTensor for what a GGUF adapter cannot hold.
    """
    config = read_config(folder)
    architecture = find_architecture(config)
    has_tensors = any(folder.glob("*.safetensors"))
    checkpoint = Checkpoint.open(folder) if has_tensors else Checkpoint(folder, config, {})
    try:
        stored = text_weights(config, checkpoint.tensors)
        for name, whole in text_weights(config, adapter.whole).items():
            tensor = stored.get(name) or (stored.get(EMBEDDING) if name == OUTPUT else None)
            if tensor is None or not are_same(whole, StoredWeight(checkpoint, tensor)):
                raise no_gguf_adapter(adapter, name, "is replaced as a whole")
    finally:
        checkpoint.close()
    low_rank = text_weights(config, adapter.low_rank)
    for name, low in low_rank.items():
        if low.magnitude is not None:
            raise no_gguf_adapter(adapter, name, "is changed by DoRA")
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    declared = architecture.declare(Config(text_config(config)), shapes)
    return Base(architecture.name, declared.rules, low_rank)
