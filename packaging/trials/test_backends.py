"""The backends of a bundle: only ours, each once, and all of the processor's give one answer."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.processes import LIBRARY_VARIABLES

EVIL = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void planted(void) {
    FILE *file = fopen(getenv("SNUG_PLANTED"), "a");
    if (file) { fputs("I ran\\n", file); fclose(file); }
}
int ggml_backend_score(void) { return 1000000; }
void *ggml_backend_init(void) { return 0; }
"""


def selftest(bundle: Path, cwd: Path, **environment: str) -> Any:
    done = subprocess.run(
        [str(bundle / "snug-engine"), "selftest", "--json"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules(bundle: Path) -> list[Path]:
    return sorted((bundle / "_internal" / "llama_cpp" / "lib").glob("libggml-cpu-*.so"))


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with libraries that any search for backends, or for llama.cpp, would like best."""
    source = tmp_path / "evil.c"
    source.write_text(EVIL)
    folder = tmp_path / "here"
    folder.mkdir()
    backends = ("cpu-evil", "cpu", "vulkan", "cuda", "blas")
    for name in ("llama", "mtmd", *(f"ggml-{backend}" for backend in backends)):
        library = folder / f"lib{name}.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return folder


def test_a_planted_library_is_never_loaded(bundle: Path, planted: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = planted / "libggml-cpu-evil.so"
    environment = {
        **dict.fromkeys(LIBRARY_VARIABLES, str(planted)),
        "SNUG_PLANTED": str(mark),
        "GGML_BACKEND_PATH": str(evil),
    }
    # The library itself works: loading it leaves its mark.
    loads_it = f"import ctypes; ctypes.CDLL({str(evil)!r})"
    subprocess.run(["python3", "-c", loads_it], env={**os.environ, **environment}, check=True)
    assert mark.read_text() == "I ran\n"
    mark.unlink()
    report = selftest(bundle, planted, **environment)
    subprocess.run(
        [str(bundle / "snug-engine"), "devices"],
        cwd=planted,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    assert not mark.exists()
    assert not [path for path in report["libraries"] if path.startswith(str(planted))]


def test_ggml_is_there_once(bundle: Path, tmp_path: Path) -> None:
    report = selftest(bundle, tmp_path)
    loaded = [Path(path).name for path in report["libraries"] if "_cpp/lib" in path]
    for library in ("libllama.so", "libggml.so", "libggml-base.so"):
        assert loaded.count(library) == 1, loaded
    assert len([name for name in loaded if name.startswith("libggml-cpu-")]) == 1
    assert all(Path(backend["file"]).is_relative_to(bundle) for backend in report["backends"])


def test_libraries_of_the_system_stay_the_system_s(bundle: Path, tmp_path: Path) -> None:
    """An older libstdc++ of ours would keep a newer graphics driver from loading."""
    ours = [path for path in selftest(bundle, tmp_path)["libraries"] if str(bundle) in path]
    assert not [path for path in ours if "libstdc++" in path or "libgcc_s" in path]
    assert not list(bundle.rglob("libstdc++*")) + list(bundle.rglob("libvulkan.so*"))


def test_every_variant_for_this_processor_gives_the_same_answer(
    bundle: Path, tmp_path: Path
) -> None:
    lib = modules(bundle)[0].parent
    ctypes.CDLL(str(lib / "libggml-base.so"))
    can_run = [m for m in modules(bundle) if ctypes.CDLL(str(m)).ggml_backend_score() > 0]
    assert len(can_run) >= 2, "x64 and one more, at the least"
    answers = {}
    for module in can_run:
        copy = tmp_path / module.stem
        shutil.copytree(bundle, copy, symlinks=True, copy_function=os.link)
        for other in modules(copy):
            if other.name != module.name:
                other.unlink()
        report = selftest(copy, tmp_path)
        (used,) = (b["file"] for b in report["backends"] if b["name"] == "CPU")
        assert Path(used).name == module.name
        answers[module.stem] = report["answer"]
    print("tried:", *answers)
    assert len(set(answers.values())) == 1, answers


def kernels_for_this_processor() -> list[str]:
    """As the system sees it, the best one at the end."""
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].split("\n")[0].split())
    names = ["baseline"]
    if {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe"} <= flags:
        names.append("x86_64_v3")
        if {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"} <= flags:
            names.append("x86_64_v4")
    return names


def test_the_best_kernels_for_this_processor_are_used(bundle: Path, tmp_path: Path) -> None:
    assert selftest(bundle, tmp_path)["kernels"] == kernels_for_this_processor()[-1]


def test_every_compilation_of_the_kernels_shrinks_alike(bundle: Path, tmp_path: Path) -> None:
    """Those for newer processors multiply and add in one step: some codes are others, few are."""
    results = {}
    for name in kernels_for_this_processor():
        copy = tmp_path / name
        shutil.copytree(bundle, copy, symlinks=True, copy_function=os.link)
        for module in (copy / "_internal" / "engine" / "_native").glob("*.so"):
            if module.name.partition(".")[0] not in (name, "processor"):
                module.unlink()
        assert selftest(copy, tmp_path)["kernels"] == name
        out = tmp_path / f"{name}.gguf"
        model = copy / "_internal" / "resources" / "starter" / "starter.gguf"
        words = "--type", "Q4_K_M", "--effort", "fast", "--gate", "off", "--out", str(out)
        subprocess.run([str(copy / "snug-engine"), "shrink", str(model), *words], check=True)
        results[name] = np.fromfile(out, np.uint8)
    print("tried:", *results)
    for result in results.values():
        assert len(result) == len(results["baseline"])
        assert (result != results["baseline"]).mean() < 0.02


def test_vulkan_gives_the_processor_s_answer(bundle: Path, tmp_path: Path) -> None:
    """On Mesa's device in software, which llama.cpp takes only when it is asked to."""
    on_cpu = selftest(bundle, tmp_path)
    assert on_cpu["device"] == "CPU"
    on_vulkan = selftest(bundle, tmp_path, GGML_VK_VISIBLE_DEVICES="0")
    (gpu,) = (device for device in on_vulkan["devices"] if device["kind"] == "gpu")
    assert gpu["name"].startswith("Vulkan")
    assert on_vulkan["device"] != "CPU"
    assert on_vulkan["answer"] == on_cpu["answer"]
