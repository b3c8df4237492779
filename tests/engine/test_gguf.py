"""Reading and writing GGUF: round trips, whole or not at all, and files made by an enemy."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import files
from engine.errors import (
    AlreadyExists,
    CorruptFile,
    DiskFull,
    EngineError,
    NotFound,
    NotWritable,
    StorageError,
    UnsupportedTensor,
)
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo, Value, ValueType, gguf_size_bytes, write_gguf
from engine.gguf_values import NUMBERS, Array
from engine.output import OutputFile, new_file

INT_TYPES = {t: NUMBERS[t] for t in ValueType if t in NUMBERS and "INT" in t.name}


def write(path: Path, metadata: dict[str, Value], tensors: list[TensorInfo]) -> list[bytes]:
    """Write tensors of pseudo-random bytes in odd pieces and return their bytes."""
    rng = random.Random(1)
    data = [rng.randbytes(tensor.n_bytes) for tensor in tensors]
    with write_gguf(path, metadata, tensors, overwrite=True) as writer:
        for content in data:
            for start in range(0, len(content), 1000):
                writer.write(content[start : start + 1000])
    return data


def numbers(value_type: ValueType) -> st.SearchStrategy[object]:
    if value_type is ValueType.BOOL:
        return st.booleans()
    if value_type is ValueType.FLOAT32:
        return st.floats(width=32, allow_nan=False)
    if value_type is ValueType.FLOAT64:
        return st.floats(allow_nan=False)
    bits = INT_TYPES[value_type].size * 8
    if value_type.name.startswith("U"):
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


SINGLE_TYPES = [t for t in ValueType if t is not ValueType.ARRAY]


def items(value_type: ValueType) -> st.SearchStrategy[object]:
    return st.text(max_size=40) if value_type is ValueType.STRING else numbers(value_type)


VALUES = st.sampled_from(SINGLE_TYPES).flatmap(
    lambda t: st.one_of(
        items(t).map(lambda v: Value(t, v)),
        st.lists(items(t), max_size=20).map(lambda vs: Value.array(t, vs)),
    )
)
TENSORS = st.lists(
    st.tuples(
        st.sampled_from(list(GgmlType)),
        st.integers(0, 3),
        st.lists(st.integers(1, 4), max_size=3),
    ),
    max_size=6,
).map(
    lambda rows: [
        TensorInfo(f"t{i}.weight", (n_blocks * t.block_size, *outer), t)
        for i, (t, n_blocks, outer) in enumerate(rows)
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    metadata=st.dictionaries(st.text(min_size=1, max_size=30), VALUES, max_size=8),
    tensors=TENSORS,
    alignment=st.sampled_from([None, 1, 8, 32, 256]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    metadata: dict[str, Value],
    tensors: list[TensorInfo],
    alignment: int | None,
) -> None:
    metadata.pop("general.alignment", None)
    if alignment:
        metadata["general.alignment"] = Value.u32(alignment)
    path = tmp_path_factory.mktemp("gguf") / "a.gguf"
    data = write(path, metadata, tensors)
    with GgufFile.open(path) as model:
        assert dict(model.metadata) == metadata
        assert list(model.metadata) == list(metadata)
        for key, value in metadata.items():
            if isinstance(value.value, Array):
                assert list(model.metadata[key].value) == list(value.value)
        assert [(t.name, t.shape, t.type) for t in model.tensors] == [
            (t.name, t.shape, t.type) for t in tensors
        ]
        assert [bytes(model.raw(t, 0, t.n_rows)) for t in model.tensors if t.n_bytes] == [
            content for content in data if content
        ]
        assert all((model.data_offset + t.offset) % (alignment or 32) == 0 for t in model.tensors)
    assert path.stat().st_size == gguf_size_bytes(metadata, tensors)


def test_bytes_that_are_no_text_survive_a_copy(tmp_path: Path) -> None:
    text = b"caf\xe9 \xff".decode("utf-8", "surrogateescape")
    metadata = {"a": Value.string(text), "b": Value.array(ValueType.STRING, [text, "x"])}
    write(tmp_path / "a.gguf", metadata, [])
    again = GgufFile.open(tmp_path / "a.gguf").metadata
    write(tmp_path / "b.gguf", dict(again), [])
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    assert b"caf\xe9 \xff" in (tmp_path / "b.gguf").read_bytes()


def test_real_files_are_copied_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    paths = sorted([*shared.glob("vocab/*.gguf"), *shared.glob("fixtures/packed/*.gguf")])
    assert len(paths) >= 9
    for path in paths:
        with GgufFile.open(path) as model:
            out = tmp_path / path.name
            with write_gguf(out, model.metadata, model.tensors) as writer:
                for tensor in model.tensors:
                    writer.write(model.raw(tensor, 0, tensor.n_rows))
        assert out.read_bytes() == path.read_bytes(), path.name


def test_rows_are_float32(tiny_gguf: Path) -> None:
    import numpy as np

    with GgufFile.open(tiny_gguf) as model:
        tensor = next(t for t in model.tensors if t.type is GgmlType.F16)
        rows = model.rows(tensor, 3, 7)
        assert rows.dtype == np.float32
        assert rows.shape == (4, tensor.n_cols)
        stored = np.frombuffer(model.raw(tensor, 3, 7), "<f2").reshape(4, -1)
        assert np.array_equal(rows, stored.astype(np.float32))
        del stored


def test_rows_of_a_quantized_tensor_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "q.gguf", {}, [TensorInfo("a", (32, 2), GgmlType.Q8_0)])
    model = GgufFile.open(tmp_path / "q.gguf")
    with pytest.raises(UnsupportedTensor, match=r"already quantized \(a is Q8_0\)"):
        model.rows(model.tensors[0], 0, 1)


# Whole or not at all.

TENSOR = TensorInfo("a", (64, 4), GgmlType.F32)


def test_a_cancelled_job_leaves_nothing(tmp_path: Path) -> None:
    old = tmp_path / "a.gguf"
    old.write_bytes(b"old")

    def job() -> Generator[None, None, None]:
        with write_gguf(old, {}, [TENSOR], overwrite=True) as writer:
            writer.write(bytes(64))
            yield

    steps = job()
    next(steps)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "a.gguf.partial"]
    steps.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]
    assert old.read_bytes() == b"old"


def test_too_little_or_too_much_data_is_our_bug(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="a was not written"),
        write_gguf(tmp_path / "a.gguf", {}, [TENSOR]) as writer,
    ):
        writer.write(bytes(10))
    with (
        pytest.raises(ValueError, match="more data than a holds"),
        write_gguf(tmp_path / "a.gguf", {}, [TENSOR]) as writer,
    ):
        writer.write(bytes(TENSOR.n_bytes + 1))
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf", {}, [TENSOR])
    with (
        pytest.raises(AlreadyExists, match=r"a\.gguf exists already"),
        write_gguf(tmp_path / "a.gguf", {}, [TENSOR]),
    ):
        pass


def test_what_a_killed_job_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.gguf.partial").write_bytes(bytes(1 << 16))
    write(tmp_path / "a.gguf", {}, [TENSOR])
    assert [p.name for p in tmp_path.iterdir()] == ["a.gguf"]
    assert (tmp_path / "a.gguf").stat().st_size < 1 << 16


def test_two_jobs_do_not_write_one_file(tmp_path: Path) -> None:
    with new_file(tmp_path / "a.bin", size_bytes=3) as first:
        first.write(b"one")
        with (
            pytest.raises(AlreadyExists, match="being written by another job"),
            new_file(tmp_path / "a.bin", size_bytes=3),
        ):
            pass
    assert (tmp_path / "a.bin").read_bytes() == b"one"


def test_a_file_that_takes_the_name_meanwhile_stays_and_ours_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.gguf"

    def make() -> None:
        with new_file(target, size_bytes=4) as output:
            output.write(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(AlreadyExists, match=r"Another a\.gguf") as caught:
        make()
    assert "a (2).gguf" in caught.value.hint
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "a.gguf": b"theirs",
        "a (2).gguf": b"ours",
    }


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(NotFound, match="does not exist"),
        write_gguf(tmp_path / "no" / "a.gguf", {}, [TENSOR]),
    ):
        pass


def test_a_file_larger_than_the_disk_is_refused_before_any_work(tmp_path: Path) -> None:
    huge = TensorInfo("a", (1 << 20, 1 << 26), GgmlType.F32)
    with (
        pytest.raises(DiskFull, match="There is not enough space") as caught,
        write_gguf(tmp_path / "a.gguf", {}, [huge]),
    ):
        pass
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_becomes_full_says_so() -> None:
    from io import FileIO

    with FileIO("/dev/full", "w") as device:
        output = OutputFile(device, Path("model.gguf"))
        with pytest.raises(DiskFull, match=r"full while model\.gguf was written"):
            output.write(bytes(1 << 20))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_says_so() -> None:
    with (
        pytest.raises(StorageError) as caught,
        new_file("/proc/self/model.gguf", size_bytes=0),
    ):
        pass
    assert caught.value.hint


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EACCES, NotWritable),
        (errno.EROFS, NotWritable),
        (errno.EFBIG, NotWritable),
        (errno.EIO, StorageError),
    ],
)
def test_every_refusal_of_the_disk_has_a_next_step(number: int, error: type[StorageError]) -> None:
    told = files.write_error(OSError(number, os.strerror(number)), Path("/x/model.gguf"))
    assert type(told) is error
    assert "model.gguf" in told.message
    assert told.hint


# Files made by an enemy.


def header(n_tensors: int = 0, n_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def text(value: bytes, n_bytes: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if n_bytes is None else n_bytes) + value


def tensor_entry(
    name: bytes = b"t",
    shape: tuple[int, ...] = (4,),
    type_id: int = 0,
    offset: int = 0,
    n_dims: int | None = None,
) -> bytes:
    dims = struct.pack("<I", len(shape) if n_dims is None else n_dims)
    return text(name) + dims + struct.pack(f"<{len(shape)}QIQ", *shape, type_id, offset)


ALIGNMENT_KEY = text(b"general.alignment")
ENEMIES = {
    "empty": (b"", "is empty"),
    "short": (b"GG", "is not a GGUF"),
    "pickle": (b"\x80\x04" + bytes(100), "is not a GGUF"),
    "html": (b"<!DOCTYPE html><html>" + bytes(100), "is not a GGUF"),
    "only magic": (b"GGUF", "is incomplete"),
    "version 0": (header(version=0), "version is 0"),
    "version 1": (header(version=1), "version 1"),
    "big endian": (header(version=3 << 24), "big-endian"),
    "many tensors": (header(n_tensors=2**63), "claims to hold"),
    "many keys": (header(n_keys=2**40), "claims to hold"),
    "long key": (header(n_keys=1) + text(b"", 2**62), "bytes long"),
    "cut key": (header(n_keys=1) + text(b"ab", 10), "is incomplete"),
    "empty key": (header(n_keys=1) + text(b"") + struct.pack("<IB", 0, 0), "a key is empty"),
    "key twice": (
        header(n_keys=2) + 2 * (text(b"k") + struct.pack("<IB", 0, 0)),
        "occurs twice",
    ),
    "odd type": (header(n_keys=1) + text(b"k") + struct.pack("<I", 13), "unknown type"),
    "nested array": (header(n_keys=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1), "arrays"),
    "long array": (header(n_keys=1) + text(b"k") + struct.pack("<IIQ", 9, 0, 2**60), "claims"),
    "array bomb": (
        header(n_keys=1) + text(b"k") + struct.pack("<IIQ", 9, 12, 1 << 24),
        "is incomplete",
    ),
    "alignment 0": (header(n_keys=1) + ALIGNMENT_KEY + struct.pack("<II", 4, 0), "alignment is 0"),
    "alignment 3": (header(n_keys=1) + ALIGNMENT_KEY + struct.pack("<II", 4, 3), "alignment is 3"),
    "alignment huge": (
        header(n_keys=1) + ALIGNMENT_KEY + struct.pack("<II", 4, 1 << 30),
        "alignment is",
    ),
    "alignment text": (header(n_keys=1) + ALIGNMENT_KEY + struct.pack("<I", 8) + text(b"32"), "32"),
    "many dimensions": (header(1) + tensor_entry(n_dims=9), "9 dimensions"),
    "long name": (header(1) + tensor_entry(name=b"n" * 64) + bytes(64), "too long"),
    "overflow": (header(1) + tensor_entry(shape=(2**32, 2**32)) + bytes(64), "impossibly large"),
    "beyond the end": (header(1) + tensor_entry(shape=(2**20,)) + bytes(64), "bytes are missing"),
    "wrong offset": (header(1) + tensor_entry(offset=2**60) + bytes(64), "not where it should"),
    "name twice": (header(2) + 2 * tensor_entry() + bytes(200), "same name"),
    "odd rows": (header(1) + tensor_entry(shape=(33,), type_id=8) + bytes(64), "do not fit blocks"),
    "unknown tensor type": (header(1) + tensor_entry(type_id=99) + bytes(64), "does not know"),
    "removed tensor type": (header(1) + tensor_entry(type_id=4) + bytes(64), "does not know"),
}


@pytest.mark.parametrize("name", ENEMIES)
def test_a_hostile_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, told = ENEMIES[name]
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises((CorruptFile, UnsupportedTensor), match=told) as caught:
        GgufFile.open(tmp_path / "model.gguf")
    assert caught.value.message.endswith(".")
    assert caught.value.hint


def test_a_truncated_file_says_that_it_is_incomplete(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes()
    for n_bytes in (10, 100, 5000, len(content) // 2, len(content) - 64):
        (tmp_path / "cut.gguf").write_bytes(content[:n_bytes])
        with pytest.raises(CorruptFile, match=r"cut\.gguf is incomplete"):
            GgufFile.open(tmp_path / "cut.gguf")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_never_surprises(
    data: st.DataObject, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Flip bytes of the header: the file is read, or refused with an EngineError."""
    from engine.inspect import describe

    content = bytearray(tiny_gguf.read_bytes()[:40_000])
    header_bytes = data.draw(st.sampled_from([24, 200, 2000, 20_000]))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, header_bytes))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path_factory.mktemp("damaged") / "a.gguf"
    path.write_bytes(content)
    os.truncate(path, tiny_gguf.stat().st_size)
    try:
        for value in GgufFile.open(path).metadata.values():
            if isinstance(value.value, Array):
                list(value.value)
        describe(path)
        told = "fine"
    except EngineError as error:
        told = error.message and error.hint
    assert told


def test_a_path_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        GgufFile.open(tmp_path / "none.gguf")
    with pytest.raises(StorageError, match="is a folder"):
        GgufFile.open(tmp_path)


def test_listing_models_needs_no_numpy(tiny_gguf: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from engine.inspect import describe; import engine.source, engine.convert.job;"
        f"describe({str(tiny_gguf)!r}); assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
