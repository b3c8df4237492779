"""The rules of the house that a reader relies on: what may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """(file, top-level package) of every import below `folder`, also those inside functions."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        name = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield name, node.module.split(".")[0]


def test_the_engine_knows_no_window() -> None:
    assert not [use for use in imports("engine") if use[1] in ("PySide6", "shiboken6", "app")]


def test_only_engine_llama_speaks_to_llama_cpp() -> None:
    uses = [*imports("app"), *imports("engine")]
    users = {file for file, name in uses if name == "llama_cpp"}
    assert users
    assert all(file.startswith("engine/llama/") for file in users), users


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("engine.worker", {"PySide6"}),
        ("engine.client", {"PySide6", "numpy", "llama_cpp"}),
        ("app.window", {"numpy", "llama_cpp", "huggingface_hub", "pygments"}),
    ],
)
def test_an_import_stays_light(module: str, absent: set[str]) -> None:
    """In a process of its own, because this one has everything loaded."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not absent & set(done.stdout.split())


def test_every_file_is_a_page_or_two() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for part in ("app", "engine")
        for file in (ROOT / part).rglob("*.py")
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 420
    }
    assert not long
