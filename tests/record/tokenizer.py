"""Descriptions of tokenizers: byte-level BPE, and SentencePiece in its two notations."""

from __future__ import annotations

from typing import Any

from tests.helpers.checkpoints import CHATML, SPECIAL, vocabulary
from tests.helpers.tiny_tokenizers import CONTROL, SPACE, UNKNOWN, USER_DEFINED, n_tokens

Spec = dict[str, Any]

N_TRAINED = len(vocabulary()[0]) - len(SPECIAL)
GPT2 = "GPT-2's expression, which ByteLevel applies by itself"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
              "use_regex": True}  # fmt: skip
NFC = {"type": "NFC"}


def byte_level(
    pre: str,
    splits: tuple[str, ...],
    special: tuple[str, ...],
    config: Spec,
    *,
    plain: tuple[str, ...] = (),
    in_front: bool = False,
    begin: tuple[str, ...] = (),
    normalizer: Spec | None = None,
    ignore_merges: bool = False,
    files: Spec | None = None,
) -> Spec:
    """A byte-level BPE that splits text by the expressions `splits`, one after the other.

    The added tokens `special` and `plain` lie behind the trained ones or before them, where they
    belong to the vocabulary. `begin` are the special tokens that a text begins with.
    """
    first = 0 if in_front else N_TRAINED
    added = [[first + i, text, i < len(special)] for i, text in enumerate((*special, *plain))]
    steps = [_split(split) for split in splits if split != GPT2]
    steps.append({**BYTE_LEVEL, "use_regex": splits[-1] == GPT2})
    ids = {text: first + i for i, text in enumerate((*special, *plain))}
    spec: Spec = {
        "kind": "byte-level",
        "pre": pre,
        "added": added,
        "json": {
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "post_processor": _template(begin, ids) if begin else {**BYTE_LEVEL},
            "decoder": {**BYTE_LEVEL},
            "ignore_merges": ignore_merges,
        },
        "config": {**_decoder_of(added), **config},
    }
    return (
        spec | ({"in_vocabulary": True} if in_front else {}) | ({"files": files} if files else {})
    )


def sentencepiece(
    config: Spec,
    *,
    front: tuple[tuple[str, int], ...] = (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)),
    ids: tuple[int, int, int, int] = (0, 1, 2, -1),
    added: tuple[tuple[str, bool], ...] = (),
    dummy_prefix: bool = True,
    begin: tuple[str, ...] = (),
    files: Spec | None = None,
    has_model: bool = True,
    has_json: bool = True,
    says_added: bool = True,
) -> Spec:
    """A SentencePiece BPE as tokenizer.model, as tokenizer.json, or as both.

    `ids` are those of unknown, bos, eos and padding. `added` lie behind the trained tokens;
    `says_added`: tokenizer_config.json lists them and the special ones in front.
    """
    spec: Spec = {"kind": "sentencepiece", "front": [list(piece) for piece in front], "added": []}
    n_trained = n_tokens(spec)
    special = [[i, text, True] for i, (text, kind) in enumerate(front) if kind != USER_DEFINED]
    plain = [[i, text, False] for i, (text, kind) in enumerate(front) if kind == USER_DEFINED]
    behind = [[n_trained + i, text, is_special] for i, (text, is_special) in enumerate(added)]
    spec["added"] = sorted([*special, *plain, *behind])
    if has_model:
        spec["model"] = {"ids": list(ids), "dummy_prefix": int(dummy_prefix)}
    if has_json:
        spec["json"] = _metaspace_json(spec["added"], begin, dummy_prefix=dummy_prefix)
    spec["config"] = {**(_decoder_of(spec["added"]) if says_added else {}), **config}
    return spec | ({"files": files} if files else {})


def _metaspace_json(added: list[Any], begin: tuple[str, ...], *, dummy_prefix: bool) -> Spec:
    ids = {text: i for i, text, _ in added}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if dummy_prefix:
        prepend = {"type": "Prepend", "prepend": SPACE}
        normalizer: Spec = {"type": "Sequence", "normalizers": [prepend, replace]}
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        pre_tokenizer = None
    else:
        normalizer = replace
        pre_tokenizer = {"type": "Split", "pattern": {"String": " "}, "invert": False,
                         "behavior": "MergedWithPrevious"}  # fmt: skip
    return {
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _template(begin, ids)["processors"][1] if begin else None,
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def _split(split: str) -> Spec:
    if split == "Digits":
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}


def _template(begin: tuple[str, ...], ids: dict[str, int]) -> Spec:
    """A post-processor that begins every text with special tokens."""
    first = [{"SpecialToken": {"id": text, "type_id": 0}} for text in begin]
    again = [{"SpecialToken": {"id": text, "type_id": 1}} for text in begin]
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    template = {
        "type": "TemplateProcessing",
        "single": [*first, a],
        "pair": [*first, a, *again, b],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in begin},
    }
    return {"type": "Sequence", "processors": [{**BYTE_LEVEL}, template]}


def _decoder_of(added: list[Any]) -> Spec:
    return {
        "added_tokens_decoder": {
            str(i): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": special}
            for i, text, special in added
        }
    }  # fmt: skip


def names(bos: str | None, eos: str, pad: str | None, tokenizer_class: str, **more: Any) -> Spec:
    """The usual part of a tokenizer_config.json."""
    return {
        "bos_token": bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": eos,
        "model_max_length": 4096,
        "pad_token": pad,
        "tokenizer_class": tokenizer_class,
        "chat_template": CHATML,
        **more,
    }
