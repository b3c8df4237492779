"""Builds llama.cpp's shared libraries for the packages: every backend a module that is loaded.

    python native/llama/build.py SOURCE BUILD OUT [--preset cpu|vulkan|cuda|metal] [--jobs N]

SOURCE is the folder of llama.cpp, as the source distribution of llama-cpp-python carries it
(vendor/llama.cpp); BUILD keeps what is compiled, so that an interrupted build goes on; OUT receives
the libraries, one file each. All processors' variants take some 14 minutes of one core.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("build", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    build_llama(args.source, args.build, args.out, args.preset, args.jobs)
    return 0


def build_llama(source: Path, build: Path, out: Path, preset: str, n_jobs: int) -> None:
    """Compiles and installs into `out`; raises subprocess.CalledProcessError."""
    configure = ["cmake", "-S", str(HERE), "-B", str(build), "--preset", preset]
    for command in (
        [*configure, f"-DLLAMA_SOURCE={source.resolve().as_posix()}"],
        ["cmake", "--build", str(build), "--parallel", str(n_jobs)],
        ["cmake", "--install", str(build), "--prefix", str(out), "--strip"],
    ):
        subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
