"""The special tokens of a checkpoint, gathered from the files that may say.

Which file wins: tokenizer_config.json, then config.json, then generation_config.json, then the
tokenizer itself, then the architecture; what the post-processor adds wins over `add_bos_token`, as
in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_generation_config
from engine.convert.pieces import Pieces

# GGUF's name -> Hugging Face's
KINDS = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "seperator": "sep",  # as GGUF spells it
    "padding": "pad",
    "mask": "mask",
}
# Texts that llama.cpp takes for the end of an answer by itself. Source: src/llama-vocab.cpp.
KNOWN_ENDS = frozenset(
    ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
     "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
     "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
     "<｜end▁of▁sentence｜>", "[e~[")
)  # fmt: skip


class SpecialTokens(msgspec.Struct, frozen=True):
    """Ids by GGUF's names (bos, eos, eot, eom, unknown, seperator, padding, mask).

    `adds` says of bos, eos and sep whether a text gets one.
    """

    ids: dict[str, int]
    adds: dict[str, bool]


class _Tokens:
    """Finds token ids by text and checks those that files name."""

    def __init__(self, pieces: Pieces) -> None:
        self.texts = pieces.texts
        self._ids = {text: i for i, text in enumerate(pieces.texts)}

    def named(self, token: Any) -> list[int]:
        """The id of a special token, which is a text or an object with its text."""
        content = token.get("content") if isinstance(token, dict) else token
        return [self._ids[content]] if isinstance(content, str) and content in self._ids else []

    def numbered(self, value: Any) -> list[int]:
        """The ids in a config value that is an id, a list of ids, or nothing usable."""
        values = value if isinstance(value, list) else [value]
        return [i for i in values if type(i) is int and 0 <= i < len(self.texts)]


def read_special_tokens(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    pieces: Pieces,
    default_ids: Mapping[str, str],
) -> SpecialTokens:
    """Read the ids; `default_ids` are the texts of tokens that no file names."""
    tokens = _Tokens(pieces)
    configs = [config, _section(config, "text_config")]
    configs.append(read_generation_config(folder))
    ids: dict[str, int] = {}
    for kind, theirs in KINDS.items():
        candidates = tokens.named(tokenizer_config.get(f"{theirs}_token"))
        for values in configs:
            candidates += tokens.numbered(values.get(f"{theirs}_token_id"))
        candidates += tokens.numbered(pieces.special.get(kind))
        if candidates:
            ids[kind] = candidates[0]
    ends: list[int] = []
    for values in reversed(configs):
        ends += tokens.numbered(values.get("eos_token_id"))
    ids |= _further_ends(ends, ids, tokens)
    processors = _processors(tokenizer.get("post_processor"))
    for processor in processors:
        first = _special_ids(processor.get("single"), tokens)[:1]
        if first and first[0] is not None:
            ids.setdefault("bos", first[0])
    for kind, text in default_ids.items():
        for token_id in tokens.named(text):
            ids.setdefault(kind, token_id)
    adds = _added_around(processors, tokenizer_config, ids, tokens)
    adds.setdefault("bos", pieces.model == "llama")
    if pieces.model == "t5":
        adds.setdefault("eos", False)  # llama.cpp would add one unasked
    return SpecialTokens(ids, _possible(adds, ids))


def _further_ends(ends: list[int], ids: Mapping[str, int], tokens: _Tokens) -> dict[str, int]:
    """A model may end its turn with any of several tokens: llama.cpp has two more places for them.

    Those that it knows by their texts need none.
    """
    unknown = [
        end
        for end in dict.fromkeys(ends)
        if end != ids.get("eos") and tokens.texts[end] not in KNOWN_ENDS
    ]
    return dict(zip(("eot", "eom"), unknown, strict=False))


def _possible(adds: dict[str, bool], ids: Mapping[str, int]) -> dict[str, bool]:
    """Without what does not exist: llama.cpp ends the process when it is to add that."""
    keys = {"bos": "bos", "eos": "eos", "sep": "seperator"}
    return {kind: is_added and keys[kind] in ids for kind, is_added in adds.items()}


def _added_around(
    processors: list[dict[str, Any]],
    tokenizer_config: Mapping[str, Any],
    ids: Mapping[str, int],
    tokens: _Tokens,
) -> dict[str, bool]:
    """What the files say of a bos before, an eos after, a separator between texts."""
    adds: dict[str, bool] = {}
    for processor in processors:
        single = _special_ids(processor.get("single"), tokens)
        kind = processor.get("type")
        if kind == "ByteLevel":
            adds = {"bos": False, "eos": False, **adds}
        elif kind == "RobertaProcessing":
            adds |= {"bos": True, "eos": True, "sep": True}
        elif kind == "TemplateProcessing" and single:
            adds["bos"] = single[0] is not None and single[0] == ids.get("bos")
            if single[-1] is not None or "add_eos_token" in tokenizer_config:
                adds["eos"] = single[-1] is not None and single[-1] == ids.get("eos")
            separators = _between(single, _special_ids(processor.get("pair"), tokens))
            if separators:
                ends = {ids.get("seperator", -1), ids.get("eos", -1)}
                adds["sep"] = single[-1] is None and separators[0] in ends
    for kind in ("bos", "eos", "sep"):
        flag = tokenizer_config.get(f"add_{kind}_token")
        if isinstance(flag, bool):
            adds.setdefault(kind, flag)
    return adds


def _between(single: list[int | None], pair: list[int | None]) -> list[int | None]:
    """What a pair of texts has between them, if it has around them what a single one has."""
    if single[0] is not None and pair[:1] == single[:1]:
        pair = pair[1:]
    if single[-1] is not None and pair[-1:] == single[-1:]:
        pair = pair[:-1]
    is_plain = len(pair) > 2 and pair[0] is None and pair[-1] is None
    return pair[1:-1] if is_plain else []


def _processors(post_processor: Any) -> list[dict[str, Any]]:
    if not isinstance(post_processor, dict):
        return []
    steps = post_processor.get("processors", [post_processor])
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def _special_ids(template: Any, tokens: _Tokens) -> list[int | None]:
    """The token of each part of a post-processing template, None for the text itself."""
    found: list[int | None] = []
    for part in template if isinstance(template, list) else ():
        special = part.get("SpecialToken") if isinstance(part, dict) else None
        ids = tokens.named(special.get("id")) if isinstance(special, dict) else []
        found.append(ids[0] if ids else None)
    return found


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}
