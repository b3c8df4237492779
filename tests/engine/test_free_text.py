"""What a model writes by itself is the same each time, also if it was broken off."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.jobs import finish
from engine.llama import free_text
from engine.llama.free_text import write_freely
from engine.llama.model import load_model

N_TEXTS, N_TOKENS = 5, 24


def test_it_goes_on_from_what_was_kept(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_text, "N_AT_ONCE", 2)
    model = finish(load_model(tiny_gguf))
    try:
        kept: list[list[list[int]]] = []

        def write(begun: list[list[int]]) -> list[list[int]]:
            kept.clear()
            texts = write_freely(
                model, N_TEXTS, N_TOKENS, 1, begun, lambda texts: kept.append([*texts])
            )
            return finish(texts)

        texts = write([])
        assert [len(some) for some in kept] == [2, 4, 6]
        assert kept[-1][:N_TEXTS] == texts and all(len(text) == N_TOKENS for text in texts)
        assert len({tuple(text) for text in texts}) == N_TEXTS
        for some in [*kept]:
            assert write(some) == texts
            assert len(kept) == 3 - len(some) // 2  # what was there is not written again
    finally:
        model.close()
