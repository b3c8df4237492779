"""Jobs that ask the hub and answer at once: a search, one repository."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

import msgspec

from engine.errors import AccessDenied
from engine.hub.hub import Hub, Sort
from engine.hub.repo import Format, Found, Repo
from engine.hub.token import load_token
from engine.jobs import Job, Progress


class Search(Job, frozen=True):
    """Models whose names hold `text`; raises NetworkError, AccessDenied."""

    Result: ClassVar = tuple[Found, ...]

    text: str
    sort: Sort = "trending"
    format: Format | None = None
    license: str = ""
    limit: int = 30
    is_offline: bool = False

    def run(self) -> Generator[Progress, None, tuple[Found, ...]]:
        yield Progress("Asking the hub", 0, None, "steps")
        return Hub(load_token(), is_offline=self.is_offline).search(
            self.text,
            sort=self.sort,
            format=self.format,
            license=self.license,
            limit=self.limit,
        )


class Described(msgspec.Struct, frozen=True):
    """A repository with its card (Markdown, not to be trusted) and its page for people."""

    repo: Repo
    card: str
    page: str


class Describe(Job, frozen=True):
    """What `repo` has to offer; raises NotFound, NetworkError, AccessDenied."""

    Result: ClassVar = Described

    repo: str
    is_offline: bool = False

    def run(self) -> Generator[Progress, None, Described]:
        yield Progress("Asking the hub", 0, None, "steps")
        hub = Hub(load_token(), is_offline=self.is_offline)
        repo = hub.repo(self.repo)
        yield Progress("Reading its card", 0, None, "steps")
        try:
            card = hub.card(repo)
        except AccessDenied:
            card = ""  # the page tells what a gated model hides
        return Described(repo, card, hub.page(repo.id))
