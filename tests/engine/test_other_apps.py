"""Models of other apps are found where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.other_apps import Named, Place, ollama_models, places

DIGEST = "ab" * 32


def write_manifest(folder: Path, name: str, content: object) -> None:
    path = folder / "manifests" / "registry.ollama.ai" / "library" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_only_folders_that_are_there_are_listed(tmp_path: Path) -> None:
    assert places({}, tmp_path) == []
    hub = tmp_path / ".cache" / "huggingface" / "hub"
    studio = tmp_path / ".lmstudio" / "models"
    ollama = tmp_path / "elsewhere"
    for folder in (hub, studio, ollama):
        folder.mkdir(parents=True)
    assert places({"OLLAMA_MODELS": str(ollama)}, tmp_path) == [
        Place("Hugging Face", str(hub)),
        Place("LM Studio", str(studio)),
        Place("Ollama", str(ollama)),
    ]
    assert places({"HF_HUB_CACHE": str(studio)}, tmp_path)[0].folder == str(studio)


def test_ollamas_blobs_have_the_names_that_people_know(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / f"sha256-{DIGEST}"
    blob.parent.mkdir()
    blob.write_bytes(b"GGUF")
    model = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"}
    write_manifest(tmp_path, "llama3.2/1b", {"layers": [{"mediaType": "text", "digest": 5}, model]})
    assert list(ollama_models(tmp_path)) == [Named(str(blob), "llama3.2:1b")]


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        [],
        {},
        {"layers": 5},
        {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 5}]},
        {
            "layers": [
                {
                    "mediaType": "application/vnd.ollama.image.model",
                    "digest": "sha256:../../../etc/passwd",
                }
            ]
        },
        {
            "layers": [
                {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "0" * 64}
            ]
        },
    ],
)
def test_a_manifest_that_makes_no_sense_is_passed_over(tmp_path: Path, content: object) -> None:
    write_manifest(tmp_path, "evil/latest", content)
    assert list(ollama_models(tmp_path)) == []
