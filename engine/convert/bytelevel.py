"""Byte-level BPE (GPT-2, Llama 3, Qwen, ...): its pieces, and which pre-tokenizer it has.

llama.cpp knows pre-tokenizers by name. Ours is found by what tokenizer.json says it does, so a
fine-tune that added tokens is still recognised; llama.cpp's converter goes by a hash of the output.
Source of names and expressions: llama.cpp src/llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.convert.pieces import Pieces, TokenType, damaged, read_merges, vocabulary_texts
from engine.errors import UnsupportedTokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CASED = r"[^\r\n\p{L}\p{N}]?" + _UPPER + "*" + _LOWER + "+"
_CAPITAL = r"[^\r\n\p{L}\p{N}]?" + _UPPER + "+" + _LOWER + "*"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = _CASED + _ENDING + "|" + _CAPITAL + _ENDING + r"|\p{N}{1,3}" + _REST
TEKKEN = _CASED + "|" + _CAPITAL + r"|\p{N}" + _REST
CJK_KANA = "[一-龥\u3040-ゟ゠-ヿ]+"
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
DEEPSEEK_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
DIGIT, DIGITS = r"\p{N}", r"\p{N}+"
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295"
    "-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-"
    "\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
    "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00"
    "-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f"
    "-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6"
    "-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119"
    "-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680"
    "-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
    ""
)
DEEPSEEK_LLM = (
    "[\r\n]",
    r"\s?[" + _DEEPSEEK_LETTERS + "]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    DEEPSEEK_CJK,
    DIGIT,
)

# What the pre-tokenizer splits by, step by step -> (name if ignore_merges, name if not). The name
# of the second column has the same expression and goes by the merges alone.
PRE_TOKENIZERS: dict[tuple[str, ...], tuple[str | None, str | None]] = {
    (LLAMA3,): ("llama-bpe", "smaug-bpe"),
    (GPT2,): (None, "gpt-2"),
    (QWEN2,): (None, "qwen2"),
    (QWEN35,): (None, "qwen35"),
    (GPT4O,): (None, "gpt-4o"),
    (TEKKEN,): ("tekken", None),
    (DIGIT, GPT2): (None, "smollm"),
    (r"\p{N}{1,3}", CJK_KANA, DEEPSEEK3): (None, "deepseek-v3"),
    ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, DIGIT): (None, "deepseek-coder"),
    DEEPSEEK_LLM: (None, "deepseek-llm"),
}


def byte_level_pieces(
    tokenizer: Mapping[str, Any], model: Mapping[str, Any], n_vocab: int
) -> Pieces:
    """Read a byte-level BPE tokenizer.json; raises UnsupportedTokenizer, CorruptFile."""
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise _unsupported(f"a BPE with {option}")
    texts = vocabulary_texts(model, n_vocab)
    merges = [f"{left.replace(' ', 'Ġ')} {right.replace(' ', 'Ġ')}" for left, right in
              read_merges(model)]  # fmt: skip
    return Pieces(
        model="gpt2",
        pre=pre_tokenizer_name(tokenizer, model.get("ignore_merges") is True),
        texts=texts,
        types=[int(TokenType.NORMAL if text else TokenType.UNUSED) for text in texts],
        merges=merges,
    )


def pre_tokenizer_name(tokenizer: Mapping[str, Any], ignore_merges: bool) -> str:
    """llama.cpp's name for the pre-tokenizer of `tokenizer`; raises UnsupportedTokenizer."""
    _check_normalizer(tokenizer.get("normalizer"))
    steps = tuple(_splits(tokenizer.get("pre_tokenizer")))
    with_flag, without = PRE_TOKENIZERS.get(steps, (None, None))
    name = with_flag if ignore_merges else without
    if name is None:
        raise _unsupported("this way of splitting text", "; ".join(steps)[:500])
    return name


def _splits(pre_tokenizer: Any) -> list[str]:
    """The expressions that `pre_tokenizer` isolates one after the other."""
    if not isinstance(pre_tokenizer, dict):
        raise _unsupported("no pre-tokenizer")
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        steps = pre_tokenizer.get("pretokenizers")
        if not isinstance(steps, list):
            raise damaged("its pre-tokenizer is malformed")
        return [split for step in steps for split in _splits(step)]
    if kind == "ByteLevel":
        if pre_tokenizer.get("add_prefix_space"):
            raise _unsupported("a space before every text")
        return [GPT2] if pre_tokenizer.get("use_regex", True) else []
    if kind == "Digits":
        return [DIGIT if pre_tokenizer.get("individual_digits") else DIGITS]
    if kind == "Split":
        pattern = pre_tokenizer.get("pattern")
        is_isolated = pre_tokenizer.get("behavior") == "Isolated"
        if not isinstance(pattern, dict) or not isinstance(pattern.get("Regex"), str):
            raise _unsupported("a split at a fixed text")
        if not is_isolated or pre_tokenizer.get("invert"):
            raise _unsupported(f"a split that is {str(pre_tokenizer.get('behavior'))[:20]}")
        return [pattern["Regex"]]
    raise _unsupported(f"the pre-tokenizer {str(kind)[:40]}")


def _check_normalizer(normalizer: Any) -> None:
    """llama.cpp's BPE normalizes nothing; NFC changes nothing in text that is typed."""
    if normalizer is None:
        return
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if kind == "Sequence" and not normalizer.get("normalizers"):
        return
    if kind != "NFC":
        raise _unsupported(f"the normalizer {str(kind)[:40]}")


def _unsupported(what: str, details: str = "") -> UnsupportedTokenizer:
    return UnsupportedTokenizer(
        f"Snug does not know this tokenizer: a byte-level BPE with {what}.",
        hint="Look for a GGUF of this model, or for the checkpoint it was fine-tuned from.",
        details=details,
    )
