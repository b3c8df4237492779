"""Jobs that ask the hub and answer at once: a search, one repository."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.errors import AccessDenied
from engine.fit.rough import needed_bytes, size_at_four_bits
from engine.hub.here import Here, find_here
from engine.hub.hub import Hub, Sort
from engine.hub.repo import Format, Found, Repo
from engine.hub.token import load_token
from engine.jobs import Job, Progress

PAGE, MOST_PAGES = 100, 5
"""How many models are looked at for those that fit."""


class Searched(msgspec.Struct, frozen=True):
    """What was found, and how many were left out on the way to it."""

    found: tuple[Found, ...]
    n_too_large: int = 0
    n_unknown: int = 0

    @property
    def left_out(self) -> str:
        """As "14 too large and 3 of unknown size are left out"; empty where nothing is."""
        numbers = ((self.n_too_large, "too large"), (self.n_unknown, "of unknown size"))
        parts = [f"{number:,} {what}" for number, what in numbers if number]
        verb = "is" if self.n_too_large + self.n_unknown == 1 else "are"
        return f"{' and '.join(parts)} {verb} left out" if parts else ""


class Search(Job, frozen=True):
    """Models whose names hold `text`; raises NetworkError, AccessDenied.

    With `usable_bytes` only those that fit in so much once shrunk to four bits.
    """

    Result: ClassVar = Searched

    text: str
    sort: Sort = "trending"
    format: Format | None = None
    license: str = ""
    limit: int = 30
    usable_bytes: int | None = None
    is_offline: bool = False

    def run(self) -> Generator[Progress, None, Searched]:
        yield Progress("Asking the hub", 0, None, "steps")
        usable = self.usable_bytes
        pages = Hub(load_token(), is_offline=self.is_offline).search(
            self.text,
            sort=self.sort,
            format=self.format,
            license=self.license,
            limit=self.limit if usable is None else PAGE,
        )
        fitting: list[Found] = []
        n_too_large = n_unknown = 0
        for page in islice(pages, 1 if usable is None else MOST_PAGES):
            for model in page:
                needed = needed_bytes(size_at_four_bits(model.n_params))
                if usable is None or 0 < needed <= usable:
                    fitting.append(model)
                elif needed:
                    n_too_large += 1
                else:
                    n_unknown += 1
                if len(fitting) == self.limit:
                    return Searched(tuple(fitting), n_too_large, n_unknown)
            yield Progress("Asking the hub", 0, None, "steps")
        return Searched(tuple(fitting), n_too_large, n_unknown)


class Described(msgspec.Struct, frozen=True):
    """A repository with its card (Markdown, not to be trusted) and its page for people.

    `here` is what `find_here` says of it.
    """

    repo: Repo
    card: str
    page: str
    here: dict[str, Here] = {}


class Describe(Job, frozen=True):
    """What `repo` has to offer, and what of it is in the models folder `folder` already.

    Raises NotFound, NetworkError, AccessDenied.
    """

    Result: ClassVar = Described

    repo: str
    folder: str
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
        return Described(repo, card, hub.page(repo.id), find_here(repo, Path(self.folder)))
