"""ggml's arithmetic through our calls: sizes, round trips, and refusals instead of aborts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.llama.devices import devices
from engine.llama.ggml import dequantize_rows, is_valid, quantize_rows

ROWS = np.random.default_rng(0).standard_normal((8, 512), dtype=np.float32)


@pytest.mark.parametrize(
    ("ggml_type", "error"),
    [
        (GgmlType.F32, 0.0),
        (GgmlType.F16, 0.001),
        (GgmlType.BF16, 0.01),
        (GgmlType.Q8_0, 0.007),
        (GgmlType.Q6_K, 0.02),
        (GgmlType.Q5_K, 0.04),
        (GgmlType.Q4_K, 0.09),
        (GgmlType.Q3_K, 0.17),
        (GgmlType.Q2_K, 0.36),
    ],
)
def test_round_trip(ggml_type: GgmlType, error: float) -> None:
    stored = quantize_rows(ggml_type, ROWS)
    assert stored.shape == (8, ggml_type.row_bytes(512))
    assert is_valid(ggml_type, stored)
    back = dequantize_rows(ggml_type, stored)
    assert back.shape == ROWS.shape
    assert float(np.sqrt(np.mean((back - ROWS) ** 2))) <= error


def test_threads_give_the_same_bytes() -> None:
    with ThreadPoolExecutor(4) as threads:
        halves = list(threads.map(lambda r: quantize_rows(GgmlType.Q4_K, r), [ROWS[:4], ROWS[4:]]))
    assert np.array_equal(np.concatenate(halves), quantize_rows(GgmlType.Q4_K, ROWS))


def test_importance_matters() -> None:
    imatrix = np.linspace(0.01, 100, 512, dtype=np.float32)
    weighted = quantize_rows(GgmlType.Q4_K, ROWS, imatrix)
    assert not np.array_equal(weighted, quantize_rows(GgmlType.Q4_K, ROWS))
    assert quantize_rows(GgmlType.IQ2_XXS, ROWS, imatrix).shape == (8, 132)
    with pytest.raises(ValueError, match="importance matrix"):
        quantize_rows(GgmlType.IQ2_XXS, ROWS)
    with pytest.raises(ValueError, match="importance matrix"):
        quantize_rows(GgmlType.Q4_K, ROWS, imatrix[:-1])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ggml_type", [GgmlType.F16, GgmlType.Q8_0, GgmlType.Q4_K])
def test_what_is_no_number_is_refused(ggml_type: GgmlType, number: float) -> None:
    rows = ROWS.copy()
    rows[3, 5] = number
    with pytest.raises(UnsupportedTensor, match="not a number"):
        quantize_rows(ggml_type, rows)


def test_too_big_for_the_type_is_refused() -> None:
    with pytest.raises(UnsupportedTensor, match="F16"):
        quantize_rows(GgmlType.F16, ROWS * 1e6)


def test_half_blocks_are_refused() -> None:
    with pytest.raises(UnsupportedTensor, match="multiple of 256"):
        quantize_rows(GgmlType.Q4_K, ROWS[:, :128])


def test_lists_the_processor() -> None:
    assert "cpu" in [device.kind for device in devices()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_nothing_is_loaded_from_the_current_folder(tmp_path: Path) -> None:
    """llama.cpp looks for backends in the current folder and in GGML_BACKEND_PATH."""
    from llama_cpp import llama_cpp

    library = Path(llama_cpp._lib._name).with_name("libggml-cpu.so")
    planted = tmp_path / "libggml-cpu-planted.so"
    shutil.copy(library, planted)
    code = (
        "from engine.llama.library import library; library()\n"
        "from engine.llama.devices import devices; devices()\n"
        "print(open('/proc/self/maps').read())"
    )
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "GGML_BACKEND_PATH": str(planted), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    mapped = {line.split()[-1] for line in done.stdout.splitlines() if "libggml" in line}
    assert not [path for path in mapped if path.startswith(str(tmp_path))]
    assert len([path for path in mapped if "libggml-base" in path]) == 1  # no second copy


def test_threads_that_ask_at_once_get_one_library() -> None:
    program = """
import threading
from engine.llama.library import library
found = set()
at_once = threading.Barrier(8)
def ask():
    at_once.wait()
    found.add(library())
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr
