"""The `general.*` keys of a converted checkpoint: what it is called, whose it is, how to sample it.

The keys are those of llama.cpp's converter (gguf-py/gguf/metadata.py), with these differences:

- A checkpoint in a download cache has its repository's name, not that of the revision's folder.
- What is empty or no text counts as absent, so that the next source is asked: upstream leaves the
  key out or stops.
- The texts of a model card are what stands there: upstream reads `no` as false, and stops at 1.0.
- A model card or a generation_config.json that is damaged counts as absent, as do a card with
  aliases and a number that does not fit its key: both only advise, and must not block a
  conversion.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from engine.checkpoint import Checkpoint, read_generation_config
from engine.convert.model_card import as_list, read_model_card
from engine.convert.model_name import ModelName, split_name, title
from engine.gguf_values import NUMBERS, TensorInfo, Value, ValueType

HUB_ADDRESS = re.compile(r"https?://huggingface\.co/([^/]+/[^/]+)$")

# The texts in llama.cpp's order, and where a model card may have each, best first.
CARD_TEXTS = {
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "description": ("description", "model_description"),
    "size_label": ("size_label", "model_size_label"),
    "license": ("license",),
    "license.name": ("license_name",),
    "license.link": ("license_link",),
    "source.url": ("url", "model_url"),
    "source.doi": ("doi", "model_doi"),
    "source.uuid": ("uuid", "model_uuid"),
    "source.repo_url": ("repo_url", "model_repo_url"),
}
CARD_SOURCES = {
    "base_model": ("base_model", "base_models", "base_model_sources"),
    "dataset": ("datasets", "dataset", "dataset_sources"),
}
CARD_LISTS = {"tags": ("tags", "pipeline_tag"), "languages": ("languages", "language")}
CARD_KEYS = [
    key for part in (CARD_TEXTS, CARD_SOURCES, CARD_LISTS) for keys in part.values() for key in keys
]
SOURCE_TEXTS = (
    *("name", "author", "version", "organization", "description"),
    *("url", "doi", "uuid", "repo_url"),
)
SAMPLING_NUMBERS = {
    "top_k": ValueType.INT32,
    "top_p": ValueType.FLOAT32,
    "min_p": ValueType.FLOAT32,
    "xtc_probability": ValueType.FLOAT32,
    "xtc_threshold": ValueType.FLOAT32,
    "temp": ValueType.FLOAT32,
    "penalty_last_n": ValueType.INT32,
    "penalty_repeat": ValueType.FLOAT32,
    "mirostat": ValueType.INT32,
    "mirostat_tau": ValueType.FLOAT32,
    "mirostat_eta": ValueType.FLOAT32,
}


def general_metadata(
    checkpoint: Checkpoint, architecture: str, tensors: Sequence[TensorInfo]
) -> dict[str, Value]:
    """The keys that come first in a GGUF; file type and quantization version come later."""
    card = read_model_card(checkpoint.folder, CARD_KEYS)
    n_params = sum(tensor.n_elements for tensor in tensors)
    names = [split_name(name, n_params) for name in _names(checkpoint)]
    texts = _described(card, names)
    texts["size_label"] = texts["size_label"] or size_label(tensors)
    metadata = {
        **_strings({"architecture": architecture, "type": "model"}),
        **_sampling(read_generation_config(checkpoint.folder)),
        **_strings(texts),
    }
    for key, theirs in CARD_SOURCES.items():
        told = [card[k] for k in theirs if k in card]
        metadata |= _sources(key, as_list(told[0]), n_params) if told else {}
    for key, lists in CARD_LISTS.items():
        if items := [text for k in lists for text in _texts(card.get(k))]:
            metadata[key] = Value.array(ValueType.STRING, list(map(_storable, items)))
    return {f"general.{key}": value for key, value in metadata.items()}


def size_label(tensors: Iterable[TensorInfo]) -> str:
    """The parameters in two digits or more, as in file names: 656K, 1.1B; with experts 8x7B."""
    n_shared, n_expert, n_experts = 0, 0, []
    for tensor in tensors:
        if "_exps." in tensor.name and len(tensor.shape) >= 3:
            n = tensor.shape[1 if ".bias" in tensor.name else 2]
            n_expert += tensor.n_elements // max(1, n)
            n_experts.append(n)
        else:
            n_shared += tensor.n_elements
    if not n_experts:
        return rounded_count(n_shared) if n_shared else ""
    return f"{sum(n_experts) // len(n_experts)}x{rounded_count(n_shared + n_expert)}"


def rounded_count(n_params: int) -> str:
    scales = ((1e12, 1e-12, "T"), (1e9, 1e-9, "B"), (1e6, 1e-6, "M"), (-1, 1e-3, "K"))
    scale, suffix = next((scale, suffix) for above, scale, suffix in scales if n_params > above)
    scaled = n_params * scale
    n_digits = len(str(round(scaled)).lstrip("0"))
    return f"{scaled:.{max(0, 2 - n_digits)}f}{suffix}"


def _names(checkpoint: Checkpoint) -> Iterator[str]:
    """What the model may be called, best first."""
    path = checkpoint.config.get("_name_or_path")
    if isinstance(path, str) and path.count("/") <= 1:  # otherwise a place on someone's disk
        yield path
    yield checkpoint.name


def _described(card: Mapping[str, Any], names: Sequence[ModelName]) -> dict[str, str]:
    """The texts by key: what the card says, then what the names tell, "" for the others."""
    texts = {key: _first(card.get(k) for k in theirs) for key, theirs in CARD_TEXTS.items()}
    texts["license"] = texts["license"] or ",".join(_texts(card.get("license")))
    for key in ("name", "organization"):
        texts[key] = texts[key] or title(_first(getattr(name, key) for name in names))
    for key in ("version", "finetune", "basename", "size_label"):
        texts[key] = texts[key] or _first(getattr(name, key) for name in names)
    return texts


def _sampling(generation_config: Mapping[str, Any]) -> dict[str, Value]:
    """How the model's makers would have it sampled."""
    told = {
        **generation_config,
        "temp": generation_config.get("temperature"),
        "penalty_repeat": generation_config.get(
            "penalty_repeat", generation_config.get("repetition_penalty")
        ),
    }
    metadata = _strings({"sampling.sequence": _first([told.get("sequence")])})
    for key, value_type in SAMPLING_NUMBERS.items():
        if _fits(value_type, told.get(key)):
            metadata[f"sampling.{key}"] = Value(value_type, told[key])
    return metadata


