"""Records tests/engine/data/upstream: `make record-upstream`, or a few cases by name.

    python -m tests.record [--python PYTHON] [--llama-cpp FOLDER] [--scratch FOLDER] [CASE...]

transformers and llama.cpp's converter get an environment of their own below build/, made the first
time; `--python` and `--llama-cpp` name ones that are there already. llama.cpp itself, which
computes the logits of upstream's files, is the one that Snug runs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import msgspec
import numpy as np

from engine.errors import EngineError
from tests.helpers.llama_logits import exact_logits
from tests.helpers.upstream import RECORDED, Case, case_text
from tests.record.recipes import RECIPES

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "record"
FAR = 1e-4
PACKAGES = ("accelerate", "msgspec", "protobuf", "pyyaml", "sentencepiece", "torch", "transformers")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.record", description="Records the cases.")
    parser.add_argument("--python", type=Path)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--scratch", type=Path, help="keep what is made on the way")
    parser.add_argument("--idle", action="store_true", help="name tensors without an effect")
    parser.add_argument("cases", nargs="*")
    asked = parser.parse_args()
    if unknown := set(asked.cases) - set(RECIPES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    sys.path.insert(0, str(ROOT / "packaging"))
    python = asked.python or environment()
    llama_cpp = asked.llama_cpp or llama_cpp_source()
    names = asked.cases or list(RECIPES)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = asked.scratch or Path(temporary)
        command = [str(python), "-m", "tests.record.inside", str(llama_cpp), str(scratch)]
        options = ["--idle"] if asked.idle else []
        status = subprocess.run([*command, *options, *names], cwd=ROOT, check=False).returncode
        for name in names:
            if (scratch / name / "case.json").is_file():
                finish(name, scratch / name)
    if not asked.cases:
        for stale in set(RECORDED.glob("*.json")) - {RECORDED / f"{name}.json" for name in names}:
            stale.unlink()
    return status


def finish(name: str, scratch: Path) -> None:
    """Add how far llama.cpp is from transformers on upstream's own file, and store the case."""
    case = msgspec.json.decode((scratch / "case.json").read_bytes(), type=Case)
    case = msgspec.structs.replace(case, deviation=deviation(case, scratch / "f32.gguf"))
    far = "" if case.deviation is not None and case.deviation < FAR else "   <- FAR"
    print(f"{name}: llama.cpp is {case.deviation} away{far}", flush=True)
    RECORDED.mkdir(parents=True, exist_ok=True)
    (RECORDED / f"{name}.json").write_text(case_text(case), encoding="utf-8")


def deviation(case: Case, path: Path) -> float | None:
    """Relative to the largest logit, in two digits; None if llama.cpp does not load `path`."""
    try:
        logits = exact_logits(path, case.prompt)[list(case.positions)]
    except EngineError as error:
        print(error, *error.details.splitlines()[-2:], sep="\n    ")
        return None
    expected = case.logits
    return float(f"{np.abs(logits - expected).max() / np.abs(expected).max():.1e}")


def environment() -> Path:
    """The Python of an environment with PACKAGES at their pinned versions."""
    import setup

    python, stamp = HOME / "venv" / "bin" / "python", HOME / "packages.done"
    wanted = [f"{name}=={setup.pinned(name)}" for name in PACKAGES]
    if not stamp.exists() or stamp.read_text() != "\n".join(wanted):
        venv.create(HOME / "venv", clear=True, with_pip=True)
        pins = ["-c", str(ROOT / "constraints.txt")]
        install = ["-m", "pip", "install", "--quiet", *pins, *wanted]
        subprocess.run([str(python), *install], check=True)
        stamp.write_text("\n".join(wanted))
    return python


def llama_cpp_source() -> Path:
    """The llama.cpp within the source of llama-cpp-python, at the version that Snug uses."""
    import setup

    home = HOME / f"llama-cpp-python-{setup.pinned('llama-cpp-python')}"
    if not home.exists():
        source = setup.unpacked_source("llama-cpp-python")
        shutil.move(source, home)
        shutil.rmtree(source.parent)
    return home / "vendor" / "llama.cpp"


if __name__ == "__main__":
    sys.exit(main())
