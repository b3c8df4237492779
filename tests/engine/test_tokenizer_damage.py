"""Damaged and hostile tokenizer files: a sentence, never a traceback, and nothing that hurts.

What is read all the same must not hurt llama.cpp either, which ends the process on many a fault: a
child process loads every such vocabulary and tokenizes with it.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.convert.tokenizer import read_vocabulary
from engine.errors import CorruptFile, EngineError
from engine.gguf import write_gguf
from engine.gguf_values import Value
from tests.helpers import trained
from tests.helpers.checkpoints import CHATML, vocabulary, write_json, write_tokenizer
from tests.helpers.texts import Seeded

N_DAMAGES = 1000
N_VOCAB = 600

ODD: tuple[Any, ...] = (
    None, 7, -1, 0, 0.5, 1e308, 1 << 40, 1 << 70, True, "", "x", "▁", "\0", "<0x41>", "[PAD5]",
    "\u200d" * 300, [], [1], ["a", "b"], [[]], {}, {"type": "X"}, {"content": "x", "id": 3},
    {"type": "Sequence", "pretokenizers": [], "normalizers": []}, {"type": "ByteLevel"},
    {"Regex": "(((("}, {"String": " "},
)  # fmt: skip

# Loads each vocabulary that it is told and splits a text, then says that it is still there.
CHILD = """
import sys
from pathlib import Path
from tests.helpers.vocabularies import LlamaTokenizer
for line in sys.stdin:
    tokenizer = LlamaTokenizer(Path(line.strip()))
    tokenizer.encode("Hello  wörld\\n\\n1234 ▁ <tool>\\u200d東京 \\x00", special=True)
    tokenizer.close()
    print("fine", flush=True)
"""


def damaged_json(random: Seeded, content: Any) -> str:
    """`content` with a few of its values replaced, removed, doubled or made endless."""
    content = copy.deepcopy(content)
    for _ in range(1 + random.below(3)):
        if not content:
            break
        place, key = _somewhere(random, content)
        change = random.below(8)
        if change == 0:
            del place[key]
        elif change == 1 and isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        elif change == 2 and isinstance(place, dict):
            place[f"{key}x"] = place[key]
        else:
            place[key] = copy.deepcopy(ODD[random.below(len(ODD))])
    text = json.dumps(content)
    return text[: random.below(len(text))] if random.below(20) == 0 else text


def _somewhere(random: Seeded, place: Any) -> tuple[Any, Any]:
    """A list or object in `place`, and a key of it; small ones are as likely as the vocabulary."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[random.below(len(keys))]
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or random.below(4) == 0:
            return place, key
        place = inner


