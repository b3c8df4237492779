"""Damaged and hostile checkpoints: a sentence, no traceback, no file left."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import read_safetensors_header
from engine.convert.job import Convert
from engine.errors import EngineError
from engine.jobs import finish
from engine.source import open_source
from tests.helpers.checkpoints import write_json, write_tiny_checkpoint


def refusal(folder: Path) -> EngineError:
    """What converting `folder` ends in; fails the test if it does not, or leaves a file."""
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    with pytest.raises(EngineError) as caught:
        finish(Convert(str(folder), str(out / "a.gguf")).run())
    assert not list(out.iterdir())
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 300
    return caught.value


def test_odd_configs(shared: Path, tmp_path: Path) -> None:
    """Each config of the collection alone, and laid over that of a tiny Llama."""
    folder = write_tiny_checkpoint(tmp_path / "Tiny")
    base = json.loads((folder / "config.json").read_text())
    configs = sorted((shared / "fixtures" / "configs").iterdir())
    assert len(configs) > 70
    for config in configs:
        for file in config.iterdir():
            shutil.copy(file, folder / file.name)
        refusal(folder)
        if config.name in ("model_config_bad_json", "model_config_root_array"):
            continue
        odd = json.loads((folder / "config.json").read_text())
        odd.pop("architectures", None)
        write_json(folder / "config.json", {**base, **odd})
        try:
            open_source(folder).close()
            told = "fine."
        except EngineError as error:
            told = str(error)
        assert told.endswith(".")


WRONG: tuple[Any, ...] = ("8", -1, 0, 1e39, float("nan"), True, [], {}, 1 << 40, [1] * 9, {"a": {}})
FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "max_position_embeddings",
    "hidden_act", "tie_word_embeddings", "rope_scaling", "rope_parameters", "sliding_window",
    "num_local_experts", "partial_rotary_factor", "architectures", "model_type", "text_config",
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_wrong_type_or_size_is_named(tmp_path: Path, field: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "Tiny", architectures=["MistralForCausalLM"])
    config = json.loads((folder / "config.json").read_text())
    told = []
    for value in WRONG:
        write_json(folder / "config.json", {**config, field: value})
        try:
            open_source(folder).close()
        except EngineError as error:
            told.append(str(error))
    assert all(sentence.endswith(".") for sentence in told)
    if field not in ("architectures", "model_type", "text_config"):
        assert any(field in sentence for sentence in told)


def test_a_thousand_damaged_headers(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "Tiny", hidden=64, ffn=64, n_layers=1)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    n_header = struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8 : 8 + n_header])
    dice = random.Random(5)
    told = []
    for _ in range(1000):
        file.write_bytes(damaged(whole, header, n_header, dice))
        try:
            read_safetensors_header(file)
            open_source(folder).close()
        except EngineError as error:
            told.append(str(error))
    assert all(sentence.endswith(".") for sentence in told)
    assert len(told) > 900


def damaged(whole: bytes, header: dict[str, Any], n_header: int, dice: random.Random) -> bytes:
    """A file whose header is wrong in one of many ways."""
    data = whole[8 + n_header :]
    kind = dice.randrange(6)
    if kind == 0:  # a length that lies
        return struct.pack("<Q", dice.choice([0, 1, n_header + 1, 1 << 40, 1 << 63])) + whole[8:]
    if kind == 1:  # a byte that flipped
        position = 8 + dice.randrange(n_header)
        return (
            whole[:position]
            + bytes([whole[position] ^ (1 << dice.randrange(8))])
            + whole[position + 1 :]
        )
    if kind == 2:  # cut off
        return whole[: dice.randrange(len(whole))]
    changed = json.loads(json.dumps(header))
    entry = changed[dice.choice([name for name in changed if name != "__metadata__"])]
    if kind == 3:
        key = dice.choice(["dtype", "shape", "data_offsets"])
        entry[key] = dice.choice([None, [], "F16", [0, 1], [-4, 4], [1 << 70, 2], 3.5, {"a": 1}])
    elif kind == 4:
        begin, end = entry["data_offsets"]
        move = dice.choice([-2, 2, 64, -64, 1 << 33])
        entry["data_offsets"] = [begin + move, end + move]
    else:
        entry["shape"] = [n + dice.choice([-1, 1, 1 << 31]) for n in entry["shape"]]
    text = json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + data
