"""Calibration: against numpy, against llama-imatrix's recorded answers, and as a job."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.calibrate import inputs, sums
from engine.calibrate.inputs import Input, held_out_tokens, together
from engine.calibrate.job import Calibrate, Calibrated
from engine.calibrate.statistics import FEWEST_HELD_OUT, Statistics
from engine.calibrate.texts import bundled_texts, split
from engine.convert.job import Convert
from engine.errors import (
    AlreadyExists,
    CorruptFile,
    FormatError,
    InferenceError,
    NotFound,
    StorageError,
)
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo, Value, ValueType, write_gguf
from engine.jobs import Progress, finish
from engine.llama.model import load_model
from tests.helpers import checkpoints
from tests.helpers.checkpoints import write_tiny_checkpoint

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "
N_CTX = 64
T = TypeVar("T")
EPSILON = 1e-5


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 30, encoding="utf-8")
    return path


def calibrate(
    model: Path, out: Path, *texts: Path, chunks: int = 0, n_held_out: int = 16, n_threads: int = 1
) -> Calibrated:
    job = Calibrate(
        str(model), str(out), tuple(map(str, texts)), chunks, N_CTX, n_threads, n_held_out
    )
    return finish(job.run())


def known(value: T | None) -> T:
    assert value is not None
    return value


def first_inputs(model: Path) -> NDArray[np.float64]:
    """What goes into the first attention for each token: its normalized embedding."""
    with GgufFile.open(model) as file:
        x, weight = (
            file.rows(tensor, 0, tensor.n_rows).astype(np.float64)
            for name in ("token_embd.weight", "blk.0.attn_norm.weight")
            for tensor in file.tensors
            if tensor.name == name
        )  # [n_vocab, n_embd], [1, n_embd]
    normal: NDArray[np.float64] = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + EPSILON) * weight
    return normal


def tokenize(model: Path, text: str, *, special: bool = False) -> list[int]:
    loaded = finish(load_model(model))
    try:
        return loaded.vocabulary.tokenize(text, special=special)
    finally:
        loaded.close()


def test_figures_are_those_of_numpy(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    done = calibrate(tiny_gguf, tmp_path / "a.gguf", text, chunks=3)
    assert (done.n_tokens, done.n_chunks, done.is_reused) == (3 * N_CTX, 3, False)
    tokens = tokenize(tiny_gguf, text.read_text(encoding="utf-8"))[: 3 * N_CTX]
    x = first_inputs(tiny_gguf)[tokens]
    apart = held_out_tokens(3 * N_CTX, 16)
    fit = np.delete(x, apart, axis=0)
    with Statistics.open(tmp_path / "a.gguf") as found:
        for name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"):
            assert list(found.n_tokens(name)) == [len(fit)]
            importance, mean = known(found.importance(name)), known(found.mean(name))
            moment, sample = known(found.second_moment(name)), known(found.held_out(name))
            np.testing.assert_allclose(importance[0], (fit**2).mean(axis=0), rtol=1e-4)
            np.testing.assert_allclose(mean[0], fit.mean(axis=0), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(moment, fit.T @ fit / len(fit), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(sample, x[apart], rtol=1e-4, atol=1e-5)
            assert np.array_equal(moment, moment.T)


def test_every_matrix_is_there_and_shares_its_input(
    tiny_gguf: Path, tmp_path: Path, text: Path
) -> None:
    calibrate(tiny_gguf, tmp_path / "a.gguf", text, chunks=2)
    with GgufFile.open(tiny_gguf) as model:
        matrices = {t.name for t in model.tensors if len(t.shape) == 2}
    with Statistics.open(tmp_path / "a.gguf") as found:
        assert set(found.tensors) == matrices
        groups: dict[str, set[str]] = {}
        for tensor in found.tensors:
            groups.setdefault(found.shared_input(tensor), set()).add(tensor)
        names = {frozenset(name.split(".")[-2] for name in group) for group in groups.values()}
        assert names == {
            frozenset({"attn_q", "attn_k", "attn_v"}),
            frozenset({"attn_output"}),
            frozenset({"ffn_gate", "ffn_up"}),
            frozenset({"ffn_down"}),
            frozenset({"token_embd"}),
        }
        assert found.importance("blk.9.attn_q.weight") is None
        assert found.second_moment("blk.9.attn_q.weight") is None
        assert found.held_out("blk.9.attn_q.weight") is None
        assert len(found.n_tokens("blk.9.attn_q.weight")) == 0


# llama-imatrix --process-output --chunks 4 -b 512 of llama.cpp 0c1e57098 on measure-7m in F32 and
# calibration/cdv3.txt: sums over the columns of the mean squares, plain and times 1 to n_cols.
ANSWERS = {
    "blk.0.attn_output.weight": (0.06432459, 11.728062),
    "blk.0.attn_q.weight": (1.4951149, 181.71096),
    "blk.0.ffn_down.weight": (2170.3503, 788820.78),
    "blk.0.ffn_up.weight": (153.49342, 19513.832),
    "blk.7.attn_output.weight": (228.17892, 31280.65),
    "blk.7.attn_q.weight": (201.60327, 26022.235),
    "blk.7.ffn_down.weight": (2667.1276, 1020950.8),
    "blk.7.ffn_up.weight": (310.7318, 40624.203),
}


def test_importance_is_that_of_llama_imatrix(shared: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model.gguf", tmp_path / "out.gguf"
    finish(Convert(str(shared / "models" / "measure-7m"), str(model), "f32").run())
    text = str(shared / "text" / "calibration" / "cdv3.txt")
    finish(Calibrate(str(model), str(out), (text,), chunks=4, n_held_out=0).run())
    with Statistics.open(out) as found:
        for tensor, (plain, weighted) in ANSWERS.items():
            importance = known(found.importance(tensor))
            assert list(found.n_tokens(tensor)) == [4 * 512]
            assert importance.sum() == pytest.approx(plain, rel=1e-4)
            places = np.arange(1, importance.shape[1] + 1)
            assert (importance * places).sum() == pytest.approx(weighted, rel=1e-4)
            assert found.held_out(tensor) is None
    header = GgufFile.open(out)
    assert header.get("general.type") == "imatrix"
    assert list(header.get("imatrix.datasets")) == ["cdv3.txt"]
    assert (header.get("imatrix.chunk_count"), header.get("imatrix.chunk_size")) == (4, 512)


def test_the_bytes_do_not_depend_on_the_threads(
    tiny_gguf: Path, tmp_path: Path, text: Path
) -> None:
    for n_threads in (1, 2):
        calibrate(tiny_gguf, tmp_path / f"{n_threads}.gguf", text, chunks=2, n_threads=n_threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_blocks_are_parts_of_the_whole(
    tiny_gguf: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(tiny_gguf, tmp_path / "whole.gguf", text, chunks=2)
    monkeypatch.setattr(inputs, "MOST_MOMENT_BYTES", 300 * 512 * 4)
    calibrate(tiny_gguf, tmp_path / "blocks.gguf", text, chunks=2)
    name = "blk.0.ffn_down.weight"  # of 512 columns
    with (
        Statistics.open(tmp_path / "whole.gguf") as whole,
        Statistics.open(tmp_path / "blocks.gguf") as parts,
    ):
        moment, blocks = known(whole.second_moment(name)), known(parts.second_moment_blocks(name))
        assembled = known(parts.second_moment(name))
        assert [block.shape for block in blocks] == [(256, 256), (256, 256)]
        for i, block in enumerate(blocks):
            part = slice(256 * i, 256 * (i + 1))
            assert np.array_equal(block, moment[part, part])
            assert np.array_equal(assembled[part, part], block)
        assert not assembled[:256, 256:].any()


@pytest.mark.parametrize(
    ("n_cols", "n_matrices", "n_block"),
    [(4096, 1, 4096), (8192, 1, 8192), (14336, 1, 4096), (2048, 128, 256), (300, 5, 300)],
)
def test_size_of_blocks(n_cols: int, n_matrices: int, n_block: int) -> None:
    assert Input(("a",), n_cols, n_matrices, 1).n_block == n_block


def test_tokens_held_out_are_spread_over_all_places() -> None:
    tokens = held_out_tokens(128 * 512, 512)
    assert len(set(tokens)) == 512
    assert [token * 512 // (128 * 512) for token in tokens] == list(range(512))
    places = np.bincount([token % 512 // 64 for token in tokens], minlength=8)
    assert places.min() > 50
    assert len(held_out_tokens(64, 512)) == 8
    assert held_out_tokens(64, 0) == []


def write_mixture(folder: Path, n_experts: int, n_used: int) -> Path:
    """A tiny Mixtral of random weights, as a GGUF."""
    hidden, ffn, n_layers = 256, 128, 2
    write_tiny_checkpoint(
        folder,
        hidden=hidden,
        ffn=ffn,
        architectures=["MixtralForCausalLM"],
        model_type="mixtral",
        num_local_experts=n_experts,
        num_experts_per_tok=n_used,
    )
    n_vocab = len(checkpoints.vocabulary()[0])
    tensors = checkpoints.random_tensors(0, n_vocab, hidden, ffn, n_layers, 4, 2, tied=True)
    rng = np.random.default_rng(1)
    for name in [name for name in tensors if ".mlp." in name]:
        del tensors[name]
    for i in range(n_layers):
        moe = f"model.layers.{i}.block_sparse_moe"
        shapes = {f"{moe}.gate.weight": (n_experts, hidden)}
        for expert in range(n_experts):
            shapes[f"{moe}.experts.{expert}.w1.weight"] = (ffn, hidden)
            shapes[f"{moe}.experts.{expert}.w2.weight"] = (hidden, ffn)
            shapes[f"{moe}.experts.{expert}.w3.weight"] = (ffn, hidden)
        for name, shape in shapes.items():
            tensors[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    checkpoints.write_safetensors(folder / "model.safetensors", tensors, "F32")
    out = folder.with_suffix(".gguf")
    finish(Convert(str(folder), str(out), "f32").run())
    return out


def test_experts_together_saw_what_their_router_saw(tmp_path: Path, text: Path) -> None:
    model = write_mixture(tmp_path / "mixture", n_experts=4, n_used=2)
    done = calibrate(model, tmp_path / "a.gguf", text, chunks=3)
    router, gate, up, down = (
        f"blk.1.ffn_{part}.weight" for part in ("gate_inp", "gate_exps", "up_exps", "down_exps")
    )
    with Statistics.open(tmp_path / "a.gguf") as found:
        n = found.n_tokens(gate)
        assert len(n) == 4 and n.sum() == 2 * found.n_tokens(router)[0] and n.min() > 0
        assert np.array_equal(n, found.n_tokens(down))
        assert found.shared_input(up) == found.shared_input(gate) != found.shared_input(down)
        for statistic in (found.importance, found.mean):
            of_experts, of_router = known(statistic(gate)), known(statistic(router))
            assert of_experts.shape == (4, 256)
            together = n @ of_experts.astype(np.float64) / n.sum()
            np.testing.assert_allclose(together, of_router[0], rtol=1e-4, atol=1e-5)
        # So few were held out that all experts are judged with all of them.
        whole = known(found.held_out(router))
        assert len(whole) <= FEWEST_HELD_OUT
        assert all(np.array_equal(known(found.held_out(gate, i)), whole) for i in range(4))
        # As good as more tokens than their own, and fewer than all.
        assert all(a < found.moment_tokens(gate, i) < n.sum() for i, a in enumerate(n))
        assert found.moment_tokens(router) == found.n_tokens(router)[0]
    assert done.few_tokens[gate] == (0, 1, 2, 3)  # none of them had 256 tokens


def test_experts_with_many_tokens_held_out_are_judged_with_their_own(
    tmp_path: Path, text: Path
) -> None:
    model = write_mixture(tmp_path / "mixture", n_experts=4, n_used=2)
    calibrate(model, tmp_path / "a.gguf", text, chunks=16, n_held_out=128)
    with Statistics.open(tmp_path / "a.gguf") as found:
        n_all = len(known(found.held_out("blk.1.ffn_gate_inp.weight")))
        for part in ("gate", "down"):
            samples = [known(found.held_out(f"blk.1.ffn_{part}_exps.weight", i)) for i in range(4)]
            assert min(map(len, samples)) >= FEWEST_HELD_OUT
            assert sum(map(len, samples)) == 2 * n_all


def test_an_expert_that_sees_everything_is_like_a_dense_matrix(tmp_path: Path, text: Path) -> None:
    model = write_mixture(tmp_path / "mixture", n_experts=2, n_used=2)
    done = calibrate(model, tmp_path / "a.gguf", text, chunks=6)
    router, gate = "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight"
    with Statistics.open(tmp_path / "a.gguf") as found:
        for i in range(2):
            moment, expected = (
                known(found.second_moment(gate, i)),
                known(found.second_moment(router)),
            )
            assert np.array_equal(moment, expected)
            assert np.array_equal(known(found.held_out(gate, i)), known(found.held_out(router)))
    assert not done.few_tokens


def test_few_tokens_are_mixed_with_those_of_all_experts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, 8)).astype(np.float32) for n in (100, 2, 0)]
    outer = np.stack([np.triu(x.T @ x) for x in rows])
    squares = np.stack([(x**2).sum(axis=0) for x in rows])
    tensors = {
        "w.in_sum2": squares,
        "w.counts": np.array([[len(x)] for x in rows]),
        "w.in_outer": outer,
    }
    path = write_statistics(tmp_path / "a.gguf", tensors)
    everything = np.concatenate(rows)
    pooled = everything.T @ everything / 102
    with Statistics.open(path) as found:
        own = rows[1].T @ rows[1] / 2
        for i, expected in enumerate(
            (rows[0].T @ rows[0] / 100, 2 / 8 * own + 6 / 8 * pooled, pooled)
        ):
            np.testing.assert_allclose(
                known(found.second_moment("w", i)),
                expected,
                rtol=1e-4,
                atol=1e-5,
            )
        importance = known(found.importance("w"))
        np.testing.assert_allclose(importance[1], squares[1] / 2, rtol=1e-5)
        np.testing.assert_allclose(importance[2], squares.sum(axis=0) / 102, rtol=1e-5)
        assert found.few_tokens() == {"w": (1, 2)}


def write_statistics(path: Path, tensors: dict[str, NDArray[np.float32]]) -> Path:
    """A file as llama-imatrix writes it, with `tensors` in it."""
    metadata = {
        "general.type": Value.string("imatrix"),
        "imatrix.datasets": Value.array(ValueType.STRING, ["a.txt"]),
        "imatrix.chunk_count": Value.u32(1),
        "imatrix.chunk_size": Value.u32(512),
    }
    infos = [TensorInfo(name, x.shape[::-1], GgmlType.F32) for name, x in tensors.items()]
    with write_gguf(path, metadata, infos, overwrite=True) as writer:
        for values in tensors.values():
            writer.write(values.astype(np.float32).tobytes())
    return path


def test_files_of_llama_imatrix_tell_importance_only(tmp_path: Path) -> None:
    tensors = {"w.in_sum2": np.full((1, 8), 6.0), "w.counts": np.array([[3.0]])}
    path = write_statistics(tmp_path / "a.gguf", tensors)
    with Statistics.open(path) as found:
        assert found.tensors == ("w",)
        assert np.array_equal(known(found.importance("w")), np.full((1, 8), 2))
        assert found.mean("w") is None
        assert found.second_moment("w") is None
        assert found.held_out("w") is None
        assert found.key == ""


@pytest.mark.parametrize(
    "counts", [[[float("nan")]], [[-1.0]], [[0.0]], [[1.0], [1.0], [1.0]]], ids=str
)
def test_damaged_figures_are_told(tmp_path: Path, counts: list[list[float]]) -> None:
    tensors = {"w.in_sum2": np.ones((1, 8)), "w.counts": np.array(counts)}
    path = write_statistics(tmp_path / "a.gguf", tensors)
    with Statistics.open(path) as found, pytest.raises(CorruptFile, match="do not fit together"):
        known(found.importance("w"))


def test_a_model_is_no_importance_matrix(tiny_gguf: Path) -> None:
    with pytest.raises(FormatError, match="no importance matrix"):
        Statistics.open(tiny_gguf)


def test_the_same_again_is_taken_as_it_is(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "a.gguf"
    first = calibrate(tiny_gguf, out, text, chunks=2)
    before = out.stat()
    again = calibrate(tiny_gguf, out, text, chunks=2)
    assert again.is_reused and out.stat().st_mtime_ns == before.st_mtime_ns
    assert (again.n_tokens, again.n_tensors) == (first.n_tokens, first.n_tensors)
    with pytest.raises(AlreadyExists, match="not of this model, these texts and settings"):
        calibrate(tiny_gguf, out, text, chunks=3)
    text.write_text("Another text. " * 300, encoding="utf-8")
    with pytest.raises(AlreadyExists):
        calibrate(tiny_gguf, out, text, chunks=2)
    job = Calibrate(str(tiny_gguf), str(out), (str(text),), 2, N_CTX, overwrite=True)
    assert not finish(job.run()).is_reused


def test_a_cancel_leaves_nothing(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    steps = Calibrate(str(tiny_gguf), str(tmp_path / "a.gguf"), (str(text),), 0, N_CTX).run()
    for step in steps:
        assert isinstance(step, Progress)
        if step.stage == "Calibrating" and step.done:
            assert step.unit == "tokens" and step.total and step.total % N_CTX == 0
            break
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_conversations_are_written_as_the_model_has_them(tiny_gguf: Path, tmp_path: Path) -> None:
    lines = [
        {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
    ] * 20
    chats = tmp_path / "chats.jsonl"
    chats.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    calibrate(tiny_gguf, tmp_path / "a.gguf", chats, chunks=2, n_held_out=0)
    turn = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n"
    tokens = (tokenize(tiny_gguf, turn, special=True) * 20)[: 2 * N_CTX]
    rows = first_inputs(tiny_gguf)[tokens]
    with Statistics.open(tmp_path / "a.gguf") as found:
        importance = known(found.importance("blk.0.attn_q.weight"))
        np.testing.assert_allclose(importance[0], (rows**2).mean(axis=0), rtol=1e-4)


def test_chunks_of_several_texts_alternate(tiny_gguf: Path, tmp_path: Path) -> None:
    model = finish(load_model(tiny_gguf))
    long, short = tmp_path / "long.txt", tmp_path / "short.txt"
    long.write_text("a" * 500, encoding="utf-8")  # a letter is a token
    short.write_text("b" * 290, encoding="utf-8")
    chunks = split([long, short], model.vocabulary, None, 100)
    alone = split([long], model.vocabulary, None, 100)
    a, b = (model.vocabulary.tokenize(letter) for letter in "ab")
    model.close()
    assert [chunk == chunk[:1] * 100 for chunk in chunks] == [True] * 7
    assert [chunk[0] for chunk in chunks] == [*a, *b, *a, *a, *a, *b, *a]
    assert alone == [a * 100] * 5


def test_what_a_model_wrote_comes_whole_beside_a_long_text(tiny_gguf: Path, tmp_path: Path) -> None:
    model = finish(load_model(tiny_gguf))
    long, own = tmp_path / "long.txt", tmp_path / "own.tokens"
    long.write_text("a" * 4000, encoding="utf-8")
    (a,), (b,) = (model.vocabulary.tokenize(letter) for letter in "ab")
    own.write_text(json.dumps([b] * 300), encoding="utf-8")
    few, all_of_them, fewer = (
        [chunk[0] for chunk in split([long, own], model.vocabulary, None, 100, n_wanted)]
        for n_wanted in (10, 0, 4)
    )
    model.close()
    assert [few[:5].count(b), few[5:].count(b)] in ([1, 2], [2, 1])
    assert (all_of_them.count(a), all_of_them.count(b)) == (40, 3)
    assert fewer == [a] * 4  # three of them would be most of what is read


def test_the_text_of_snug_is_conversations_prose_and_code(tiny_gguf: Path, tmp_path: Path) -> None:
    texts = {Path(text).name: Path(text).read_text(encoding="utf-8") for text in bundled_texts()}
    assert set(texts) == {"conversations.jsonl", "prose.txt", "code.txt"}
    assert 250_000 < sum(len(text.encode()) for text in texts.values()) < 400_000
    for line in texts["conversations.jsonl"].splitlines():
        roles = [message["role"] for message in json.loads(line)["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2) != []
    done = calibrate(tiny_gguf, tmp_path / "a.gguf", chunks=3)
    assert done.n_tokens == 3 * N_CTX
    header = GgufFile.open(tmp_path / "a.gguf")
    assert set(header.get("imatrix.datasets")) == set(texts)


def test_a_line_that_is_no_conversation_is_named(tiny_gguf: Path, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": []}\n{"messages": 3}\n', encoding="utf-8")
    with pytest.raises(FormatError, match=r"Line 2 of chats\.jsonl"):
        calibrate(tiny_gguf, tmp_path / "a.gguf", chats)


def test_texts_that_are_too_short_or_missing(tiny_gguf: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time.", encoding="utf-8")
    with pytest.raises(InferenceError, match="too short to calibrate"):
        calibrate(tiny_gguf, tmp_path / "a.gguf", short)
    with pytest.raises(NotFound, match=r"none\.txt"):
        calibrate(tiny_gguf, tmp_path / "a.gguf", tmp_path / "none.txt")


def test_a_model_that_computes_no_numbers(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with GgufFile.open(tiny_gguf) as model:
        tensors = [msgspec.structs.replace(tensor, type=GgmlType.F32) for tensor in model.tensors]
        with write_gguf(broken, model.metadata, tensors) as writer:
            for tensor in model.tensors:
                rows = model.rows(tensor, 0, tensor.n_rows).copy()
                if tensor.name == "blk.1.ffn_up.weight":
                    rows[0, 0] = np.inf
                writer.write(rows.tobytes())
    with pytest.raises(CorruptFile, match=r"blk\.1\.ffn_down\.weight is infinite"):
        calibrate(broken, tmp_path / "a.gguf", text)
    assert not (tmp_path / "a.gguf").exists()


def test_chunks_that_are_read_together_give_the_same(
    tiny_gguf: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, at_once = tmp_path / "alone.gguf", tmp_path / "at-once.gguf"
    calibrate(tiny_gguf, alone, text, chunks=5)
    monkeypatch.setattr(inputs, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(inputs, "MOST_TOKENS", 3 * N_CTX)
    calibrate(tiny_gguf, at_once, text, chunks=5)
    with Statistics.open(alone) as one, Statistics.open(at_once) as other:
        assert one.tensors == other.tensors
        for tensor in one.tensors:
            assert (one.n_tokens(tensor) == other.n_tokens(tensor)).all()
            moment, same = known(one.second_moment(tensor)), known(other.second_moment(tensor))
            assert np.abs(moment - same).max() < EPSILON * np.abs(moment).max()
            sample, same = known(one.held_out(tensor)), known(other.held_out(tensor))
            assert np.abs(sample - same).max() < EPSILON * np.abs(sample).max()


@pytest.mark.parametrize(
    ("n_cols", "n_inputs", "n_vocab", "n_together"),
    [
        (256, 16, 4096, 1),  # what is in memory anyway is added to chunk by chunk
        (2048, 100, 32_000, 8),  # all
        (2048, 100, 256_000, 1),
        (4096, 200, 128_256, 4),  # a large model has room for more of them
    ],
)
def test_more_is_read_at_once_where_the_sums_are_large(
    n_cols: int, n_inputs: int, n_vocab: int, n_together: int
) -> None:
    inputs = [Input((f"{i}",), n_cols, n_matrices=1, rows_per_token=1) for i in range(n_inputs)]
    assert together(inputs, 512, 8, n_vocab, cache_bytes=1 << 20) == n_together


def test_the_disk_is_written_to_meanwhile(
    tiny_gguf: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is let go of in the last pass is written at once; the file is the same."""
    out = tmp_path / "whole.gguf"
    finish(Calibrate(str(tiny_gguf), str(out), (str(text),), 2, 64, 1).run())
    written = []
    real = os.fsync

    def fsync(file: int) -> None:
        written.append(threading.current_thread().name)
        real(file)

    monkeypatch.setattr(sums, "FORGET_BYTES", 1)
    monkeypatch.setattr(os, "fsync", fsync)
    bit_by_bit = tmp_path / "bits.gguf"
    finish(Calibrate(str(tiny_gguf), str(bit_by_bit), (str(text),), 2, 64, 1).run())
    assert [name for name in written if name.startswith("sync")]
    assert bit_by_bit.read_bytes() == out.read_bytes()


def test_a_disk_that_fails_meanwhile_is_told(
    tiny_gguf: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fails_meanwhile(file: int) -> None:
        if threading.current_thread().name.startswith("sync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(sums, "FORGET_BYTES", 1)
    monkeypatch.setattr(os, "fsync", fails_meanwhile)
    with pytest.raises(StorageError):
        finish(Calibrate(str(tiny_gguf), str(tmp_path / "s.gguf"), (str(text),), 1, 64).run())
    assert not list(tmp_path.glob("s.gguf*"))
