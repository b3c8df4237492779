"""Records tests/engine/data/general.json: the `general.*` keys that llama.cpp's converter writes.

    python -m tests.record.general GGUF_PY

GGUF_PY is the folder gguf-py of llama.cpp's source, within that of llama-cpp-python; numpy and
pyyaml have to be there.
"""

from __future__ import annotations

import importlib
import json
import logging
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.record.general_cases import CARD, CARDS, GENERATIONS, NAMES, SIZES

OUT = Path(__file__).parents[1] / "engine" / "data" / "general.json"
STOPS = (AttributeError, TypeError, ValueError, OverflowError, struct.error)


def main() -> int:
    sys.path.insert(0, sys.argv[1])
    logging.disable(logging.CRITICAL)
    cases = {name: {**case, "keys": upstream(case)} for name, case in all_cases().items()}
    rows = (f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    OUT.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    print(f"{len(cases)} cases, upstream stops at", *(n for n, c in cases.items() if not c["keys"]))
    return 0


def all_cases() -> dict[str, dict[str, Any]]:
    """By name: the folder, its files, and tensors by name and shape."""
    cases: dict[str, dict[str, Any]] = {}
    for i, line in enumerate(NAMES.strip().splitlines()):
        count, _, name = line.partition(" ")
        for n_params in {int(float(count)), (int(135e6), int(70e9), 0)[i % 3]}:
            tensors = [("a", [n_params])] if n_params else []
            where = {"config": {"_name_or_path": name}} if "/" in name else {"folder": name}
            cases[f"name {name} {n_params}"] = {**where, "tensors": tensors}
    for name, card in CARDS.items():
        cases[f"card {name}"] = {"folder": "Some-8B-v1", "card": card}
    for name, generation in GENERATIONS.items():
        text = generation if isinstance(generation, str) else json.dumps(generation)
        cases[f"generation {name}"] = {"generation": text}
    for name, tensors in SIZES.items():
        cases[f"size {name}"] = {"tensors": tensors}
    for path in ("", "Own/Name-7B", "own-7B-chat", None, 5, ["a/b"], "a\\b", "/model"):
        case = {"folder": "Folder-8B-v2", "config": {"_name_or_path": path}, "card": CARD}
        cases[f"path {path}"] = case
    return cases


def upstream(case: dict[str, Any]) -> dict[str, Any] | None:
    """What llama.cpp's converter writes, in its order; None where it stops."""
    gguf: Any = importlib.import_module("gguf")
    writer = gguf.GGUFWriter(path=None, arch="llama")
    for name, shape in case.get("tensors", []):
        gguf_shape = tuple(reversed(shape))
        writer.add_tensor_info(name, gguf_shape, np.dtype("f4"), 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / case.get("folder", "model")
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(case.get("config", {})))
        if "card" in case:
            card = case["card"].encode("utf-8", "surrogateescape")
            (folder / "README.md").write_bytes(card)
        if "generation" in case:
            (folder / "generation_config.json").write_text(case["generation"])
        try:
            return written(gguf, writer, folder)
        except (*STOPS, gguf.metadata.yaml.YAMLError):
            return None


def written(gguf: Any, writer: Any, folder: Path) -> dict[str, Any]:
    """As ModelBase.prepare_metadata of llama.cpp's converter does it."""
    n_params, *parts = writer.get_total_parameter_count()
    metadata = gguf.Metadata.load(None, folder, None, n_params)
    if metadata.name is None:
        metadata.name = folder.name
    if metadata.size_label is None and n_params > 0:
        metadata.size_label = gguf.size_label(n_params, *parts)
    writer.add_type("model")
    metadata.set_gguf_meta_model(writer)
    keys = {}
    for key, entry in list(writer.kv_data[0].items())[2:]:  # after the architecture and the type
        writer._pack_val(entry.value, entry.type, add_vtype=True)
        typed = [entry.type.name, entry.value]
        keys[key.removeprefix("general.")] = typed[1] if typed[0] == "STRING" else typed
    return keys


if __name__ == "__main__":
    sys.exit(main())