def damaged_bytes(random: Seeded, content: bytes) -> bytes:
    broken = bytearray(content)
    for _ in range(1 + random.below(6)):
        at = random.below(min(len(broken), 400) if random.below(2) else len(broken))
        change = random.below(4)
        if change == 0:
            del broken[at : at + 1 + random.below(9)]
        elif change == 1:
            broken[at:at] = bytes(random.below(256) for _ in range(1 + random.below(5)))
        else:
            broken[at] = random.below(256)
        if not broken:
            return bytes(broken)
    return bytes(broken[: random.below(len(broken))] if random.below(20) == 0 else broken)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a whole tokenizer of every kind."""
    root = tmp_path_factory.mktemp("whole")
    for name in ("byte-level", "metaspace", "unigram", "sentencepiece", "table"):
        (root / name).mkdir()
    write_tokenizer(root / "byte-level", *vocabulary(), CHATML)
    processor = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}],
                 "pair": []}  # fmt: skip
    for name, tokenizer in (
        ("metaspace", trained.train_metaspace("Llama 2", n_tokens=500)),
        ("unigram", trained.train_unigram(n_tokens=300)),
    ):
        content = json.loads(tokenizer.to_str())
        write_json(root / name / "tokenizer.json", {**content, "post_processor": processor})
    models = {
        "sentencepiece": {"model_type": "bpe", "byte_fallback": True},
        "table": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc",
                  "remove_extra_whitespaces": True},
    }  # fmt: skip
    for name, options in models.items():
        model = trained.train_sentencepiece(
            n_characters=60, vocab_size=500, user_defined_symbols=["<tool>"], **options
        )
        (root / name / "tokenizer.model").write_bytes(model)
    return {path.name: path for path in root.iterdir()}


CASES = [
    ("byte-level", "tokenizer.json"),
    ("byte-level", "tokenizer_config.json"),
    ("metaspace", "tokenizer.json"),
    ("unigram", "tokenizer.json"),
    ("sentencepiece", "tokenizer.model"),
    ("table", "tokenizer.model"),
]


@pytest.mark.parametrize(("kind", "file_name"), CASES)
def test_damage_ends_in_a_sentence(
    folders: dict[str, Path], tmp_path: Path, kind: str, file_name: str
) -> None:
    for path in folders[kind].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage = damages(tmp_path / file_name)
    random = Seeded(7)
    refused: list[EngineError] = []
    read: list[Path] = []
    for i in range(N_DAMAGES):
        (tmp_path / file_name).write_bytes(damage(random))
        try:
            metadata = read_vocabulary(tmp_path, {}, N_VOCAB).metadata()
        except EngineError as error:
            refused.append(error)
            continue
        if i % 4 == 0:
            read.append(tmp_path / f"{i}.gguf")
            architecture = {"general.architecture": Value.string("llama")}
            with write_gguf(read[-1], {**architecture, **metadata}, []):
                pass
    assert len(refused) > N_DAMAGES // 50
    assert all(error.message.endswith(".") for error in refused)
    survives(read)


def damages(path: Path) -> Callable[[Seeded], bytes]:
    content = path.read_bytes()
    if path.suffix == ".model":
        return lambda random: damaged_bytes(random, content)
    decoded = json.loads(content)
    return lambda random: damaged_json(random, decoded).encode()


def survives(paths: list[Path]) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    n_fine = child.stdout.count("fine")
    assert n_fine == len(paths), f"{paths[n_fine]}: {child.stderr[-2000:]}"


def test_claims_are_not_believed(folders: dict[str, Path], tmp_path: Path) -> None:
    """Sizes and ids beyond all measure, which would be memory if anything were made for them."""
    content = json.loads((folders["byte-level"] / "tokenizer.json").read_text("utf-8"))
    added = [{"id": 1 << 40, "content": "far", "special": True}]
    huge = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    tracemalloc.start()
    try:
        write_json(tmp_path / "tokenizer.json", {**content, "added_tokens": added})
        assert len(read_vocabulary(tmp_path, {}, N_VOCAB).pieces.texts) == N_VOCAB
        model = {**content["model"], "vocab": {"a": 1 << 40}}
        write_json(tmp_path / "tokenizer.json", {**content, "model": model})
        with pytest.raises(CorruptFile, match="more tokens than the model"):
            read_vocabulary(tmp_path, {}, N_VOCAB)
        (tmp_path / "tokenizer.json").unlink()
        for claim in (b"\x0a" + huge, b"\x0a\x0b\x0a" + huge, b"\x12" + huge):
            (tmp_path / "tokenizer.model").write_bytes(claim)
            with pytest.raises(CorruptFile, match="no SentencePiece model"):
                read_vocabulary(tmp_path, {}, N_VOCAB)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_sequence_in_a_sequence_has_an_end(folders: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads((folders["byte-level"] / "tokenizer.json").read_text("utf-8"))
    for key, plural in (("pre_tokenizer", "pretokenizers"), ("normalizer", "normalizers")):
        step: Any = content[key]
        for _ in range(200):
            step = {"type": "Sequence", plural: [step]}
        write_json(tmp_path / "tokenizer.json", {**content, key: step})
        with pytest.raises(EngineError):
            read_vocabulary(tmp_path, {}, N_VOCAB)
