"""Tokenizers: what llama.cpp makes of a converted vocabulary is what Hugging Face makes of it.

The ids in data/tokenization.json are those of `tokenizers` 0.23.3, and of `sentencepiece` 0.2.3 for
stories260K-hf.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.convert.job import Convert
from engine.convert.options import VocabularyOptions
from engine.convert.tokenizer import Vocabulary, read_vocabulary
from engine.errors import CorruptFile, FormatError, UnsupportedTokenizer
from engine.jobs import finish
from tests.helpers.checkpoints import (
    CHATML,
    byte_characters,
    vocabulary,
    write_json,
    write_tiny_checkpoint,
    write_tokenizer,
)

Cases = list[tuple[str, list[int]]]
RECORDED: dict[str, Cases] = json.loads(
    (Path(__file__).parent / "data" / "tokenization.json").read_text(encoding="utf-8")
)


def check_tokenization(folder: Path, out: Path, cases: Cases) -> None:
    from engine.llama.model import load_model

    finish(Convert(str(folder), str(out)).run())
    model = finish(load_model(out, 0))
    try:
        for text, ids in cases:
            assert model.vocabulary.tokenize(text) == ids, text
    finally:
        model.close()


def test_the_tiny_vocabulary(tiny_checkpoint: Path, tmp_path: Path) -> None:
    check_tokenization(tiny_checkpoint, tmp_path / "a.gguf", RECORDED["tiny"])


@pytest.mark.parametrize("model", ["TinyStories-656K", "stories260K-hf", "measure-7m"])
def test_real_vocabularies(shared: Path, tmp_path: Path, model: str) -> None:
    check_tokenization(shared / "models" / model, tmp_path / "a.gguf", RECORDED[model])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tokenizer of the tiny checkpoint and nothing else."""
    write_tokenizer(tmp_path, *vocabulary(), CHATML)
    return tmp_path


def read(folder: Path, n_vocab: int = 400, **config: Any) -> Vocabulary:
    return read_vocabulary(folder, config, n_vocab)


def change(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


# Special tokens.


def test_further_end_tokens_are_kept(folder: Path) -> None:
    """llama.cpp has two more places for them, and needs none for those that it knows by text."""
    ends = [300, 2, 0, 301, 302, 99999, "x"]
    write_json(folder / "generation_config.json", {"eos_token_id": ends})
    ids = read(folder).special.ids
    assert (ids["eos"], ids["eot"], ids["eom"]) == (2, 300, 301)
    write_json(folder / "generation_config.json", {"eos_token_id": [2, 0]})
    assert not {"eot", "eom"} & read(folder).special.ids.keys()
    assert read(folder, eos_token_id=[301]).special.ids["eot"] == 301


def test_ids_come_from_the_first_file_that_knows(folder: Path) -> None:
    write_json(folder / "tokenizer_config.json", {"eos_token": {"content": "<|im_start|>"}})
    write_json(folder / "generation_config.json", {"bos_token_id": 2})
    ids = read(folder, bos_token_id=0, eos_token_id=2, pad_token_id=-1).special.ids
    assert (ids["bos"], ids["eos"]) == (0, 1)
    assert "padding" not in ids


def test_what_the_post_processor_adds_wins(folder: Path) -> None:
    bos, text = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A"}}
    eos = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [bos, text, eos]}
    for processor in (template, {"type": "Sequence", "processors": [{"type": "X"}, template]}):
        change(folder / "tokenizer.json", post_processor=processor)
        assert read(folder).special.adds == {"bos": True, "eos": True}
    template["single"] = [text]
    change(folder / "tokenizer.json", post_processor=template)
    change(folder / "tokenizer_config.json", add_bos_token=True)
    assert not read(folder).special.adds["bos"]
    change(folder / "tokenizer.json", post_processor={"type": "ByteLevel"})
    assert not read(folder).special.adds["bos"]
    change(folder / "tokenizer.json", post_processor=None)
    assert read(folder).special.adds["bos"]


