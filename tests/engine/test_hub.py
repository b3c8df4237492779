"""The hub's search and descriptions, and what becomes of answers that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from engine.errors import AccessDenied, EngineError, NetworkError, NotFound
from engine.hub.hub import Hub
from engine.hub.repo import HubFile, Repo, Variant, type_in_name
from engine.hub.search import MOST_PAGES, PAGE, Search
from engine.hub.token import load_token
from engine.jobs import finish
from tests.helpers.fake_hub import FakeHub, fake_hub
from tests.helpers.fake_hub import Repo as FakeRepo


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with fake_hub() as server:
        server.repos["ann/tiny-GGUF"] = FakeRepo(
            {"tiny-Q4_K_M.gguf": b"x" * 10, "README.md": b"---\nlicense: mit\n---\n# Tiny\n"},
            tags=("gguf", "license:mit", "text-generation"),
            extra={"downloads": 5, "likes": 1, "gguf": {"total": 1_000_000}},
        )
        server.repos["bob/tiny"] = FakeRepo(
            {"config.json": b"{}", "model.safetensors": b"y" * 20, "run.py": b"import os"},
            tags=("safetensors", "license:apache-2.0"),
            extra={"downloads": 9, "lastModified": "2026-11-20T10:00:00.000Z"},
            token="sesame",
        )
        yield server


@pytest.fixture
def hub(server: FakeHub) -> Hub:
    return Hub(endpoint=server.url)


def test_a_search_tells_what_a_person_chooses_by(hub: Hub) -> None:
    first, second = next(hub.search("tiny", sort="downloads"))
    assert (first.id, first.is_gated, first.license) == ("bob/tiny", True, "apache-2.0")
    assert (first.updated, first.formats) == ("2026-11-20", ("safetensors",))
    assert (second.id, second.n_params, second.formats) == ("ann/tiny-GGUF", 1_000_000, ("gguf",))


def test_filters_and_order_are_asked_of_the_hub(hub: Hub, server: FakeHub) -> None:
    (found,) = next(hub.search("", sort="likes", format="gguf", license="mit", limit=7))
    assert found.id == "ann/tiny-GGUF"
    (asked,) = server.searches
    assert asked["filter"] == ["gguf", "license:mit"] and asked["limit"] == ["7"]
    assert asked["sort"] == ["likes"]


def test_what_fits_is_looked_for_behind_the_first_page(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)

    def add(name: str, downloads: int, **about: Any) -> None:
        server.repos[name] = FakeRepo({}, extra={"downloads": downloads, **about})

    for number in range(150):
        add(f"big/giant-{number}", 1000 - number, gguf={"total": 70_000_000_000})
    add("big/giant-secret", 1001)
    for number in range(5):
        add(f"small/giant-{number}", 100 - number, gguf={"total": 1_000_000_000})
    search = Search("giant", "downloads", limit=3, usable_bytes=2_000_000_000)
    found = finish(search.run())
    assert [model.id for model in found.found] == [f"small/giant-{n}" for n in range(3)]
    assert found.left_out == "150 too large and 1 of unknown size are left out"
    all_of_them = finish(msgspec.structs.replace(search, limit=30).run())
    assert len(all_of_them.found) == 5
    without = finish(msgspec.structs.replace(search, usable_bytes=None).run())
    assert (len(without.found), without.left_out) == (3, "")


def test_an_endless_search_ends(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for number in range((MOST_PAGES + 3) * PAGE):
        server.repos[f"big/{number}"] = FakeRepo({}, extra={"gguf": {"total": 10**12}})
    found = finish(Search("big", usable_bytes=10**9).run())
    assert (found.found, found.n_too_large) == ((), MOST_PAGES * PAGE)
    assert len(server.searches) == MOST_PAGES


def test_a_repository_has_its_files_with_sizes_and_digests(hub: Hub) -> None:
    repo = hub.repo("ann/tiny-GGUF")
    by_name = {file.name: file for file in repo.files}
    assert by_name["tiny-Q4_K_M.gguf"].digest.startswith("sha256:")
    assert by_name["README.md"].digest.startswith("git-sha1:")
    assert [(v.label, v.size_bytes) for v in repo.variants()] == [("Q4_K_M", 10)]
    assert hub.card(repo) == "# Tiny\n"


def test_a_gated_card_says_what_to_do(hub: Hub, server: FakeHub) -> None:
    server.repos["bob/tiny"].files["README.md"] = b"# Secret"
    with pytest.raises(AccessDenied) as told:
        hub.card(hub.repo("bob/tiny"))
    assert "/bob/tiny" in told.value.hint
    with_token = Hub("sesame", server.url)
    assert with_token.card(with_token.repo("bob/tiny")) == "# Secret"
    assert not server.tokens_at_storage, "the token went to another server"


@pytest.mark.parametrize("name", ["no/such", "..", "a/b/c", "", "-x", "a b/c", "\ud800/x"])
def test_what_is_not_there_is_not_found(hub: Hub, name: str) -> None:
    with pytest.raises(NotFound):
        hub.repo(name)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (429, {}, NetworkError),
        (500, {}, NetworkError),
        (503, b"<html>", NetworkError),
        (403, {}, AccessDenied),
        (200, b"<html>", NetworkError),
        (200, [1, 2], NetworkError),
        (200, {"id": 5, "sha": 7}, NetworkError),
        (200, {"id": "a/b", "sha": "../../x", "siblings": []}, NetworkError),
        (200, {"id": "a/b", "lastModified": "never", "siblings": 3}, NetworkError),
        (200, {"id": "a/b", "siblings": [{"size": 5}]}, NetworkError),
    ],
)
def test_no_answer_is_believed_blindly(
    hub: Hub, server: FakeHub, status: int, answer: Any, error: type[EngineError]
) -> None:
    server.answer = (status, answer)
    with pytest.raises(error) as told:
        hub.repo("ann/tiny-GGUF")
    assert told.value.message and told.value.hint


def test_fields_of_the_wrong_type_count_as_missing(hub: Hub, server: FakeHub) -> None:
    strange = {"id": "a/b", "downloads": "many", "likes": -3, "tags": [4, "gguf"], "gguf": 7}
    server.answer = (200, [strange])
    (found,) = next(hub.search("x"))
    assert (found.downloads, found.likes, found.n_params, found.tags) == (0, 0, 0, ("gguf",))


def test_what_would_steer_a_terminal_is_not_shown(hub: Hub, server: FakeHub) -> None:
    escape = "\x1b]0;gotcha\x07"
    evil = {"id": f"a/{escape}b", "tags": []}
    fine = {"id": "a/b", "tags": [f"license:{escape}mit"]}
    server.answer = (200, [evil, fine])
    (found,) = next(hub.search("x"))
    assert found.id == "a/b" and "\x1b" not in found.license


def test_offline_nothing_is_asked(server: FakeHub) -> None:
    hub = Hub(endpoint=server.url, is_offline=True)
    with pytest.raises(NetworkError, match="offline"):
        next(hub.search("tiny"))
    with pytest.raises(NetworkError, match="offline"):
        hub.repo("ann/tiny-GGUF")
    assert not server.searches


def test_the_variable_that_keeps_it_offline_is_named(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        next(Hub(endpoint=server.url).search("tiny"))
    assert not server.searches


@pytest.mark.parametrize("pasted", ["hf_secret\nfoo", "hf secret", "hf_secr\u00e9t"])
def test_a_token_that_no_header_can_hold_is_none(
    pasted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", pasted)
    assert load_token() == ""
    monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
    assert load_token() == "hf_secret"


def test_no_server_is_told_in_words() -> None:
    with pytest.raises(NetworkError, match="cannot be reached"):
        next(Hub(endpoint="http://127.0.0.1:9").search("x"))


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("model.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("qwen2.5-0.5b-instruct-q5_0.gguf", "Q5_0"),
        ("X-UD-Q3_K_XL-00001-of-00002.gguf", "UD-Q3_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("BF16/model-00001-of-00003.gguf", "BF16"),
        ("phi-2.fp16.gguf", "F16"),
        ("bitnet-TQ2_0.gguf", "TQ2_0"),
        ("ggml-model.gguf", ""),
        ("Q4you.gguf", ""),
    ],
)
def test_a_name_tells_its_type(name: str, type_: str) -> None:
    assert type_in_name(name) == type_


def test_files_are_grouped_into_what_one_downloads(hub: Hub) -> None:
    names = [
        "m-Q8_0.gguf",
        "m-Q4_K_M.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
        "BF16/m-BF16-00001-of-00002.gguf",
        "half-Q6_K-00001-of-00002.gguf",  # its second part is missing
        "mmproj-model-f16.gguf",
        "m.imatrix.gguf",
        "config.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "pytorch_model.bin",
        "modeling_x.py",
        "onnx/model.onnx",
    ]
    sizes = {"m-Q8_0.gguf": 80, "m-Q4_K_M.gguf": 40}
    files = tuple(HubFile(name, sizes.get(name, 100), "") for name in names)
    repo = Repo(next(hub.search("tiny"))[0], "0" * 40, files)
    variants = {v.label: [file.name for file in v.files] for v in repo.variants()}
    assert list(variants) == ["Q4_K_M", "Q8_0", "BF16", "Checkpoint"]
    assert variants["BF16"] == [
        "BF16/m-BF16-00001-of-00002.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
    ]
    assert variants["Checkpoint"] == [
        "config.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]


def test_a_variant_is_as_large_as_its_files() -> None:
    files = (HubFile("a.gguf", 3, ""), HubFile("b.gguf", 4, ""))
    assert Variant("Q4_0", "gguf", files).size_bytes == 7
