"""Tries packages as their users do: `make package-test`. Needs root, and what Debian has of tools.

`--build` is the folder in which `make package` made them; pictures of the windows come there too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "linux"), str(Path(__file__).parent)]
sys.path.append(str(Path(__file__).parents[1]))
import setup  # noqa: E402
import system  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--build", type=Path, default=Path("build/package"))


def pytest_sessionstart() -> None:
    try:
        system.provide(system.missing_for_trials(), setup.STATE / "system.log")
    except system.Missing as problem:
        pytest.exit(str(problem), returncode=1)


@pytest.fixture(scope="session")
def build(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--build").resolve()
    assert folder.is_dir(), f"{folder} is not there: `make package` makes it"
    return folder


@pytest.fixture(scope="session")
def bundle(build: Path) -> Path:
    return build / "dist" / "snug"


@pytest.fixture(scope="session")
def pictures(build: Path) -> Path:
    folder = build / "pictures"
    folder.mkdir(exist_ok=True)
    return folder