def _fits(value_type: ValueType, number: Any) -> bool:
    if type(number) not in (int, float):  # a bool is none
        return False
    try:
        NUMBERS[value_type].pack(number)
    except (struct.error, OverflowError):
        return False
    return True


def _sources(kind: str, entries: Sequence[Any], n_params: int) -> dict[str, Value]:
    """The models or data sets that this model comes from, each an id, an address or a dict."""
    metadata = {f"{kind}.count": Value.u32(len(entries))}
    for i, entry in enumerate(entries):
        told = _source(entry, n_params) if isinstance(entry, str) else entry
        if isinstance(told, dict):
            texts = {f"{kind}.{i}.{key}": _first([told.get(key)]) for key in SOURCE_TEXTS}
            metadata |= _strings(texts)
    return metadata


def _source(entry: str, n_params: int) -> dict[str, str]:
    """What the id `owner/name` or the address of a model or data set tells."""
    url, model_id = "", entry
    if entry.startswith(("http://", "https://", "ssh://")):
        on_hub = HUB_ADDRESS.match(entry)
        url, model_id = entry, on_hub[1] if on_hub else ""
    name = split_name(model_id, n_params)
    if not url and name.organization:
        url = f"https://huggingface.co/{name.organization}/{name.name}"
    return {
        "name": title(name.name),
        "organization": title(name.organization),
        "version": name.version,
        "repo_url": url,
    }


def _first(values: Iterable[Any]) -> str:
    """The first that is a text, and not empty."""
    return next((value for value in values if isinstance(value, str) and value), "")


def _texts(value: Any) -> list[str]:
    return [item for item in as_list(value) if isinstance(item, str)]


def _strings(texts: Mapping[str, str]) -> dict[str, Value]:
    return {key: Value.string(_storable(text)) for key, text in texts.items() if text}


def _storable(text: str) -> str:
    """`text` with `?` for lone surrogates, which a file cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
