"""Builds llama.cpp's shared libraries for the packages: every backend a module that is loaded.

    python native/llama/build.py SOURCE BUILD OUT [--preset cpu|vulkan|cuda|metal] [--jobs N]
        [--vulkan-headers FOLDER] [--only LIBRARY] [--cuda-architectures LIST]

SOURCE is the folder of llama.cpp, as the source distribution of llama-cpp-python carries it
(vendor/llama.cpp); BUILD keeps what is compiled, so that an interrupted build goes on; OUT receives
the libraries, one file each, or only the one named. All processors' variants take some 14 minutes
of one core. Vulkan's headers must be of 1.3.275 or newer: FOLDER, with `vulkan` and `spirv` in it,
replaces the system's.
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
    parser.add_argument("--vulkan-headers", type=Path)
    parser.add_argument("--only", help="such as ggml-cuda")
    parser.add_argument("--cuda-architectures", help="others than those of the preset")
    args = parser.parse_args()
    build = str(args.build.resolve())
    configure = ["cmake", "-S", str(HERE), "-B", build, "--preset", args.preset]
    configure += [f"-DLLAMA_SOURCE={args.source.resolve().as_posix()}"]
    if args.vulkan_headers:
        configure += [f"-DVulkan_INCLUDE_DIR={args.vulkan_headers.resolve().as_posix()}"]
    if args.cuda_architectures:
        configure += [f"-DCMAKE_CUDA_ARCHITECTURES={args.cuda_architectures}"]
    target = ["--target", args.only] if args.only else []
    component = ["--component", args.only] if args.only else []
    for command in (
        configure,
        ["cmake", "--build", build, "--parallel", str(args.jobs), *target],
        ["cmake", "--install", build, "--prefix", str(args.out), "--strip", *component],
    ):
        if status := subprocess.run(command, check=False).returncode:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
