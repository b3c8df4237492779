"""A model in several files is one model: described, loaded, shrunk and refused as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import CorruptFile, NotFound
from engine.gguf import GgufFile, write_gguf
from engine.gguf_values import Value, ValueType
from engine.inference import Generate, Load, LoadSettings
from engine.inspect import describe
from engine.jobs import finish
from engine.library import Library
from engine.llama.session import Session
from engine.quantize.shrink import Shrink
from engine.sampling import SamplingParams


def split(source: Path, folder: Path, n_parts: int) -> list[Path]:
    """Cut a GGUF as llama.cpp's gguf-split does: the metadata in the first part only."""
    folder.mkdir()
    file = GgufFile.open(source)
    paths = []
    size = -(-len(file.tensors) // n_parts)
    for number in range(n_parts):
        tensors = file.tensors[number * size : (number + 1) * size]
        metadata = {
            **(file.metadata if number == 0 else {}),
            "split.no": Value(ValueType.UINT16, number),
            "split.count": Value(ValueType.UINT16, n_parts),
            "split.tensors.count": Value(ValueType.INT32, len(file.tensors)),
        }
        paths.append(folder / f"tiny-{number + 1:05d}-of-{n_parts:05d}.gguf")
        with write_gguf(paths[-1], metadata, tensors) as writer:
            for tensor in tensors:
                writer.write(file.raw(tensor, 0, tensor.n_rows))
    return paths


@pytest.fixture
def parts(tiny_gguf: Path, tmp_path: Path) -> list[Path]:
    return split(tiny_gguf, tmp_path / "parts", 3)


def say(path: Path) -> str:
    session: Session = finish(Load(str(path), LoadSettings(n_ctx=256, n_threads=1)).run())
    greedy = SamplingParams(temperature=0)
    answer = finish(session.generate(Generate(prompt="The dog", sampling=greedy, max_tokens=8)))
    session.close()
    return str(answer.text)


def test_any_part_stands_for_the_whole(parts: list[Path], tiny_gguf: Path) -> None:
    whole = describe(tiny_gguf)
    for part in (parts[0], parts[2]):
        summary = describe(part)
        assert summary.n_params == whole.n_params
        assert summary.n_vocab == whole.n_vocab
        assert summary.size_bytes == sum(p.stat().st_size for p in parts)
        assert say(part) == say(tiny_gguf)


def test_it_is_listed_once_with_all_its_files(parts: list[Path]) -> None:
    (entry,) = Library(parts[0].parent).scan()
    assert entry.files == tuple(map(str, parts))
    assert not entry.problem and entry.summary


def test_it_shrinks_to_the_same_bytes(parts: list[Path], tiny_gguf: Path, tmp_path: Path) -> None:
    from_parts, from_whole = tmp_path / "a.gguf", tmp_path / "b.gguf"
    finish(Shrink(str(parts[0]), str(from_parts), "Q4_K_M").run())
    finish(Shrink(str(tiny_gguf), str(from_whole), "Q4_K_M").run())
    a, b = GgufFile.open(from_parts), GgufFile.open(from_whole)
    assert [t.name for t in a.tensors] == [t.name for t in b.tensors]
    for s, t in zip(a.tensors, b.tensors, strict=True):
        assert a.raw(s, 0, s.n_rows) == b.raw(t, 0, t.n_rows)
    assert say(from_parts) == say(from_whole)


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(NotFound, match=r"00002-of-00003.*part 2 of 3") as caught:
        finish(Load(str(parts[0]), LoadSettings()).run())
    assert caught.value.hint
    (entry,) = Library(parts[0].parent).scan()
    assert "part 2 of 3" in entry.problem


def test_parts_of_another_model_are_refused(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(CorruptFile, match="do not belong together"):
        describe(parts[0])


def test_a_renamed_part_says_what_it_is(parts: list[Path]) -> None:
    alone = parts[1].rename(parts[1].with_name("alone.gguf"))
    with pytest.raises(NotFound, match="one of 3 parts"):
        describe(alone)
