"""What is put before ggml's files for GCC: the whole configuration of AMX's tiles is stored."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
HEADER = NATIVE / "llama" / "amx.h"
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


pytestmark = pytest.mark.skipif(
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


def test_it_goes_before_files_of_cpp_and_no_others(tmp_path: Path) -> None:
    """As both builds of llama.cpp ask for it, also where there are spaces in the name."""
    folder = tmp_path / "with spaces"
    folder.mkdir()
    for name in ("amx.cmake", "amx.h"):
        shutil.copy(NATIVE / "llama" / name, folder)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(tried LANGUAGES C CXX)\n"
        "include(amx.cmake)\nadd_library(tried STATIC one.c two.cpp)\n"
    )
    for name in ("one.c", "two.cpp"):
        (folder / name).write_text("int unused;\n")
    build = tmp_path / "build"
    configure = ["cmake", "-G", "Ninja", "-S", str(folder), "-B", str(build)]
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    settings = ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_CXX_COMPILER=g++"]
    subprocess.run([*configure, *settings], check=True, capture_output=True, env=os.environ | path)
    commands = json.loads((build / "compile_commands.json").read_text())
    of = {Path(command["file"]).name: shlex.split(command["command"]) for command in commands}
    assert of["two.cpp"][of["two.cpp"].index("-include") + 1] == str(folder / "amx.h")
    assert "-include" not in of["one.c"]
    for file in (NATIVE / "llama_cpp_only.cmake", NATIVE / "llama" / "CMakeLists.txt"):
        assert "amx.cmake" in file.read_text()
