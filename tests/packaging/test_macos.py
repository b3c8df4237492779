"""What is signed of a Mac's app bundle, and in which order; with a codesign that takes notes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "macos" / "sign.sh"
# The head of a 64-bit library for Apple's processors: magic, processor, its kind, dynamic library.
MACH_O = struct.pack("<IIII", 0xFEEDFACF, 0x0100000C, 0, 6) + bytes(16)
CODE = (
    "MacOS/snug-engine",
    "Frameworks/libllama.dylib",
    "Frameworks/numpy/_core.so",
    "Frameworks/Python.framework/Versions/3.11/Python",
    "Frameworks/PySide6/Qt/lib/QtCore.framework/Versions/A/QtCore",
)
FRAMEWORKS = ("Frameworks/Python.framework", "Frameworks/PySide6/Qt/lib/QtCore.framework")


@pytest.mark.skipif(not shutil.which("file") or os.name == "nt", reason="needs file and bash")
def test_all_code_is_signed_before_what_holds_it(tmp_path: Path) -> None:
    contents = tmp_path / "Snug.app" / "Contents"
    for name in (*CODE, "MacOS/snug"):
        (contents / name).parent.mkdir(parents=True, exist_ok=True)
        (contents / name).write_bytes(MACH_O)
    (contents / "Resources").mkdir()
    (contents / "Resources" / "notes.dylib.txt").write_text("not a program")
    current = contents / "Frameworks/Python.framework/Versions/Current"
    current.symlink_to("3.11")

    signed = run(tmp_path, contents.parent)
    assert signed.pop() == "--verify --deep --strict Snug.app"
    assert signed.pop() == "--force --sign ME --options runtime Snug.app"
    places = [line.removeprefix("--force --sign ME --options runtime ") for line in signed]
    wanted = {f"Snug.app/Contents/{name}" for name in (*CODE, *FRAMEWORKS)}
    assert set(places) == wanted
    assert len(places) == len(wanted)
    for place in places:
        inside = [places.index(other) for other in places if other.startswith(f"{place}/")]
        assert all(index < places.index(place) for index in inside)


@pytest.mark.skipif(not shutil.which("file") or os.name == "nt", reason="needs file and bash")
def test_what_cannot_be_signed_ends_it(tmp_path: Path) -> None:
    library = tmp_path / "Snug.app" / "Contents" / "Frameworks" / "refused.dylib"
    library.parent.mkdir(parents=True)
    library.write_bytes(MACH_O)
    with pytest.raises(subprocess.CalledProcessError):
        run(tmp_path, tmp_path / "Snug.app")


def run(folder: Path, app: Path) -> list[str]:
    """Signs `app` and returns what codesign was asked, a line each; places begin at `folder`."""
    notes = folder / "notes"
    codesign = folder / "bin" / "codesign"
    codesign.parent.mkdir()
    codesign.write_text(
        f'#!/bin/sh\necho "$*" >> "{notes}"\ncase "$*" in *refused*) exit 1;; esac\n'
    )
    codesign.chmod(0o755)
    environment = {**os.environ, "PATH": f"{codesign.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [str(SCRIPT), str(app), "--sign", "ME", "--options", "runtime"]
    subprocess.run(command, env=environment, check=True)
    return notes.read_text().replace(f"{folder}/", "").splitlines()
