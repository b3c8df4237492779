"""A model in several files is one model: described, loaded, shrunk and refused as such."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import CorruptFile, NotFound, OutOfMemory
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, encode_header, write_gguf
from engine.gguf_values import TensorInfo, Value, ValueType
from engine.inference import Generate, Load, LoadSettings
from engine.inspect import describe
from engine.jobs import finish
from engine.library import Library
from engine.llama.session import Session
from engine.quantize.shrink import Shrink
from engine.sampling import SamplingParams
from engine.splits import model_files


def split(source: Path, folder: Path, n_parts: int) -> list[Path]:
    """Cut a GGUF as llama.cpp's gguf-split does: the metadata in the first part only."""
    folder.mkdir()
    file = GgufFile.open(source)
    paths = []
    size = -(-len(file.tensors) // n_parts)
    for number in range(n_parts):
        tensors = file.tensors[number * size : (number + 1) * size]
        metadata = dict(file.metadata) if number == 0 else {}
        metadata |= split_keys(number, n_parts, len(file.tensors))
        paths.append(folder / f"tiny-{number + 1:05d}-of-{n_parts:05d}.gguf")
        with write_gguf(paths[-1], metadata, tensors) as writer:
            for tensor in tensors:
                writer.write(file.raw(tensor, 0, tensor.n_rows))
    return paths


def split_keys(number: int, n_parts: int, n_tensors: int) -> dict[str, Value]:
    return {
        "split.no": Value(ValueType.UINT16, number),
        "split.count": Value(ValueType.UINT16, n_parts),
        "split.tensors.count": Value(ValueType.INT32, n_tensors),
    }


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


def test_a_model_without_a_name_is_called_like_its_files(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"fine-{number + 1:05d}-of-00002.gguf"
        with write_gguf(path, split_keys(number, 2, 0), []):
            pass
    assert describe(path).name == "fine"


def test_parts_in_the_wrong_order_are_refused(parts: list[Path]) -> None:
    second = parts[1].read_bytes()
    parts[1].write_bytes(parts[2].read_bytes())
    parts[2].write_bytes(second)
    with pytest.raises(CorruptFile, match="do not belong together"):
        describe(parts[0])


def test_a_whole_model_may_be_called_like_a_part(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny-00002-of-00003.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    assert describe(path).n_params == describe(tiny_gguf).n_params
    assert say(path) == say(tiny_gguf)


def test_a_first_part_may_hold_no_tensor(tiny_gguf: Path, tmp_path: Path) -> None:
    paths = split(tiny_gguf, tmp_path / "parts", 2)
    file = GgufFile.open(tiny_gguf)
    for number, tensors in enumerate(((), file.tensors)):
        metadata = dict(file.metadata) if number == 0 else {}
        metadata |= split_keys(number, 2, len(file.tensors))
        with write_gguf(paths[number], metadata, tensors, overwrite=True) as writer:
            for tensor in tensors:
                writer.write(file.raw(tensor, 0, tensor.n_rows))
    assert say(paths[0]) == say(tiny_gguf)


@pytest.mark.skipif(os.name == "nt", reason="needs a file of 2 TB that is one hole")
def test_the_memory_for_all_parts_is_asked_for(tmp_path: Path) -> None:
    """A model of far more than this computer has, all of it in a part with a hole."""
    shape = (1 << 20, 1 << 20)
    tensors = [TensorInfo("token_embd.weight", (32, 2), GgmlType.F32),
               TensorInfo("output.weight", shape, GgmlType.F16)]  # fmt: skip
    paths = [tmp_path / f"huge-{number}-of-00002.gguf" for number in ("00001", "00002")]
    for number, (path, tensor) in enumerate(zip(paths, tensors, strict=True)):
        metadata = {"general.architecture": Value.string("llama"), **split_keys(number, 2, 2)}
        header, _alignment = encode_header(metadata, [tensor])
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + tensor.n_bytes)
    with pytest.raises(OutOfMemory):
        finish(Load(str(paths[0]), LoadSettings()).run())


@pytest.mark.parametrize(
    "name",
    ["a.gguf", "a-00000-of-00000.gguf", "a-00004-of-00003.gguf", "a-00001-of-99999.gguf",
     "-00001-of-00002.gguf", "a-00001-of-00002.gguf\n", "a-٠٠٠٠١-of-٠٠٠٠٢.gguf"],
)  # fmt: skip
def test_other_names_are_those_of_one_file(name: str) -> None:
    assert model_files(Path(name)) == (Path(name),)