def test_a_separator_between_texts(folder: Path) -> None:
    """The key is written where llama.cpp's converter writes it, and says the same."""
    bos, text = {"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {"id": "A"}}
    template = {"type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, bos, text]}
    change(folder / "tokenizer.json", post_processor=template)
    assert read(folder).special.adds == {"bos": True, "sep": False}
    eos = {"SpecialToken": {"id": "<|im_end|>"}}
    template = {"type": "TemplateProcessing", "single": [text], "pair": [text, eos, text]}
    change(folder / "tokenizer.json", post_processor=template)
    change(folder / "tokenizer_config.json", sep_token="<|im_end|>")
    assert read(folder).special.adds["sep"]


def test_the_first_of_several_tokens_before_a_text_is_its_bos(folder: Path) -> None:
    """As GLM-4 has it, which names no bos."""
    single = [{"SpecialToken": {"id": "<|im_start|>"}}, {"SpecialToken": {"id": "<|im_end|>"}},
              {"Sequence": {"id": "A"}}]  # fmt: skip
    processor = {"type": "TemplateProcessing", "single": single}
    change(folder / "tokenizer.json", post_processor=processor)
    change(folder / "tokenizer_config.json", bos_token=None)
    special = read(folder).special
    assert (special.ids["bos"], special.adds["bos"]) == (1, True)


def test_what_an_architecture_says(folder: Path) -> None:
    change(folder / "tokenizer_config.json", bos_token=None, eos_token=None)
    options = VocabularyOptions(
        default_ids={"bos": "<|endoftext|>", "eot": "<|im_start|>", "eom": "<|nowhere|>"},
        pre_names={"dbrx": "smaug-bpe"},
        visible=frozenset({"<|im_end|>"}),
        add_bos=True,
    )
    vocabulary = read_vocabulary(folder, {}, 400, options)
    assert vocabulary.special.ids == {"bos": 0, "eot": 1, "padding": 0}
    assert vocabulary.special.adds["bos"]
    assert vocabulary.pieces.types[:3] == [3, 3, 4]
    assert vocabulary.metadata()["tokenizer.ggml.pre"].value == "smaug-bpe"


def test_nothing_is_added_that_does_not_exist(folder: Path) -> None:
    """llama.cpp aborts the process when it is to add a token that it has not got."""
    write_json(folder / "tokenizer_config.json", {"add_bos_token": True, "add_eos_token": True})
    assert read(folder).special.adds == {"bos": False, "eos": False}


def test_added_tokens_are_typed(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    n_tokens = len(tokenizer["model"]["vocab"])
    texts = [("<tool>", False), ("<|odd|>", False), ("[X]", True)]
    for i, (text, is_special) in enumerate(texts):
        entry = {"id": n_tokens + i, "content": text, "special": is_special}
        tokenizer["added_tokens"].append(entry)
    tokenizer["added_tokens"].append({"id": 100_000, "content": "<far>", "special": True})
    write_json(folder / "tokenizer.json", tokenizer)
    pieces = read(folder).pieces
    assert pieces.texts[n_tokens : n_tokens + 4] == [
        "<tool>",
        "<|odd|>",
        "[X]",
        f"[PAD{n_tokens + 3}]",
    ]
    assert pieces.types[n_tokens : n_tokens + 4] == [4, 3, 3, 5]
    assert len(pieces.texts) == len(pieces.types) == 400


# Chat templates.


def test_named_templates_keep_their_names(folder: Path) -> None:
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    change(folder / "tokenizer_config.json", chat_template=named)
    metadata = read(folder).metadata()
    assert metadata["tokenizer.chat_template"].value == "D"
    assert metadata["tokenizer.chat_template.tool_use"].value == "T"
    assert list(metadata["tokenizer.chat_templates"].value) == ["tool_use"]


def test_a_template_of_its_own_file_wins(folder: Path) -> None:
    assert read(folder).chat_templates == {"default": CHATML}
    write_json(folder / "chat_template.json", {"chat_template": "J"})
    assert read(folder).chat_templates == {"default": CHATML}
    change(folder / "tokenizer_config.json", chat_template=None)
    assert read(folder).chat_templates == {"default": "J"}
    (folder / "chat_template.jinja").write_text("F", encoding="utf-8")
    assert read(folder).chat_templates == {"default": "F"}
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool-use.jinja").write_text("T", encoding="utf-8")
    assert read(folder).chat_templates == {"default": "F", "tool_use": "T"}


# Pre-tokenizers.


def test_pre_tokenizers_are_known_by_their_structure(shared: Path, tmp_path: Path) -> None:
    known = {
        "bpe_bytelevel": "gpt-2",
        "bpe_digits_bytelevel": "smollm",
        "bpe_split_cl100k": "dbrx",
        "bpe_falcon_seq": "falcon",
        "bpe_split_deepseek": "deepseek-llm",
        "bpe_split_o200k_harmony": "granite-embed-multi-97m",
        "bpe_split_qwen2": "qwen2",
        "bpe_split_qwen35": "qwen35",
        "bpe_metaspace": "default",
        "bpe_metaspace_pretok": "default",
        "unigram": "default",
    }
    for name, pre in known.items():
        source = shared / "fixtures" / "tokenizers" / f"tiny_{name}_tokenizer.json"
        shutil.copyfile(source, tmp_path / "tokenizer.json")
        assert read(tmp_path, 4000).pieces.pre == pre, name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bpe_bytelevel_noregex", "a space before every text"),
        ("bpe_split_o200k", "this way of splitting text"),
        ("wordpiece", "WordPiece"),
    ],
)
def test_unknown_tokenizers_are_refused_by_name(
    shared: Path, tmp_path: Path, name: str, told: str
) -> None:
    source = shared / "fixtures" / "tokenizers" / f"tiny_{name}_tokenizer.json"
    shutil.copyfile(source, tmp_path / "tokenizer.json")
    with pytest.raises(UnsupportedTokenizer, match=told) as caught:
        read(tmp_path, 4000)
    assert caught.value.hint


def test_llama3_that_ignores_merges_has_its_own_name(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["ignore_merges"] = True
    write_json(folder / "tokenizer.json", tokenizer)
    assert read(folder).pieces.pre == "llama-bpe"


def test_a_token_can_tell_whose_pre_tokenizer_it_is(folder: Path) -> None:
    """Names of one expression, which llama.cpp's converter tells apart by token ids."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"].append({"id": 399, "content": "[gMASK]", "special": True})
    write_json(folder / "tokenizer.json", tokenizer)
    assert read(folder).pieces.pre == "glm4"


def test_a_split_that_removes_what_is_between_the_words(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
    split |= {"behavior": "Removed", "invert": True}
    write_json(folder / "tokenizer.json", tokenizer)
    assert read(folder).pieces.pre == "dbrx"
    split["pattern"]["Regex"] = r"\p{N}"
    write_json(folder / "tokenizer.json", tokenizer)
    with pytest.raises(UnsupportedTokenizer, match="a split that is Removed"):
        read(folder)


@pytest.mark.parametrize("kind", ["Lowercase", "NFKC", "Replace"])
def test_a_normalizer_that_llama_cpp_lacks_is_refused(folder: Path, kind: str) -> None:
    change(folder / "tokenizer.json", normalizer={"type": kind})
    with pytest.raises(UnsupportedTokenizer, match=f"the normalizer {kind}"):
        read(folder)
    change(folder / "tokenizer.json", normalizer={"type": "NFC"})
    assert read(folder).pieces.pre == "dbrx"


def test_both_notations_of_merges_are_read(folder: Path) -> None:
    pairs = read(folder).pieces.merges
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = pairs
    write_json(folder / "tokenizer.json", tokenizer)
    assert pairs
    assert read(folder).pieces.merges == pairs


# SentencePiece.


def test_a_model_file_is_read_by_hand(shared: Path) -> None:
    pieces = read(shared / "models" / "stories260K-hf", 512).pieces
    assert pieces.model == "llama"
    assert pieces.texts[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert pieces.types[:4] == [2, 3, 3, 6]
    assert pieces.add_space_prefix is None  # llama.cpp puts one unasked
    assert pieces.scores is not None
    assert pieces.scores[259:262] == [0.0, -1.0, -2.0]


def test_ranked_merges_become_scores(shared: Path) -> None:
    vocabulary = read(shared / "models" / "TinyStories-656K", 2048)
    pieces = vocabulary.pieces
    assert pieces.scores is not None
    by_score = sorted(range(2048), key=lambda i: -pieces.scores[i])  # type: ignore[index]
    assert [pieces.texts[i] for i in by_score[:3]] == ["e▁", "d▁", "th"]
    assert vocabulary.special.ids == {"bos": 1, "eos": 2, "unknown": 0, "padding": 0}
    assert vocabulary.special.adds["bos"]


# Damaged files.


def test_a_missing_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no tokenizer\.json and no tokenizer\.model"):
        read(tmp_path)


def test_more_tokens_than_rows_are_refused(folder: Path) -> None:
    with pytest.raises(CorruptFile, match="more tokens than the model"):
        read(folder, 100)


def test_the_byte_table_is_that_of_gpt2() -> None:
    table = byte_characters()
    assert len(set(table)) == 256
    assert (table[ord("a")], table[ord(" ")], table[ord("\n")]) == ("a", "Ġ", "Ċ")


def test_a_checkpoint_of_another_size_has_the_same_tokens(tmp_path: Path) -> None:
    small = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    assert read(small, 356).pieces.texts == vocabulary()[0]
