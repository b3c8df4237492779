"""What is put before ggml's files for GCC: the whole configuration of AMX's tiles is stored."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HEADER = Path(__file__).parents[2] / "native" / "llama" / "amx.h"
SOURCE = """
#include <immintrin.h>
#define TILE 3
struct alignas(64) Config {
    unsigned char palette = 1, start = 0, reserved[14] = {};
    unsigned short n_bytes[16] = {};
    unsigned char n_rows[16] = {};
};
void configure() {
    Config config;
    config.n_rows[7] = 119;
    _tile_loadconfig(&config);
}
void fill(char (&tile)[64]) {
    tile[9] = 121;
    _tile_loadd(TILE, tile, 64);
    tile[9] = 0;
}
"""


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"} or not shutil.which("g++"),
    reason="for GCC on x86-64",
)
def test_gcc_leaves_nothing_out_that_tiles_are_made_of(tmp_path: Path) -> None:
    (tmp_path / "tiles.cpp").write_text(SOURCE)
    flags = ["-std=c++17", "-O3", "-mamx-tile", "-include", str(HEADER)]
    command = ["g++", *flags, "-S", "-o", "-", str(tmp_path / "tiles.cpp")]
    assembly = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "$119," in assembly
    assert "$121," in assembly
    assert "%tmm3" in assembly
