"""The access token for the hub: in the system's keyring, or in a file that only the user can read.

It never gets into a log, an argument of a program or the settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar, Literal

from engine.files import make_folder, write_error
from engine.folders import folders
from engine.jobs import Job, Progress

log = logging.getLogger(__name__)

SERVICE, USER = "Snug", "huggingface"
Place = Literal["environment", "keyring", "file", ""]


def load_token() -> str:
    """The token, empty where there is none: HF_TOKEN, the keyring, our file."""
    return _find()[0]


def where_kept() -> Place:
    """Where the token is, without telling it; empty where there is none."""
    return _find()[1]


def _find() -> tuple[str, Place]:
    if token := _plain(os.environ.get("HF_TOKEN", "")):
        return token, "environment"
    with contextlib.suppress(Exception):  # a keyring may fail in any way: there is the file
        import keyring

        if found := _plain(keyring.get_password(SERVICE, USER) or ""):
            return found, "keyring"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if found := _plain(token_file().read_text(encoding="utf-8")):
            return found, "file"
    return "", ""


def _plain(token: str) -> str:
    """`token` if it is one; what a header cannot hold would be told in an error."""
    token = token.strip()
    return token if re.fullmatch(r"[!-~]+", token) else ""


def save_token(token: str) -> Place:
    """Keep `token` and say where; raises NotWritable and its kin where neither place takes it."""
    forget_token()
    with contextlib.suppress(Exception):
        import keyring

        keyring.set_password(SERVICE, USER, token)
        if keyring.get_password(SERVICE, USER) == token:
            return "keyring"
    path = token_file()
    make_folder(path.parent)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(token)
    except OSError as error:
        raise write_error(error, path) from error
    return "file"


def forget_token() -> None:
    with contextlib.suppress(Exception):
        import keyring

        keyring.delete_password(SERVICE, USER)
    token_file().unlink(missing_ok=True)


class KeepToken(Job, frozen=True):
    """Keep `token`, or forget the one there is if it is empty; the result is where it is now."""

    Result: ClassVar = Place

    token: str

    def run(self) -> Generator[Progress, None, Place]:
        yield Progress("Keeping the token", 0, None, "steps")
        if token := _plain(self.token):
            return save_token(token)
        forget_token()
        return where_kept()


class AskToken(Job, frozen=True):
    """Where the token is kept, if there is one. A keyring may take its time to answer."""

    Result: ClassVar = Place

    def run(self) -> Generator[Progress, None, Place]:
        yield Progress("Looking for a token", 0, None, "steps")
        return where_kept()


def token_file() -> Path:
    return folders().config / "token"
