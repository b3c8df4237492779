"""Which of llama.cpp's pre-tokenizers a tokenizer.json has, told by what it says it does.

A pre-tokenizer cuts text into the words that BPE then works on. llama.cpp knows them by name; its
converter finds the name by a hash of tokens, which every added token can change. Here the steps of
the tokenizer.json are read and looked up. Names and expressions: llama.cpp src/llama-vocab.cpp.
docs/tokenizers.md says how each was compared, and where llama.cpp's differs.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from engine.convert.pieces import damaged, unsupported
from engine.errors import UnsupportedTokenizer

MAX_DEPTH = 4  # of sequences in sequences

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3 = CONTRACTIONS + _WORD + r"|\p{N}{1,3}" + _END
QWEN2 = CONTRACTIONS + _WORD + r"|\p{N}" + _END
QWEN35 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UFAKZEKA = (_WORD + r"|\p{N}" + _END).removeprefix("|")
MINICPM5 = CONTRACTIONS + _WORD + r"|\p{N}+" + _END
BAILING = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
SEED_CODER = CONTRACTIONS + _WORD + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
JAIS2 = LLAMA3.removesuffix(r"\s+(?!\S)|\s+") + "|".join(
    [*(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)), r"\s{1,2}(?!\S)", r"\s{1}"]
)
EXAONE_MOE = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = r"[^\r\n\p{L}\p{N}]?" + _UPPER + "*" + _LOWER + "+"
_CAPITAL = r"[^\r\n\p{L}\p{N}]?" + _UPPER + "+" + _LOWER + "*"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = f"{_CASED}{CONTRACTIONS}?|{_CAPITAL}{CONTRACTIONS}?" + r"|\p{N}{1,3}" + _REST
TEKKEN = f"{_CASED}|{_CAPITAL}" + r"|\p{N}" + _REST
CJK_KANA = "[一-龥\u3040-ゟ゠-ヿ]+"
_ASCII_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_MARKED_WORD = _ASCII_WORD + r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
DEEPSEEK3 = _MARKED_WORD + r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPARK = _MARKED_WORD + r"|[\r\n]|\s+(?!\S)|\s+"
DEEPSEEK_CJK = "[一-龥ࠀ-一가-\ud7ff]+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
DIGIT, DIGITS, THREE_DIGITS = r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"
PUNCTUATION = "punctuation"
NEWLINES = r"[^\n]+|[\n]+"
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
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, DIGIT)
DEEPSEEK_LLM = (
    r"[\r\n]",
    r"\s?[" + _DEEPSEEK_LETTERS + "]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    DEEPSEEK_CJK,
    DIGIT,
)

# Other ways to write the same: a quantifier that gives nothing back never changes a match of these
# expressions, and white space before one line end takes in the line ends before it.
SPELLINGS = (
    (r"'(?i:[sdmt]|ll|ve|re)", CONTRACTIONS),
    ("?+", "?"),
    ("*+", "*"),
    ("++", "+"),
    (r"\s*[\r\n]|", r"\s*[\r\n]+|"),
)
# These leave nothing of a text out, so that "remove what is between the matches" keeps it whole.
COMPLETE = frozenset({GPT2, LLAMA3, QWEN2, QWEN35, GPT4O, TEKKEN})


class Name(msgspec.Struct, frozen=True):
    """llama.cpp's name of a pre-tokenizer: where merges alone decide, and where whole words go
    first ("ignore_merges"). It is the name of those vocabularies only that have the token `mark`.
    """

    merging: str
    whole_words: str = ""
    mark: str = ""
    normalizer: str = ""


# What the pre-tokenizer splits by, step by step -> its names; the first whose conditions hold.
PRE_TOKENIZERS: dict[tuple[str, ...], tuple[Name, ...]] = {
    (GPT2,): (Name("olmo", normalizer="NFC"), Name("gpt-2")),
    (DIGIT, GPT2): (Name("smollm"),),
    (PUNCTUATION, GPT2, DIGITS, "[0-9][0-9][0-9]"): (Name("falcon"),),
    (LLAMA3,): (Name("glm4", mark="[gMASK]"), Name("dbrx", "llama-bpe")),
    (QWEN2,): (Name("deepseek-r1-qwen", mark="<｜begin▁of▁sentence｜>"), Name("qwen2")),
    (QWEN35,): (Name("qwen35"),),
    # llama.cpp's "gpt-4o" tears combining marks off their letters; this one has the same
    # expression without that fault.
    (GPT4O,): (Name("granite-embed-multi-97m"),),
    (TEKKEN,): (Name("tekken"),),
    (THREE_DIGITS, CJK_KANA, DEEPSEEK3): (Name("deepseek-v3"),),
    DEEPSEEK_CODER: (Name("deepseek-coder"),),
    DEEPSEEK_LLM: (Name("deepseek-llm"),),
    (THREE_DIGITS, CJK_KANA, SPARK, DIGIT): (Name("spark2_5"),),
    (THREE_DIGITS, MINICPM5): (Name("minicpm5"),),
    (JAIS2,): (Name("jais-2"),),
    (SEED_CODER,): (Name("seed-coder"),),
    (BAILING,): (Name("bailingmoe"),),
    (EXAONE_MOE,): (Name("exaone-moe"),),
    (UFAKZEKA,): (Name("ufakzeka"),),
    (NEWLINES, QWEN2): (Name("laguna"),),
    (BLOOM,): (Name("bloom"),),
    (BLOOM, DIGIT): (Name("viking"),),
}


def pre_tokenizer_name(
    tokenizer: Mapping[str, Any], tokens: Collection[str], *, is_whole_words: bool
) -> str:
    """llama.cpp's name for the pre-tokenizer of `tokenizer`, whose vocabulary is `tokens`.

    `is_whole_words` is the model's "ignore_merges". Raises UnsupportedTokenizer, CorruptFile.
    """
    normalizer = _normalizer(tokenizer.get("normalizer"))
    steps = tuple(_splits(tokenizer.get("pre_tokenizer")))
    for name in PRE_TOKENIZERS.get(steps) or PRE_TOKENIZERS.get(_respelled(steps), ()):
        if (not name.mark or name.mark in tokens) and name.normalizer in {"", normalizer}:
            # The flag changes tokens only where the merges cannot form one, as in Llama 3's
            # vocabulary, whose expression has a name of either kind.
            return (is_whole_words and name.whole_words) or name.merging
    raise _unsupported("this way of splitting text", "; ".join(steps)[:1000])


def is_byte_level(pre_tokenizer: Any) -> bool:
    """Whether a tokenizer.json's pre-tokenizer turns text into bytes."""
    if not isinstance(pre_tokenizer, dict):
        return False
    steps = pre_tokenizer.get("pretokenizers")
    steps = steps if isinstance(steps, list) else [pre_tokenizer]
    return any(isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps)


