"""Rows of the Discover page: what a search found, or Snug's own picks while nothing is searched."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from PySide6.QtCore import QAbstractListModel, QModelIndex, Qt

from app import theme
from app.models.model_list import LINES_ROLE, ROW_ROLE, Index, Lines
from app.models.verdict import Tone
from engine.fit.rough import needed_bytes, size_at_four_bits
from engine.hub.repo import Found
from engine.words import format_bytes, format_count

PICKS = theme.RESOURCES / "picks.json"


class Offer(msgspec.Struct, frozen=True):
    """A model that can be had; `about` is empty where only the hub knows it."""

    repo: str
    title: str
    n_params: int
    license: str
    about: str = ""
    found: Found | None = None

    @property
    def size_bytes(self) -> int:
        """About what it takes at four bits; 0 where the hub does not tell its parameters."""
        return size_at_four_bits(self.n_params)


def picks() -> tuple[Offer, ...]:
    """A few models that are worth a start, from the smallest on."""
    listed: list[dict[str, Any]] = json.loads(PICKS.read_text(encoding="utf-8"))
    return tuple(
        Offer(pick["repo"], pick["title"], pick["n_params"], pick["licence"], pick["about"])
        for pick in listed
    )


def offer_of(found: Found) -> Offer:
    _, _, name = found.id.rpartition("/")
    return Offer(found.id, name, found.n_params, found.license, found=found)


class OfferList(QAbstractListModel):
    """Offers for a view; `usable_bytes` is what a model may take here."""

    def __init__(self) -> None:
        super().__init__()
        self.offers: tuple[Offer, ...] = ()
        self._usable_bytes = 0

    def show(self, offers: tuple[Offer, ...], usable_bytes: int) -> None:
        self.beginResetModel()
        self.offers, self._usable_bytes = offers, usable_bytes
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self.offers)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        offer = self.offers[index.row()]
        lines = self._lines(offer)
        if role == ROW_ROLE:
            return offer
        if role == LINES_ROLE:
            return lines
        if role == Qt.ItemDataRole.DisplayRole:
            return offer.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return offer.repo
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return ", ".join(part for part in (lines.name, *lines.facts, lines.badge) if part)
        return None

    def _lines(self, offer: Offer) -> Lines:
        words, tone = judge_size(offer.size_bytes, self._usable_bytes)
        size = format_count(offer.n_params) if offer.n_params else ""
        return Lines(offer.title, _facts(offer), size, words, tone)


def _facts(offer: Offer) -> tuple[str, ...]:
    if offer.found is None:
        return (offer.about,)
    owner = offer.repo.partition("/")[0]
    facts = [owner, f"{format_count(offer.found.downloads)} downloads"]
    if "gguf" in offer.found.formats:
        facts.append("ready to chat")
    elif "safetensors" in offer.found.formats:
        facts.append("to shrink")
    if offer.found.is_gated:
        facts.append("terms to accept")
    return (*facts, offer.license) if offer.license else tuple(facts)


def fits(size_bytes: int, usable_bytes: int) -> bool:
    """Whether a model of about `size_bytes` does for sure; not where its size is unknown."""
    return judge_size(size_bytes, usable_bytes)[1] == "good"


def judge_size(size_bytes: int, usable_bytes: int) -> tuple[str, Tone]:
    """A badge for a model of about `size_bytes`, or none where that is not known."""
    if not size_bytes:
        return "", "neutral"
    needed = needed_bytes(size_bytes)
    if needed <= usable_bytes:
        return "Fits", "good"
    if size_bytes <= usable_bytes:
        return "Tight", "caution"
    return f"Too large: {format_bytes(needed)}", "bad"
