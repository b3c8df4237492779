"""Texts that no tokenizer expects: every script, space, mark and sign that Unicode has, by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MASK = (1 << 64) - 1

SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u061c"
CONTROLS = "\x00\x01\x07\x08\x1b\x1c\x1d\x1e\x1f\x7f\x80\x9f"
PUNCTUATION = "!\"#%&'()*,-./:;?@[\\]_{}¡§«»¿‐–—‘’“”…。、「」！？～։؟।፡"
SYMBOLS = "$+<=>^`|~¢£©¬°±×÷€→∑≠─█☃♥⚡€₹￥"
# (first, last) code points of letters, signs and marks, script by script.
SCRIPTS = (
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF),
    (0x400, 0x52F), (0x531, 0x587), (0x591, 0x5F4), (0x600, 0x6FF), (0x901, 0x97F), (0x981, 0x9FB),
    (0xB82, 0xBFA), (0xE01, 0xE5B), (0xE81, 0xEDF), (0xF00, 0xFD4), (0x1000, 0x109F),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C), (0x13A0, 0x13FD), (0x1780, 0x17F9),
    (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x3041, 0x30FF), (0x3105, 0x312F), (0x4E00, 0x9FFF),
    (0xA000, 0xA48C), (0xA640, 0xA69F), (0xAB30, 0xABBF), (0xAC00, 0xD7A3), (0xF900, 0xFAD9),
    (0xFB00, 0xFB4F), (0xFF01, 0xFF9F), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF),
)  # fmt: skip
MARKS = ((0x300, 0x36F), (0x483, 0x489), (0x1AB0, 0x1ACE), (0x20D0, 0x20F0), (0xFE00, 0xFE2F))
DIGITS = (0x30, 0x660, 0x6F0, 0x966, 0xE50, 0x1040, 0xFF10, 0x1D7CE)  # the zeros of ten in a row
NUMBERS = "²³¹¼½¾٪Ⅷⅻ①⑳㊿〇௧፳𐄇"
EMOJI = ("😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "1️⃣", "❤️", "☠️", "🧑🏿‍🚀", "©️")
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'Ve", "'lL", "'D", "’s",
                "'x", "'", "''")  # fmt: skip
WORDS = ("the", "and", "hello", "World", "iPhone", "camelCase", "XMLHttpRequest", "USA", "don",
         "I", "he", "naïve", "Straße", "ÉCOLE", "Привет", "мир", "ΩMEGA", "नमस्ते", "ภาษาไทย",
         "مُدَرِّس", "שָׁלוֹם", "こんにちは", "東京", "한국어", "ǅungla", "ﬁn", "e\u0301t\u0303", "x86",
         "def", "http", "www.example.com", "a_b", "#!/bin/sh", "ſ", "İstanbul")  # fmt: skip
ODD = ("▁", "Ġ", "▁the", "<0x41>", "[PAD]", "</w>", "##", "<s", "|>", "\ufffd", "\uffff", "\u0378")


class Seeded:
    """Random numbers that are the same in every version of Python (SplitMix64, Steele 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, n: int) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) % n

    def pick(self, items: Sequence[str]) -> str:
        return items[self.below(len(items))]

    def between(self, first: int, last: int) -> int:
        return first + self.below(last - first + 1)


def random_texts(seed: int, n_texts: int) -> list[str]:
    """`n_texts` texts of up to a dozen odd pieces each, without surrogates."""
    random = Seeded(seed)
    return ["".join(_piece(random) for _ in range(1 + random.below(12))) for _ in range(n_texts)]


def _piece(random: Seeded) -> str:
    return _KINDS[random.below(len(_KINDS))](random)


def _word(random: Seeded) -> str:
    return " " * random.below(2) + random.pick(WORDS)


def _letters(random: Seeded) -> str:
    script = SCRIPTS[random.below(len(SCRIPTS))]
    letters = "".join(chr(random.between(*script)) for _ in range(1 + random.below(7)))
    return " " * random.below(2) + letters


def _digits(random: Seeded) -> str:
    zero = DIGITS[random.below(len(DIGITS)) if random.below(3) == 0 else 0]
    return "".join(chr(zero + random.below(10)) for _ in range(1 + random.below(8)))


def _spaces(random: Seeded) -> str:
    return _run(random, " ", 12) + _run(random, "\n\r\n \t", 3) * random.below(2)


def _contraction(random: Seeded) -> str:
    return random.pick(WORDS) + random.pick(CONTRACTIONS) + random.pick(("", " ", "x", "\n"))


def _marked(random: Seeded) -> str:
    return random.pick(WORDS) + "".join(_mark(random) for _ in range(1 + random.below(3)))


def _mark(random: Seeded) -> str:
    return chr(random.between(*MARKS[random.below(len(MARKS))]))


def _run(random: Seeded, characters: str, most: int) -> str:
    return "".join(random.pick(characters) for _ in range(1 + random.below(most)))


def _any_character(random: Seeded) -> str:
    code_point = random.below(0x110000 if random.below(2) else 0x3000)
    return chr(code_point) if not 0xD800 <= code_point < 0xE000 else "\ufffd"


_KINDS: tuple[Callable[[Seeded], str], ...] = (
    *[_word] * 5,
    *[_letters] * 2,
    _digits,
    _spaces,
    _contraction,
    _marked,
    lambda random: _run(random, SPACES, 4),
    lambda random: _run(random, PUNCTUATION, 4),
    lambda random: random.pick(PUNCTUATION) * (1 + random.below(9)),
    lambda random: _run(random, SYMBOLS + "/", 3),
    lambda random: random.pick(EMOJI) * (1 + random.below(2)),
    lambda random: _run(random, NUMBERS + "0123", 4),
    lambda random: _run(random, INVISIBLE + CONTROLS, 2),
    lambda random: random.pick(ODD),
    lambda random: "".join(_any_character(random) for _ in range(1 + random.below(3))),
)
