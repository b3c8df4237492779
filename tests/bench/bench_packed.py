"""Speed of unpacking packed checkpoints, on one core: native against numpy, alternating; medians.

Run by `make bench-native`. A weight of 4096 x 4096 of each method is read in the pieces of a
conversion: decoded to float32, and moved into blocks where a GGUF type holds it. numpy does the
first in the plainest way, as the formulas are written.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from engine.checkpoint import Checkpoint  # noqa: E402
from engine.convert.lattice import LATTICES, fit_rows  # noqa: E402
from engine.convert.packed import weights_of  # noqa: E402
from engine.convert.packed.tables import E2M1, E4M3  # noqa: E402
from engine.convert.weights import Weight  # noqa: E402
from engine.ggml_types import GgmlType  # noqa: E402
from engine.llama.ggml import dequantize_rows, quantize_rows  # noqa: E402
from tests.helpers import packed  # noqa: E402
from tests.helpers.checkpoints import write_safetensors  # noqa: E402
from tests.helpers.packed import Floats, Packed, stored, write_packed  # noqa: E402

SIZE = 4096
PIECE = 128
GROUP = 128
N_REJECTED = 100
Numpy = Callable[[dict[str, NDArray[Any]]], Floats]


def from_gptq(t: dict[str, NDArray[Any]]) -> Floats:
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    codes = (t["qweight"][:, None] >> shifts[:, None] & 15).reshape(SIZE, -1)
    zeros = ((t["qzeros"][:, :, None] >> shifts & 15) + 1).reshape(len(t["scales"]), -1)
    scales = t["scales"].astype(np.float32)
    steps = codes.astype(np.float32) - zeros.astype(np.float32).repeat(GROUP, 0)
    return np.ascontiguousarray((steps * scales.repeat(GROUP, 0)).T)


def from_awq(t: dict[str, NDArray[Any]]) -> Floats:
    shifts = np.array([0, 16, 4, 20, 8, 24, 12, 28], np.uint32)
    codes = (t["qweight"][:, :, None] >> shifts & 15).reshape(SIZE, -1)
    zeros = (t["qzeros"][:, :, None] >> shifts & 15).reshape(len(t["scales"]), -1)
    scales = t["scales"].astype(np.float32)
    steps = codes.astype(np.float32) - zeros.astype(np.float32).repeat(GROUP, 0)
    return np.ascontiguousarray((steps * scales.repeat(GROUP, 0)).T)


def from_nf4(t: dict[str, NDArray[Any]]) -> Floats:
    flat = t["weight"].reshape(-1)
    codes = np.stack([flat >> 4, flat & 15], axis=-1)
    values = t["weight.quant_map"][codes].reshape(-1, 64) * t["weight.absmax"][:, None]
    found: Floats = values.reshape(SIZE, SIZE)
    return found


def from_fp8(t: dict[str, NDArray[Any]]) -> Floats:
    values: Floats = E4M3[t["weight"]] * t["weight_scale_inv"].repeat(128, 0).repeat(128, 1)
    return values


def from_int8(t: dict[str, NDArray[Any]]) -> Floats:
    values: Floats = t["weight"].astype(np.float32) * t["SCB"][:, None]
    return values * np.float32(1 / 127)


def from_nvfp4(t: dict[str, NDArray[Any]]) -> Floats:
    codes = np.stack([t["weight"] & 15, t["weight"] >> 4], axis=-1).reshape(SIZE, -1, 16)
    scales = E4M3[t["weight_scale"]] * np.float32(t["weight_scale_2"])
    values: Floats = (E2M1[codes] * scales[..., None]).reshape(SIZE, SIZE)
    return values


def cases(rng: np.random.Generator) -> dict[str, tuple[dict[str, Any], Packed, Numpy]]:
    codes = rng.integers(0, 16, (SIZE, SIZE))
    scales = rng.uniform(0.001, 0.01, (SIZE, SIZE // GROUP)).astype("<f2")
    eights = np.full(scales.shape, 8)
    noise = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    half = noise[:, : SIZE // 2]
    absmax = rng.uniform(0.1, 1, SIZE * SIZE // 64).astype("<f4")
    quant_map = np.linspace(-1, 1, 16, dtype="<f4")
    fp8 = {
        "weight": stored(noise & 0x7E, "F8_E4M3"),
        "weight_scale_inv": stored(rng.uniform(0.1, 1, (SIZE // 128,) * 2).astype("<f4")),
    }
    int8 = {
        "weight": stored(noise.view(np.int8)),
        "SCB": stored(rng.uniform(0.1, 1, SIZE).astype("<f4")),
    }
    nvfp4 = {
        "weight": stored(half),
        "weight_scale": stored(noise[:, : SIZE // 16] & 0x7E, "F8_E4M3"),
        "weight_scale_2": stored(np.array(0.1, "<f4")),
    }
    grouped = {"bits": 4, "group_size": GROUP}
    nf4 = packed.four_bit(codes.reshape(-1).astype(np.uint8), quant_map, absmax, (SIZE, SIZE))
    return {
        "GPTQ": (
            {"quant_method": "gptq", "sym": True, **grouped},
            packed.gptq(codes, scales, eights, 4),
            from_gptq,
        ),
        "AWQ": ({"quant_method": "awq", **grouped}, packed.awq(codes, scales, eights), from_awq),
        "NF4": ({"quant_method": "bitsandbytes"}, nf4, from_nf4),
        "int8": ({"quant_method": "bitsandbytes"}, int8, from_int8),
        "FP8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, fp8, from_fp8),
        "NVFP4": ({"quant_method": "modelopt"}, nvfp4, from_nvfp4),
    }


def in_pieces(read: Callable[[int, int], object]) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, SIZE, PIECE):
            read(start, start + PIECE)

    return run


def medians(runs: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Seconds of this thread for each of `runs`, which take turns; a busy neighbour counts less."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repetitions):
        for run, taken in zip(runs, times, strict=True):
            start = time.thread_time()
            run()
            taken.append(time.thread_time() - start)
    return [statistics.median(taken) for taken in times]


def compare(folder: Path, repetitions: int) -> None:
    print("decoded to float32 and moved into blocks, million weights a second")
    print(f"{'':>8}  {'numpy':>6}  {'native':>6}  {'':>6}  {'moved':>6}")
    for name, (quantization, tensors, reference) in cases(np.random.default_rng(0)).items():
        named = {f"a.{end}": content for end, content in tensors.items()}
        write_packed(folder / name, named, {"quantization_config": quantization})
        (weight,) = weights_of(Checkpoint.open(folder / name)).values()
        arrays = {end: array for end, (_, array) in tensors.items()}
        runs: list[Callable[[], object]] = [partial(reference, arrays), in_pieces(weight.rows)]
        if weight.type.is_quantized:
            runs.append(in_pieces(weight.raw))
        np.testing.assert_allclose(weight.rows(0, SIZE), reference(arrays), rtol=1e-6)
        numpy, native, *moved = (SIZE * SIZE / t / 1e6 for t in medians(runs, repetitions))
        told = f"{moved[0]:6.0f}  {weight.type.name}" if moved else ""
        print(f"{name:>8}  {numpy:6.0f}  {native:6.0f}  {native / numpy:5.1f}x  {told}")


def look_for_lattices(folder: Path, repetitions: int) -> None:
    print(
        "lattices in weights of 16 bits: microseconds to reject, million weights a second to move"
    )
    rows = np.random.default_rng(0).normal(0, 0.02, (256, SIZE)).astype(np.float32)
    for lattice in LATTICES:
        values = dequantize_rows(lattice, quantize_rows(lattice, rows))
        for dtype in ("F16", "BF16"):
            name = f"{lattice.name} {dtype}"
            on, off = (
                write_plain(folder / name / str(i), v, dtype) for i, v in enumerate((values, rows))
            )
            assert all_rows(on, lattice) == 256
            found, rejected = medians(
                [
                    partial(all_rows, on, lattice),
                    partial(each_row, off, lattice),
                ],
                repetitions,
            )
            speed = values.size / found / 1e6
            print(f"{name:>10}  {rejected / N_REJECTED * 1e6:6.0f} us  {speed:6.0f}")


def all_rows(weight: Weight, lattice: GgmlType) -> int:
    return fit_rows(weight.rows(0, weight.shape[0]), weight.type, lattice)[1]


def each_row(weight: Weight, lattice: GgmlType) -> None:
    for row in range(N_REJECTED):
        fit_rows(weight.rows(row, row + 1), weight.type, lattice)


def write_plain(folder: Path, values: Floats, dtype: str) -> Weight:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", {"a.weight": values}, dtype)
    return weights_of(Checkpoint.open(folder))["a.weight"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Packed weights: native against numpy.")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.repetitions)
        look_for_lattices(Path(folder), options.repetitions)


if __name__ == "__main__":
    main()
