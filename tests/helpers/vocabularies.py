"""Converted vocabularies in llama.cpp, without a model, and the texts they disagree on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from engine.convert.tokenizer import Vocabulary
from engine.gguf import write_gguf
from engine.gguf_values import Value
from engine.llama.library import library


class LlamaTokenizer:
    """llama.cpp's tokenizer of a GGUF that holds a vocabulary and nothing else."""

    def __init__(self, path: Path) -> None:
        self._c = library().c
        params = self._c.llama_model_default_params()
        params.vocab_only = True
        self._model = self._c.llama_model_load_from_file(os.fsencode(path), params)
        assert self._model, "\n".join(library().log_lines)
        self.vocabulary = self._c.llama_model_get_vocab(self._model)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The tokens of `text`, none around it."""
        data = text.encode()
        tokens = (ctypes.c_int32 * (2 * len(data) + 8))()
        n = self._c.llama_tokenize(
            self.vocabulary, data, len(data), tokens, len(tokens), False, special
        )
        assert n >= 0
        return list(tokens[:n])

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(self.encode, texts))

    def close(self) -> None:
        self._c.llama_model_free(self._model)


@contextmanager
def in_llama(vocabulary: Vocabulary, path: Path) -> Iterator[LlamaTokenizer]:
    """`vocabulary` written to the GGUF `path` and loaded by llama.cpp."""
    metadata = {"general.architecture": Value.string("llama"), **vocabulary.metadata()}
    with write_gguf(path, metadata, [], overwrite=True):
        pass
    tokenizer = LlamaTokenizer(path)
    try:
        yield tokenizer
    finally:
        tokenizer.close()
