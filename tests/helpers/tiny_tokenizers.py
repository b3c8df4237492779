"""Tiny tokenizers of every kind that real checkpoints have, written from a small description.

All know the merges of `tests.helpers.checkpoints`; what differs is what stands around them: special
tokens and where their ids lie, how text is split, which files there are. Nothing is trained.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.checkpoints import SPECIAL, vocabulary

SPACE = "\u2581"  # SentencePiece's visible space
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # SentencePiece's types of pieces
LETTERS = [SPACE, *map(chr, range(33, 127))]

Spec = Mapping[str, Any]


def write_tokenizer(folder: Path, spec: Spec) -> None:
    """Write the tokenizer files that `spec` describes into `folder`.

    `kind` is "byte-level" or "sentencepiece"; `added` the added tokens [id, text, is special];
    `json` what the tokenizer.json holds beside vocabulary and merges; `config` the
    tokenizer_config.json; `files` further files by name, text or JSON. Of SentencePiece, `front`
    are the pieces [text, type] before the bytes, `model` what the tokenizer.model says, and either
    of `json` and `model` may be absent.
    """
    if spec["kind"] == "byte-level":
        _write(folder / "tokenizer.json", _byte_level(spec))
    else:
        if "json" in spec:
            _write(folder / "tokenizer.json", _metaspace(spec))
        if "model" in spec:
            (folder / "tokenizer.model").write_bytes(_model(spec))
    _write(folder / "tokenizer_config.json", spec["config"])
    for name, content in spec.get("files", {}).items():
        _write(folder / name, content)


def n_tokens(spec: Spec) -> int:
    """How many tokens the tokenizer has, the added ones included."""
    if spec["kind"] == "byte-level":
        return len(_byte_level_texts(spec)[0])
    last: int = max([len(_pieces(spec)) - 1, *(i for i, _, _ in spec["added"])])
    return last + 1


def _byte_level(spec: Spec) -> dict[str, Any]:
    texts, merges = _byte_level_texts(spec)
    own = {} if spec.get("in_vocabulary") else {text for _, text, _ in spec["added"]}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": spec["json"].get("ignore_merges", False),
        "vocab": {text: i for i, text in enumerate(texts) if text not in own},
        "merges": [" ".join(pair) for pair in merges],
    }
    return _tokenizer_json(spec, model)


def _byte_level_texts(spec: Spec) -> tuple[list[str], list[tuple[str, str]]]:
    """Added tokens at their ids; the bytes and what the merges make take the ids that are left."""
    tokens, merges = vocabulary()
    trained = iter(tokens[len(SPECIAL) :])
    added = {i: text for i, text, _ in spec["added"]}
    n = len(tokens) - len(SPECIAL) + len(added)
    return [added[i] if i in added else next(trained) for i in range(n)], merges


def _metaspace(spec: Spec) -> dict[str, Any]:
    """The tokenizer.json of a SentencePiece BPE: ranked merges, and bytes for what is unknown."""
    pieces = _pieces(spec)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": next(text for text, _, kind in pieces if kind == UNKNOWN),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {text: i for i, (text, _, _) in enumerate(pieces)},
        "merges": [[left.replace("Ġ", SPACE), right] for left, right in vocabulary()[1]],
    }
    return _tokenizer_json(spec, model)


def _tokenizer_json(spec: Spec, model: dict[str, Any]) -> dict[str, Any]:
    parts = spec["json"]
    added = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": special}
        for i, text, special in spec["added"]
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        **{key: parts.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor")},
        "decoder": parts["decoder"],
        "model": model,
    }


def _pieces(spec: Spec) -> list[tuple[str, float, int]]:
    """Texts, scores and types, in the order of a trained model: bytes, merges, single letters."""
    pieces = [(text, 0.0, kind) for text, kind in spec["front"]]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    merged = [left.replace("Ġ", SPACE) + right for left, right in vocabulary()[1]]
    return pieces + [(text, -float(i), 1) for i, text in enumerate([*merged, *LETTERS])]


def _model(spec: Spec) -> bytes:
    """A tokenizer.model. Field numbers: sentencepiece_model.proto."""
    said = spec["model"]
    pieces = b"".join(
        _field(1, _field(1, text) + _field(2, score) + (_field(3, kind) if kind != 1 else b""))
        for text, score, kind in _pieces(spec)
    )
    ids = zip((40, 41, 42, 43), said["ids"], strict=True)  # of unknown, bos, eos, padding
    trainer = _field(3, 2) + _field(4, len(_pieces(spec))) + _field(35, 1)  # BPE, size, bytes
    trainer += b"".join(_field(number, value) for number, value in ids)
    normalizer = _field(1, "identity") + _field(3, said["dummy_prefix"]) + _field(4, 0)
    return pieces + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, value: str | bytes | float) -> bytes:
    """A protobuf field: a text or message, a float, or a whole number."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    groups: list[int] = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _write(path: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
