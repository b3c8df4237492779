"""The workflow that builds the packages agrees with what it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "packages.yml").read_text("utf-8"))
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_every_action_is_one_commit() -> None:
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in used)


@pytest.mark.parametrize("job", JOBS)
def test_what_a_job_runs_is_there(job: str) -> None:
    scripts = re.findall(r"packaging[/\\][\w/\\]+\.(?:py|sh)", commands(job))
    assert all((ROOT / script.replace("\\", "/")).is_file() for script in scripts)
    assert scripts or "make package" in commands(job)


def test_every_package_has_a_backend_for_graphics() -> None:
    """`make package` takes Vulkan by itself."""
    for job, words in (
        ("linux", "make package"),
        ("windows", "--backends vulkan"),
        ("macos", "--backends metal"),
    ):
        assert words in commands(job)
        assert "--backends cpu" not in commands(job)


def test_macos_is_built_for_the_oldest_that_the_bundle_names() -> None:
    spec = (ROOT / "packaging" / "app.spec").read_text("utf-8")
    found = re.search(r'"LSMinimumSystemVersion": "([\d.]+)"', spec)
    assert found
    assert JOBS["macos"]["env"]["MACOSX_DEPLOYMENT_TARGET"] == found[1]
