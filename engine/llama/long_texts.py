"""Texts in pieces that are short enough for llama.cpp's regular expressions.

A byte-level BPE splits text by expressions. llama.cpp has code of its own for those of most models
(src/unicode.cpp, unicode_regex_split_custom) and takes std::regex for the others, which calls
itself for every character of a match: 50,000 letters without a break overflow the stack and end the
process. Cut where these expressions break a text anyway, the pieces have the same tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 8192
"""Characters of a piece."""

# The pre-tokenizers (tokenizer.ggml.pre) whose expressions llama.cpp has code for, or that match a
# few characters at most. Source: llama.cpp src/llama-vocab.cpp, llm_tokenizer_bpe.
BEAR_ANY_LENGTH = frozenset({
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "glm5",
    "mpt", "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de",
    "a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "olmo", "jais",
    "exaone4", "trillion", "granite-docling",
    "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2",
    "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan",
    "solar-open", "grok-2", "qwen35", "laguna", "kimi-k2",
    "gemma4", "granite-embed-multi-311m", "sarvam-moe",
})  # fmt: skip

# After a letter or a digit: a mark ends every word, white space nearly every one.
_BREAKS = (
    re.compile(r"(?<=[^\W_])(?=[\r\n,.!?()…。，、])"),
    re.compile(r"(?<=[^\W_])(?=\s)"),
)


def short_pieces(text: str) -> Iterator[str]:
    """`text` in pieces of LONGEST characters at most; words of more are cut somewhere."""
    start = 0
    while len(text) - start > LONGEST:
        stop = start + LONGEST
        for pattern in _BREAKS:
            *_, last = (start, *(m.end() for m in pattern.finditer(text, start + 1, stop)))
            if last > start:
                stop = last
                break
        yield text[start:stop]
        start = stop
    yield text[start:]
