"""Makes the pack that lets Snug compute on NVIDIA's cards by CUDA: BUILD/dist/snug-cuda_*.deb.

    .venv/bin/python packaging/linux/cuda.py BUILD [--architectures LIST] [--jobs N]

It holds the module and NVIDIA's libraries that it needs, and goes into the folder of the package
`snug` of the same version, which finds it there. A toolkit of CUDA 12 makes one for drivers from
535 on, one of CUDA 13 for drivers from 580 on. Needs nvcc with cuBLAS, and dpkg-deb.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]
import setup  # noqa: E402
import system  # noqa: E402
from libraries import NEEDED  # noqa: E402
from package import ARCHITECTURES, build_deb, fresh  # noqa: E402

from engine import __version__  # noqa: E402

MODULE = "ggml-cuda"
PLACE = Path("opt/snug/_internal/llama_cpp/lib")
LEFT_TO_OTHERS = {*NEEDED, "libcuda.so.1", "libggml-base.so", "libgomp.so.1"}
"""The system's, the driver's, and what is in the package `snug`."""
CONTROL = """\
Package: snug-cuda
Version: {version}
Architecture: {architecture}
Maintainer: The Snug authors <snug@localhost>
Installed-Size: {size_kib}
Depends: snug (= {version})
Section: utils
Priority: optional
Description: lets Snug compute on NVIDIA's graphics cards by CUDA
 Snug computes on any graphics card that has a Vulkan driver. With this pack it
 uses CUDA on those of NVIDIA, which is faster. Their driver is not in it.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=Path)
    parser.add_argument("--architectures", help="of the cards, as CMake has them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    try:
        needs = [*system.missing_for_backend("cuda"), *system.missing_for_installers()]
        system.provide(needs, setup.STATE / "system.log")
        package = make_pack(args)
    except (setup.Failed, system.Missing) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{package}: {package.stat().st_size / 1e6:.1f} MB")
    return 0


def make_pack(args: argparse.Namespace) -> Path:
    build = args.build.resolve()
    root = fresh(build / "cuda-deb")
    place = root / PLACE
    compile_module(build, place, args)
    add_libraries(place)
    size_kib = sum(path.lstat().st_size for path in root.rglob("*")) // 1024
    architecture = ARCHITECTURES[platform.machine()]
    control = CONTROL.format(version=__version__, architecture=architecture, size_kib=size_kib)
    package = build / "dist" / f"snug-cuda_{__version__}_{architecture}.deb"
    package.parent.mkdir(exist_ok=True)
    return build_deb(root, control, package)


def compile_module(build: Path, place: Path, args: argparse.Namespace) -> None:
    source = setup.unpacked_source("llama-cpp-python") / "vendor" / "llama.cpp"
    script = ROOT / "native" / "llama" / "build.py"
    command = [setup.PYTHON, script, source, build / "llama-cuda", place, "--preset", "cuda"]
    command += ["--only", MODULE, "--jobs", str(args.jobs)]
    if args.architectures:
        command += ["--cuda-architectures", args.architectures]
    print("Compiling llama.cpp's module for CUDA: an hour of several cores.", flush=True)
    setup.run_quietly([str(word) for word in command], "Compiling the module", "package-cuda")


def add_libraries(place: Path) -> None:
    """Copies NVIDIA's libraries that what is in `place` needs, and their licence.

    Raises setup.Failed for one that the toolkit does not have.
    """
    toolkit = Path(shutil.which("nvcc") or os.environ["CUDACXX"]).resolve().parents[1]
    waiting = [place / f"lib{MODULE}.so"]
    while waiting:
        dump = subprocess.run(
            ["readelf", "-d", str(waiting.pop())], capture_output=True, text=True, check=True
        ).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", dump):
            if name in LEFT_TO_OTHERS or (place / name).exists():
                continue
            found = next(iter(sorted(toolkit.rglob(name))), None)
            if not found:
                raise setup.Failed(f"{name} is not in {toolkit}: install all of CUDA's toolkit.")
            shutil.copy(found.resolve(), place / name)
            waiting.append(place / name)
    if licence := next(iter(sorted(toolkit.rglob("EULA.txt"))), None):
        shutil.copy(licence, place / "CUDA-EULA.txt")


if __name__ == "__main__":
    sys.exit(main())
