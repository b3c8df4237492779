"""A model repository of the hub as data: what was found, its files, and what one may download.

The files of a repository are grouped into `Variant`s: a GGUF with all its parts, or a whole
checkpoint. Pure: knows no network.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from engine.splits import SPLIT_NAME

Format = Literal["gguf", "safetensors"]


class Found(msgspec.Struct, frozen=True):
    """A search result; counts that the hub does not tell are 0, texts empty."""

    id: str
    downloads: int
    likes: int
    updated: str
    """A date, as "2026-11-21"."""
    license: str
    is_gated: bool
    formats: tuple[Format, ...]
    n_params: int
    tags: tuple[str, ...] = ()


class HubFile(msgspec.Struct, frozen=True):
    """A file of a repository; `digest` is "sha256:...", "git-sha1:..." or empty."""

    name: str
    size_bytes: int
    digest: str


class Variant(msgspec.Struct, frozen=True):
    """One thing to download: `label` is its type as the field writes it, such as Q4_K_M."""

    label: str
    format: Format
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def main_file(self) -> HubFile:
        """The file that stands for the variant: the GGUF's first part, a checkpoint's config."""
        return self.files[0]


class Repo(msgspec.Struct, frozen=True):
    """A repository at one `revision` (a commit)."""

    about: Found
    revision: str
    files: tuple[HubFile, ...]

    @property
    def id(self) -> str:
        return self.about.id

    def variants(self) -> tuple[Variant, ...]:
        """What can be downloaded, smallest first, a checkpoint last."""
        ggufs = sorted(_gguf_variants(self.files), key=lambda variant: variant.size_bytes)
        return (*ggufs, *_checkpoint_variants(self.files))


_TYPE = re.compile(
    r"(?<![a-z0-9])((?:ud-)?(?:iq[1-4]_[a-z]+|q[2-8]_(?:k(?:_(?:s|m|l|xl))?|[01])|tq[12]_0"
    r"|mxfp4(?:_moe)?|nvfp4|bf16|f(?:p)?16|f(?:p)?32))(?![a-z0-9])",
    re.IGNORECASE,
)
# What a checkpoint is made of besides its weights. Nothing that can run code (.py, .bin, .pt).
_CHECKPOINT_FILES = re.compile(
    r"(model.*|[^/]*-\d{5}-of-\d{5})\.safetensors|.*\.safetensors\.index\.json"
    r"|(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|quantize_config|quant_config|hf_quant_config|adapter_config|vocab)\.json"
    r"|tokenizer\.model|merges\.txt|chat_template\.(jinja|json)|adapter_model\.safetensors"
    r"|(README|LICENSE[^/]*|NOTICE[^/]*|USE_POLICY)(\.md|\.txt)?"
)


def type_in_name(name: str) -> str:
    """The quantization type that a file's name tells, in capitals; empty where it tells none.

    The last one counts, and the folder's where the file's own name has none.
    """
    path = PurePosixPath(name)
    for part in (path.name, *reversed(path.parts[:-1])):
        if found := _TYPE.findall(part):
            return str(found[-1]).upper().replace("FP", "F").replace("MXF4", "MXFP4")
    return ""


def _gguf_variants(files: Iterable[HubFile]) -> list[Variant]:
    parts: dict[str, list[HubFile]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file.name)
        if path.suffix.lower() != ".gguf" or _is_beside(path):
            continue
        split = SPLIT_NAME.fullmatch(path.name)
        stem = f"{split['stem']}-of-{split['count']}" if split else path.name
        parts[str(path.parent / stem)].append(file)
    groups = [tuple(sorted(group, key=lambda file: file.name)) for group in parts.values()]
    return [Variant(_label(group), "gguf", group) for group in groups if _is_complete(group)]


def _label(group: Sequence[HubFile]) -> str:
    stem = re.sub(r"[^\w .+-]", "?", PurePosixPath(group[0].name).stem)
    return type_in_name(group[0].name) or stem


def _is_beside(path: PurePosixPath) -> bool:
    """Whether a GGUF only goes with a language model: a projector, an importance matrix."""
    name = path.name.lower()
    return "mmproj" in name or "imatrix" in name


def _is_complete(group: Sequence[HubFile]) -> bool:
    split = SPLIT_NAME.fullmatch(PurePosixPath(group[0].name).name)
    return split is None or len(group) == int(split["count"])


def _checkpoint_variants(files: Iterable[HubFile]) -> list[Variant]:
    """The checkpoint at the top of the repository, if there is one."""
    wanted = [file for file in files if _CHECKPOINT_FILES.fullmatch(file.name)]
    names = {file.name for file in wanted}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        return []
    wanted.sort(key=lambda file: (file.name != "config.json", file.name))
    return [Variant("Checkpoint", "safetensors", tuple(wanted))]
