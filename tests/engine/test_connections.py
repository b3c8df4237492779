"""Proxies as people set them, and what servers say that no client should believe."""

from __future__ import annotations

import base64
from pathlib import Path

import huggingface_hub
import pytest
import urllib3

from engine.errors import NetworkError
from engine.hub import transfer
from engine.hub.connections import open_pool
from engine.hub.hub import Hub
from engine.hub.part import Wanted
from engine.jobs import finish

URL = "http://hub.invalid/file"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("proxy", "login"),
    [
        ("http://127.0.0.1:9", ""),
        ("127.0.0.1:9", ""),
        ("http://me:p%40ss@127.0.0.1:9", "me:p@ss"),
        ("http://me@127.0.0.1:9", "me:"),
        ("http://:pass@127.0.0.1:9", ":pass"),
    ],
)
def test_a_proxy_is_told_the_name_and_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str, login: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    pool = open_pool(URL, 4, 1.0)
    assert isinstance(pool, urllib3.ProxyManager) and pool.proxy
    assert (pool.proxy.host, pool.proxy.port) == ("127.0.0.1", 9)
    told = pool.proxy_headers.get("proxy-authorization", "Basic ")
    assert base64.b64decode(told.removeprefix("Basic ")).decode() == login


def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "hub.invalid")
    assert not isinstance(open_pool(URL, 4, 1.0), urllib3.ProxyManager)


def test_a_socks_proxy_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(NetworkError, match="socks5"):
        finish(transfer.transfer(Wanted(URL, 100), tmp_path / "file"))
    assert not list(tmp_path.iterdir())
    huggingface_hub.close_session()  # the next one looks at the proxies anew
    with pytest.raises(NetworkError, match="SOCKS"):
        next(iter(Hub(endpoint="http://hub.invalid").search("llama")))
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    "text", ["²", "9" * 5000, "-1", "", "soon", "Wed, 21 Oct 0001 07:28:00 -0000"]
)
def test_odd_times_to_wait_are_none(text: str) -> None:
    assert transfer._retry_after(text) == 0


def test_a_size_of_thousands_of_digits_is_another_range() -> None:
    assert not transfer._CONTENT_RANGE.fullmatch(f"bytes 0-9/{'9' * 5000}")
