"""What the worker process takes as the system counts it, against what was predicted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.fit.memory import CPU_RUNTIME_BYTES
from engine.ggml_types import GgmlType
from tests.helpers.headers import header

MIB = 2**20
PROGRAM = """
import sys
from pathlib import Path
from engine.inference import LoadSettings
from engine.jobs import finish
from engine.llama.loading import load_to_fit
loaded = finish(load_to_fit(sys.argv[1], LoadSettings(n_ctx=4096)))
loaded.context.decode([7] * 256)  # so many tokens touch every buffer
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(loaded.predicted_bytes, sum(loaded.taken.values()), int(status["VmRSS"].split()[0]) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it in /proc")
@pytest.mark.parametrize("weights", [GgmlType.Q8_0, GgmlType.Q4_K], ids=lambda t: t.name)
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_the_process_takes_what_was_predicted(
    architecture: str, weights: GgmlType, tmp_path: Path
) -> None:
    """Types that the CPU's kernels rearrange, and such that stay as they are in the file."""
    path = header(architecture, weights).write_sparse(tmp_path / "m.gguf")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    predicted, taken, resident = map(int, done.stdout.split())
    assert abs(taken - predicted) <= max(20 * MIB, predicted // 100)
    predicted += CPU_RUNTIME_BYTES
    assert abs(resident - predicted) <= max(150 * MIB, predicted * 3 // 100)
