"""Makes the folder that every package of Snug carries, and tries it: `make bundle`.

    .venv/bin/python packaging/bundle.py BUILD [--backends cpu|vulkan|metal] [--jobs N]
        [--vulkan-headers FOLDER]

BUILD keeps what is made on the way, so the second time is quick; the folder is BUILD/dist/snug.
Steps: llama.cpp with every backend a module (native/llama/), Snug as a wheel for any computer of
this kind, an environment with what is shipped and no more, PyInstaller (app.spec), licences and the
list of parts (notices.py), and what comes out is started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import notices
import setup
import system

ROOT = setup.ROOT
sys.path.append(str(ROOT / "packaging" / "linux"))
import vulkan_headers  # noqa: E402
from libraries import not_found  # noqa: E402

BACKENDS = "metal" if sys.platform == "darwin" else "vulkan"
CLANG = ROOT / "packaging" / "windows" / "llvm.cmake"
BINDING_NEEDS = ("diskcache", "typing-extensions")
SAME_BYTES = 4096
"""Files of fewer bytes may be in the folder twice."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path)
    parser.add_argument("--backends", default=BACKENDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--vulkan-headers", type=Path, help="newer ones than the system's")
    args = parser.parse_args()
    try:
        folder = make_bundle(args)
    except (setup.Failed, system.Missing) as problem:
        print(problem, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in folder.rglob("*") if not path.is_symlink())
    print(f"{folder}: {size / 1e6:.0f} MB, works.")
    return 0


def make_bundle(args: argparse.Namespace) -> Path:
    """Returns the folder; raises setup.Failed, and system.Missing."""
    system.provide(system.missing_for_bundle(args.backends), setup.STATE / "system.log")
    build = args.build.resolve()
    build.mkdir(parents=True, exist_ok=True)
    source = setup.unpacked_source("llama-cpp-python")
    libraries = compile_llama(source / "vendor" / "llama.cpp", build, args)
    wheels = build / "wheels"
    build_wheels(source, build, wheels)
    python = make_environment(build / "venv", wheels, libraries)
    folder = freeze(python, build)
    link_what_is_twice(folder)
    strip(folder)
    if sys.platform == "linux":
        check_libraries(folder)
    notices.write(build, folder, source)
    try_out(folder)
    return folder


def compile_llama(source: Path, build: Path, args: argparse.Namespace) -> Path:
    """Returns the folder with libllama, ggml and its modules."""
    libraries = build / "libraries"
    shutil.rmtree(libraries, ignore_errors=True)
    script = ROOT / "native" / "llama" / "build.py"
    command: list[str | Path] = [setup.PYTHON, script, source, build / "llama", libraries]
    command += ["--preset", args.backends, "--jobs", str(args.jobs)]
    headers = args.vulkan_headers
    if sys.platform == "linux" and args.backends == "vulkan" and not headers:
        headers = vulkan_headers.new_enough(build)
    if headers:
        command += ["--vulkan-headers", headers.resolve()]
    words = [str(word) for word in command]
    toolchain = {"CMAKE_TOOLCHAIN_FILE": CLANG.as_posix()} if os.name == "nt" else {}
    print(f"Compiling llama.cpp for packages ({args.backends}).", flush=True)
    setup.run_quietly(words, "Compiling llama.cpp", "package-llama", **toolchain)
    return libraries


def build_wheels(source: Path, build: Path, wheels: Path) -> None:
    """Snug's own, and llama-cpp-python without a library: those of `compile_llama` replace it."""
    shutil.rmtree(wheels, ignore_errors=True)
    command = [*setup.pip(), "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    for title, what, definitions in (
        ("Building Snug's wheel", ROOT, {"SNUG_NATIVE": "OFF"}),
        ("Building the binding", source, {"LLAMA_BUILD": "OFF", "LLAVA_BUILD": "OFF"}),
    ):
        settings = [f"cmake.define.{name}={value}" for name, value in definitions.items()]
        settings.append(f"build-dir={build / 'wheel-builds' / what.name}")
        options = [word for setting in settings for word in ("--config-settings", setting)]
        print(f"{title}.", flush=True)
        setup.run_quietly([*command, *options, str(what)], title, "package-wheels", CMAKE_ARGS="")


def make_environment(venv: Path, wheels: Path, libraries: Path) -> Path:
    """Returns the Python of an environment with what is shipped and PyInstaller."""
    python = venv / setup.PYTHON.relative_to(setup.VENV)
    wanted = [*setup.requirements("package"), *BINDING_NEEDS]
    names = [name for name in wanted if not name.startswith("llama-cpp-python")]
    stamp, key = venv / "done", setup.digest(setup.CONSTRAINTS.read_text("utf-8"), *names)
    pip = [str(python), "-m", "pip", "install", "--no-input", "-c", str(setup.CONSTRAINTS)]
    if not stamp.exists() or stamp.read_text() != key:
        print("Installing what is shipped.", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        make = [str(setup.PYTHON), "-m", "venv", str(venv)]
        setup.run_quietly(make, "Making an environment", "package-venv")
        setup.run_quietly([*pip, *names], "Installing what is shipped", "package-venv")
        stamp.write_text(key)
    ours = [str(wheel) for wheel in wheels.glob("*.whl")]
    again = [*pip, "--no-deps", "--force-reinstall", *ours]
    setup.run_quietly(again, "Installing Snug", "package-venv")
    (binding,) = venv.rglob("llama_cpp/llama_cpp.py")
    shutil.rmtree(binding.parent / "lib", ignore_errors=True)
    shutil.copytree(libraries, binding.parent / "lib")
    return python


def freeze(python: Path, build: Path) -> Path:
    """Runs PyInstaller."""
    print("Freezing.", flush=True)
    command = [str(python), "-m", "PyInstaller", "--noconfirm", "--clean"]
    command += ["--distpath", str(build / "dist"), "--workpath", str(build / "work")]
    spec = str(ROOT / "packaging" / "app.spec")
    setup.run_quietly([*command, spec], "Freezing", "package-freeze")
    return build / "dist" / "snug"


def link_what_is_twice(folder: Path) -> None:
    """Replaces a second file of the same bytes by a link to the first, where there are links."""
    if os.name == "nt":
        return
    first: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size < SAME_BYTES:
            continue
        kept = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if kept is not path:
            path.unlink()
            path.symlink_to(os.path.relpath(kept, path.parent))


def strip(folder: Path) -> None:
    """Takes the symbols for debugging out of libpython, and of nothing else: some libraries of
    wheels were laid out by a tool after their linking, and do not load any more once stripped."""
    if sys.platform == "linux":
        for library in folder.rglob("libpython3*.so*"):
            if not library.is_symlink():
                subprocess.run(["strip", "--strip-unneeded", str(library)], check=True)


def check_libraries(folder: Path) -> None:
    """Raises setup.Failed for a library that is neither in `folder` nor on every computer."""
    if missing := not_found(folder):
        lines = [f"{name}, for {', '.join(who)}" for name, who in missing.items()]
        raise setup.Failed("\n".join(["Libraries are missing from the bundle:", *lines]))


def try_out(folder: Path) -> None:
    """Starts the window's program as an installer does after installing it."""
    suffix = ".exe" if os.name == "nt" else ""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [str(folder / f"snug{suffix}"), "--selftest"],
        env=environment,
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise setup.Failed(f"What was made does not work:\n{done.stdout}\n{done.stderr}")
    report = json.loads(done.stdout)["engine"]
    print(f"It answers: {report['answer']}")


if __name__ == "__main__":
    sys.exit(main())
