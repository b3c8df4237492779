"""Set-up: what is done again after which change, and what is said when it cannot go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import setup
import system

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the digests read, with a stand-in for the virtual environment."""
    shutil.copytree(ROOT / "native", tmp_path / "native")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    venv = tmp_path / ".venv"
    (venv / "setup").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("version = 3.11.7\n")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", venv)
    monkeypatch.setattr(setup, "STATE", venv / "setup")
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(setup, "CONSTRAINTS", tmp_path / "constraints.txt")
    monkeypatch.setattr(setup, "LLAMA_ONLY", tmp_path / "native" / "llama_cpp_only.cmake")
    return tmp_path


def keys() -> dict[str, str]:
    return {
        "packages": setup.packages_key(),
        "llama-cpp": setup.llama_key(),
        "native": setup.native_key(),
    }


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("file", "text", "steps"),
    [
        ("native/kl_divergence.cpp", "// changed\n", {"native"}),
        ("native/llama_cpp_only.cmake", "# changed\n", {"llama-cpp"}),
        ("native/llama/amx.h", "// changed\n", {"llama-cpp"}),
        ("constraints.txt", "another==1.0\n", {"packages"}),
        ("pyproject.toml", "# changed\n", {"native"}),
        (".venv/pyvenv.cfg", "version = 3.12.1\n", {"packages", "llama-cpp", "native"}),
    ],
)
def test_a_change_repeats_only_what_depends_on_it(
    checkout: Path, file: str, text: str, steps: set[str]
) -> None:
    before = keys()
    append(checkout / file, text)
    after = keys()
    assert {step for step, key in after.items() if key != before[step]} == steps


def test_a_step_is_done_once_its_stamp_says_so(checkout: Path) -> None:
    assert not setup.is_done("native", setup.native_key())
    setup.mark_done("native", setup.native_key())
    assert setup.is_done("native", setup.native_key())
    append(checkout / "native" / "module.cpp", "// changed\n")
    assert not setup.is_done("native", setup.native_key())


def test_another_backend_compiles_llama_cpp_again(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys()
    monkeypatch.setenv("BACKEND", "vulkan")
    vulkan = keys()
    assert {step for step, key in vulkan.items() if key != before[step]} == {"llama-cpp"}
    monkeypatch.setenv("BACKEND", "cuda")
    assert keys()["llama-cpp"] not in (before["llama-cpp"], vulkan["llama-cpp"])
    monkeypatch.setenv("BACKEND", "")
    assert keys() == before


@pytest.mark.skipif(not shutil.which("make"), reason="by make, as at the desk")
def test_make_tells_of_a_backend_that_is_not_known() -> None:
    done = subprocess.run(
        ["make", "run", "BACKEND=abacus"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "BACKEND can be vulkan, cuda, or nothing" in done.stderr


def test_a_backend_asks_for_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDACXX", "VULKAN_SDK"):
        monkeypatch.delenv(name, raising=False)
    assert system.missing_for_backend("") == []
    assert system.missing_for_backend("cuda") == [system.NVCC]
    monkeypatch.setenv("VULKAN_SDK", str(tmp_path))  # it has everything
    assert system.missing_for_backend("vulkan") == []


def test_old_headers_of_vulkan_are_told_before_anything_is_compiled(tmp_path: Path) -> None:
    header = tmp_path / "vulkan_core.h"
    system.require_new_headers(header)  # none: its package is told
    header.write_text("// Version of this file\n#define VK_HEADER_VERSION 309\n")
    system.require_new_headers(header)
    header.write_text("// Version of this file\n#define VK_HEADER_VERSION 239\n")
    with pytest.raises(system.Missing, match=r"1\.3\.239, and 1\.3\.275 or newer"):
        system.require_new_headers(header)


def test_every_requirement_is_pinned() -> None:
    for requirement in setup.requirements("build", "dev", "package"):
        name = requirement.split(">")[0].lower()
        assert setup.pinned(name)


@pytest.mark.usefixtures("checkout")
def test_a_failure_shows_the_end_of_the_log_and_where_it_is() -> None:
    noise = "print(*range(100), sep='\\n'); raise SystemExit(3)"
    with pytest.raises(setup.Failed) as failure:
        setup.run_quietly([sys.executable, "-c", noise], "Compiling", "noise")
    words = str(failure.value)
    assert "Compiling failed" in words
    assert str(setup.STATE / "noise.log") in words
    assert "\n99\n" in words
    assert "\n50\n" not in words


def test_progress_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Configuring\n")
    assert setup.steps_done(log) == ""
    log.write_text("  [1/83] Building C object\n  [34/83] Building CXX object x[2]\n")
    assert setup.steps_done(log) == ": 34 of 83"


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")
@pytest.mark.usefixtures("checkout")
def test_an_interruption_ends_the_compilers_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    write_pid = f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()) + ' ')"
    child = f"import os, pathlib, time; {write_pid}; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    compiler = psutil.Process(int(pid_file.read_text()))
    setup.end_with_children(process)
    assert process.returncode == -signal.SIGTERM
    while is_alive(compiler) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(compiler)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt", "sudo apt install g++ libegl1"),
        ("dnf", "sudo dnf install gcc-c++ libglvnd-egl"),
        ("pacman", "sudo pacman -S --needed gcc libglvnd"),
        ("zypper", "sudo zypper install Mesa-libEGL1 gcc-c++"),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one command")
def test_what_is_missing_comes_with_its_command(manager: str, command: str) -> None:
    needs = [system.COMPILER, system.QT_LIBRARIES["libEGL.so.1"]]
    sentence = system.how_to_install(needs, manager)
    assert sentence == f"Snug needs a C++ compiler and libEGL; install with: {command}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a list of Linux libraries")
def test_a_missing_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    need = system.Need("libnothing", "nothing1", "nothing", "nothing", "nothing")
    monkeypatch.setitem(system.QT_LIBRARIES, "libnothing-of-the-kind.so.9", need)
    assert need in system.missing_for_qt()
