"""Models that other apps have on this disk: Hugging Face's cache, LM Studio, Ollama.

They are listed where they lie and never changed: they belong to the other app.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

App = Literal["Hugging Face", "LM Studio", "Ollama"]
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
MAX_MANIFEST_BYTES = 1 << 20
MAX_MANIFESTS = 2000


class Place(msgspec.Struct, frozen=True):
    """A folder in which another app keeps models."""

    app: App
    folder: str


class Named(msgspec.Struct, frozen=True):
    """A model file whose name says nothing, with the name that its app gives it."""

    path: str
    name: str


def places(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> list[Place]:
    """The folders of other apps that are there, by the customs and variables of each app.

    None with SNUG_HOME set: a portable copy keeps to itself.
    """
    if environment.get("SNUG_HOME"):
        return []
    home = home or Path.home()
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    hf_home = Path(environment.get("HF_HOME") or cache / "huggingface")
    found = [
        Place("Hugging Face", environment.get("HF_HUB_CACHE") or str(hf_home / "hub")),
        Place("LM Studio", str(home / ".lmstudio" / "models")),
        Place("LM Studio", str(cache / "lm-studio" / "models")),
        Place("Ollama", environment.get("OLLAMA_MODELS") or str(home / ".ollama" / "models")),
        Place("Ollama", "/usr/share/ollama/.ollama/models"),
    ]
    return [place for place in found if _is_dir(Path(place.folder))]


def ollama_models(folder: Path) -> Iterator[Named]:
    """The models of an Ollama folder: manifests name blobs, which are plain GGUF files."""
    root = folder / "manifests"
    for n, manifest in enumerate(sorted(_files(root))):
        if n == MAX_MANIFESTS:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if manifest.stat().st_size > MAX_MANIFEST_BYTES:
                continue
            layers = json.loads(manifest.read_bytes())["layers"]
            digests = [x["digest"] for x in layers if x["mediaType"] == _OLLAMA_MODEL]
            digest = _DIGEST.fullmatch(digests[0]) if digests else None
            blob = folder / "blobs" / f"sha256-{digest[1]}" if digest else None
            if blob and blob.is_file():
                *_, model, tag = manifest.relative_to(root).parts
                yield Named(str(blob), f"{model}:{tag}")


def _is_dir(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # another user's home
        return folder.is_dir()
    return False


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)