def _splits(pre_tokenizer: Any, depth: int = 0) -> list[str]:
    """The expressions that `pre_tokenizer` isolates one after the other."""
    if not isinstance(pre_tokenizer, dict):
        raise _unsupported("no pre-tokenizer")
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        steps = pre_tokenizer.get("pretokenizers")
        if not isinstance(steps, list) or depth > MAX_DEPTH:
            raise damaged("its pre-tokenizer is malformed")
        return [split for step in steps for split in _splits(step, depth + 1)]
    if kind == "ByteLevel":
        if pre_tokenizer.get("add_prefix_space", True):
            raise _unsupported("a space before every text")
        return [GPT2] if pre_tokenizer.get("use_regex", True) else []
    if kind == "Digits":
        return [DIGIT if pre_tokenizer.get("individual_digits") else DIGITS]
    if kind == "Punctuation" and pre_tokenizer.get("behavior") == "Contiguous":
        return [PUNCTUATION]
    if kind == "Split":
        return [_expression(pre_tokenizer)]
    raise _unsupported(f"the pre-tokenizer {str(kind)[:40]}")


def _expression(split: Mapping[str, Any]) -> str:
    pattern = split.get("pattern")
    if not isinstance(pattern, dict) or not isinstance(pattern.get("Regex"), str):
        raise _unsupported("a split at a fixed text")
    expression: str = pattern["Regex"].replace("\r", r"\r").replace("\n", r"\n")
    expression = expression.replace(r"\"", '"')
    way = (split.get("behavior"), bool(split.get("invert")))
    if way == ("Isolated", False) or (way == ("Removed", True) and expression in COMPLETE):
        return expression
    raise _unsupported(f"a split that is {str(way[0])[:20]}", expression[:1000])


def _respelled(steps: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(functools.reduce(lambda s, pair: s.replace(*pair), SPELLINGS, s) for s in steps)


def _normalizer(normalizer: Any) -> str:
    """The normalizer, "NFC" or none: llama.cpp has none, and text is nearly always in NFC."""
    if normalizer is None:
        return ""
    steps: Any = [normalizer]
    if isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        steps = normalizer.get("normalizers")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise damaged("its normalizer is malformed")
    for step in steps:
        if step.get("type") != "NFC":
            raise _unsupported(f"the normalizer {str(step.get('type'))[:40]}")
    return "NFC" if steps else ""


def _unsupported(what: str, details: str = "") -> UnsupportedTokenizer:
    return unsupported(f"a byte-level BPE with {what}", details)
