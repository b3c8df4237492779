"""The part of the recorder that needs torch and transformers: runs in an environment of its own.

    python -m tests.record.inside LLAMA_CPP_FOLDER SCRATCH CASE...

Leaves in SCRATCH/CASE/ the case without its `deviation`, and upstream's F32 file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.helpers.tiny_tokenizers import n_tokens
from tests.helpers.upstream import FLOAT_TYPES, Case, write_checkpoint, write_tensors
from tests.record import converter
from tests.record.recipe import Config, Recipe, prompt_of, stored
from tests.record.recipes import RECIPES

NOT_TEXT = re.compile(r"vision|visual|audio|multi_modal")


def main() -> int:
    llama_cpp, scratch, *names = (text for text in sys.argv[1:] if text != "--idle")
    converter.use_llama_cpp(Path(llama_cpp))
    failed = []
    for name in names:
        start = time.monotonic()
        try:
            recipe, folder = RECIPES[name], Path(scratch) / name
            remarks = record(recipe, folder)
            if "--idle" in sys.argv:
                remarks += idle_tensors(recipe, folder)
        except Exception:  # noqa: BLE001 - whatever one case has, the others are recorded
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"{name}: {time.monotonic() - start:.1f} s", *remarks, sep="\n    ", flush=True)
    if failed:
        print("not recorded:", *failed)
    return bool(failed)


def record(recipe: Recipe, scratch: Path) -> list[str]:
    """Record one case; returns what is worth a look."""
    from tests.record import reference

    saved = reference.hub_layout(recipe, scratch / "saved")
    shapes = {hub_name(recipe, name): shape for name, shape in saved.items()}
    tensors = {name: stored(recipe, name, shape) for name, shape in shapes.items()}
    tensors |= {name: stored(recipe, name, shape) for name, shape in recipe.extra.items()}
    n_vocab = n_tokens(recipe.tokenizer)
    prompt = prompt_of(n_vocab, recipe.n_prompt)
    case = Case(
        name=recipe.name,
        config=recipe.config,
        saved_config=saved_config(recipe, scratch / "saved"),
        generation_config=recipe.generation_config,
        tokenizer=recipe.tokenizer,
        tensors=tensors,
        prompt=tuple(prompt),
        positions=tuple(sorted({recipe.n_prompt // 4, recipe.n_prompt * 5 // 8, len(prompt) - 1})),
        logits_base64="",
        deviation=0.0,
        keys={},
        saved_config_keys={},
        file_types=(),
        written={},
    )
    folder = write_checkpoint(case, scratch / "Tiny")
    logits = reference.logits_of(recipe, folder, prompt)
    remarks = [f"largest logit {abs(logits).max():.2f}"]
    case = msgspec.structs.replace(
        case, logits_base64=base64.b64encode(logits[list(case.positions)].tobytes()).decode()
    )
    case = with_upstream(case, recipe.options, folder, scratch)
    if case.saved_config_keys:
        remarks.append(f"the saved config makes other keys: {case.saved_config_keys}")
    (scratch / "case.json").write_bytes(msgspec.json.encode(case))
    return remarks


def saved_config(recipe: Recipe, folder: Path) -> Config | None:
    """The config.json as transformers writes it, for weights in the type of the hub's."""
    if recipe.stand_in:
        return None
    config: Config = json.loads((folder / "config.json").read_text())
    said = recipe.config.get("torch_dtype", recipe.config.get("dtype"))
    config["dtype"] = said or config["dtype"]
    if "quantization_config" in recipe.config:
        config["quantization_config"] = recipe.config["quantization_config"]
    return config


def hub_name(recipe: Recipe, name: str) -> str:
    for pattern, replacement in recipe.renames:
        name = re.sub(pattern, replacement, name)
    return name


def with_upstream(case: Case, options: tuple[str, ...], folder: Path, scratch: Path) -> Case:
    """`case` with what upstream's converter writes for it."""
    pre = case.tokenizer.get("pre", "default")
    paths = {float_type: scratch / f"{float_type}.gguf" for float_type in FLOAT_TYPES}
    for float_type, path in paths.items():
        with quiet():
            converter.convert(folder, path, float_type, pre, options)
    keys, written = converter.read_keys(paths["f32"]), converter.read_tensors(paths)
    for path in paths.values():
        assert converter.read_keys(path) == keys
    return msgspec.structs.replace(
        case,
        keys=keys,
        saved_config_keys=other_keys(case, options, scratch / "as-saved", keys),
        file_types=tuple(converter.read_file_type(path) for path in paths.values()),
        written=written,
    )


def other_keys(
    case: Case, options: tuple[str, ...], scratch: Path, keys: dict[str, tuple[str, Any]]
) -> dict[str, tuple[str, Any] | None]:
    """The keys that upstream writes otherwise if the config is as transformers saves it."""
    if case.saved_config is None:
        return {}
    out, pre = scratch / "f32.gguf", case.tokenizer.get("pre", "default")
    folder = write_checkpoint(case, scratch / "Tiny", saved=True)
    with quiet():
        converter.convert(folder, out, "f32", pre, options)
    others = converter.read_keys(out)
    names = [*keys, *(name for name in others if name not in keys)]
    return {name: others.get(name) for name in names if keys.get(name) != others.get(name)}


def idle_tensors(recipe: Recipe, scratch: Path) -> list[str]:
    """Tensors that the logits hardly depend on: a test would not see what becomes of them."""
    from tests.record import reference

    case = msgspec.json.decode((scratch / "case.json").read_bytes(), type=Case)
    largest = float(np.abs(case.logits).max())
    idle = []
    folder = write_checkpoint(case, scratch / "idle")
    for name, tensor in case.tensors.items():
        if name in recipe.extra or NOT_TEXT.search(name) or tensor.dtype == "U8":
            continue
        other = msgspec.structs.replace(tensor, spread=-tensor.spread)
        write_tensors(folder / "model.safetensors", {**case.tensors, name: other})
        logits = reference.logits_of(recipe, folder, list(case.prompt))
        change = float(np.abs(logits[list(case.positions)] - case.logits).max())
        if change < 1e-2 * largest:
            idle.append(f"{name} changes logits by {change / largest:.0e} only")
    return idle


@contextlib.contextmanager
def quiet() -> Any:
    """Keep the progress bars of the converter to themselves."""
    with (
        open(os.devnull, "w") as null,  # noqa: PTH123
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
        np.errstate(all="ignore"),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
