"""Recommendations for imagined machines and models of real shapes, as reviewed by people.

The table in data/recommendations.txt is what `recommend` says: after a change that is meant, write
it anew with `python -m tests.engine.test_recommend` and read the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.fit.recommend import Recommendation, recommend
from engine.ggml_types import GgmlType
from engine.hardware import Computer, Cpu, Device
from tests.helpers.headers import Header, Sizes, header

TABLE = Path(__file__).parent / "data" / "recommendations.txt"
GIB = 2**30
MODELS = {
    "Qwen2.5 0.5B": ("qwen2", Sizes(24, 896, 4864, 14, 2, 64, 151_936)),
    "Llama 3.2 1B": ("llama", Sizes(16, 2048, 8192, 32, 8, 64, 128_256)),
    "Phi-3 mini 3.8B": ("phi3", Sizes(32, 3072, 8192, 32, 32, 96, 32_064, 4096)),
    "Llama 3.1 8B": ("llama", Sizes(32, 4096, 14336, 32, 8, 128, 128_256)),
    "Qwen2.5 14B": ("qwen2", Sizes(48, 5120, 13824, 40, 8, 128, 152_064)),
    "Qwen3 30B-A3B": ("qwen3moe", Sizes(48, 2048, 768, 32, 4, 128, 151_936, n_experts=128)),
    "Qwen2.5 32B": ("qwen2", Sizes(64, 5120, 27648, 40, 8, 128, 152_064)),
    "Llama 3.1 70B": ("llama", Sizes(80, 8192, 28672, 64, 8, 128, 128_256)),
}


@dataclass(frozen=True)
class Machine:
    """A computer: its memory in GiB, and how much of it is free."""

    name: str
    main_gib: float
    free_gib: float
    gpus_gib: tuple[float, ...] = ()

    def computer(self) -> Computer:
        gpus = tuple(
            Device(f"CUDA{i}", f"Card {i}", "gpu", int(size * GIB), int((size - 0.7) * GIB))
            for i, size in enumerate(self.gpus_gib)
        )
        cpu = Cpu("Imagined", 8, 16, ("AVX2",))
        return Computer(int(self.main_gib * GIB), int(self.free_gib * GIB), cpu, gpus)


MACHINES = (
    Machine("4 GB laptop", 4, 2.2),
    Machine("8 GB laptop", 8, 5),
    Machine("16 GB laptop", 16, 11),
    Machine("32 GB desktop", 32, 26),
    Machine("16 GB, 6 GB card", 16, 11, (6,)),
    Machine("32 GB, 12 GB card", 32, 26, (12,)),
    Machine("64 GB, 24 GB card", 64, 56, (24,)),
    Machine("128 GB, two 24 GB cards", 128, 118, (24, 24)),
)


def advice(machine: Machine, model: str) -> Recommendation:
    architecture, sizes = MODELS[model]
    source = _Source(header(architecture, GgmlType.BF16, sizes))
    return recommend(source, machine.computer())  # type: ignore[arg-type]


class _Source:
    """A model of which only the header exists; `recommend` asks for no more."""

    def __init__(self, whole: Header) -> None:
        self.metadata, self.tensors = whole.metadata, whole.tensors


def table() -> str:
    lines = ["What Snug recommends, by machine (rows) and model (below), and where it would run."]
    for machine in MACHINES:
        lines += ["", machine.name]
        for model in MODELS:
            found = advice(machine, model)
            chosen = next((c for c in found.choices if c.recipe == found.recipe), None)
            said = f"{chosen.recipe:7} {chosen.where}" if chosen else "nothing"
            lines.append(f"    {model:16} {said}")
    return "\n".join(lines) + "\n"


def test_the_table_is_as_it_was_reviewed() -> None:
    assert table() == TABLE.read_text(encoding="utf-8")


def test_nothing_that_does_not_fit_is_recommended() -> None:
    for machine in MACHINES:
        limit_gib = machine.free_gib + sum(machine.gpus_gib)
        for model in MODELS:
            found = advice(machine, model)
            for choice in found.choices:
                if choice.recipe == found.recipe:
                    assert choice.fits and choice.memory.total_bytes < limit_gib * GIB


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
