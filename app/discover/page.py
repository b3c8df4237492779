"""Discover: models of the hub, searched or picked, and their downloads."""

from __future__ import annotations

from functools import partial
from typing import Any

from PySide6.QtCore import QModelIndex, Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app import theme
from app.context import AppContext
from app.discover.found import Offer, OfferList, fits, offer_of, picks
from app.discover.offer import OfferCard
from app.models.list_view import ModelListView
from app.models.model_list import ROW_ROLE
from app.problems import ProblemCard
from app.tasks import Task, TaskState
from app.widgets import Card, SearchField, SecondaryButton, SegmentedControl, Select, row, second
from engine.hub.repo import Variant
from engine.hub.search import Search, Searched
from engine.words import plural

TYPING_MS = 350
"""How long to wait for another letter before the hub is asked."""
KINDS = (("", "All"), ("gguf", "Ready to chat"), ("safetensors", "To shrink"))
SORTS = (
    ("trending", "Trending"),
    ("downloads", "Most downloads"),
    ("likes", "Most likes"),
    ("updated", "Newest"),
)
LICENCES = (("", "Any licence"), ("apache-2.0", "Apache 2.0"), ("mit", "MIT"))


class DiscoverPage(QWidget):
    """Nothing is asked of the network before the user searches or chooses."""

    chat_requested = Signal(str)
    shrink_requested = Signal(str)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._question: Task | None = None
        self._usable_bytes = 0
        self._offers = OfferList()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(TYPING_MS)
        self._timer.timeout.connect(self._search)
        self._build()

    def _build(self) -> None:
        self.field = SearchField("Search models on Hugging Face")
        self.field.textChanged.connect(lambda _text: self._timer.start())
        self.field.returnPressed.connect(self._search)
        self.kind = SegmentedControl("Kind of model", KINDS)
        self.kind.set_value("")
        self.kind.chosen.connect(lambda _value: self._search())
        self.fits = SecondaryButton("Fits here", "memory")
        self.fits.setCheckable(True)
        self.fits.setToolTip("Only models that fit this computer's free memory at four bits")
        self.fits.toggled.connect(lambda _is_on: self._search())
        self.sort = _select("Order", SORTS, self._search)
        self.licence = _select("Licence", LICENCES, self._search)
        self.heading = second("")
        self.view = ModelListView("Models on the hub", self._offers)
        self.view.selectionModel().currentChanged.connect(self._on_current_changed)
        self._problems = QVBoxLayout()
        shelf = Card()
        shelf.body.setContentsMargins(8, 12, 8, 8)
        self.heading.setContentsMargins(8, 0, 8, 0)
        shelf.body.addWidget(self.heading)
        shelf.body.addWidget(self.view, 1)
        self.offer = OfferCard(self._context)
        self.offer.setFixedWidth(380)
        self.offer.hide()
        self.offer.opened.connect(self._on_opened)
        filters = row(self.field, self.kind, self.fits, self.sort, self.licence)
        filters.setStretch(0, 1)
        both = row(shelf, self.offer, spacing=theme.SPACE_16)
        both.setStretch(0, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(theme.SPACE_12)
        outer.addLayout(filters)
        outer.addLayout(self._problems)
        outer.addLayout(both, 1)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        from engine.fit.rough import room_bytes
        from engine.hardware import detect

        here = self._context.computer
        self._usable_bytes = room_bytes(detect(here.devices), here.releasable)
        if not self._offers.offers:
            self._show_picks()
        self.field.setFocus(Qt.FocusReason.OtherFocusReason)
        if not event.spontaneous():
            self.offer.look_again()

    @property
    def offers(self) -> tuple[Offer, ...]:
        return self._offers.offers

    def _show_picks(self) -> None:
        self.heading.setText("A few to start with, from the smallest on")
        offers = picks()
        if self.fits.isChecked():
            offers = tuple(offer for offer in offers if fits(offer.size_bytes, self._usable_bytes))
        if not offers:
            self.heading.setText("Of the first picks none fits in the memory that is free now.")
        self._offers.show(offers, self._usable_bytes)

    def _search(self) -> None:
        """Ask the hub; with nothing to look for, the picks come back."""
        self._timer.stop()
        text, licence = self.field.text().strip(), str(self.licence.currentData())
        kind: Any = self.kind.value or None
        self._question = None
        if not (text or kind or licence):
            self._show_picks()
            return
        self.heading.setText("Asking the hub")
        sort: Any = self.sort.currentData()
        is_offline = self._context.settings.value.is_offline
        usable = self._usable_bytes if self.fits.isChecked() else None
        job = Search(text, sort, kind, licence, usable_bytes=usable, is_offline=is_offline)
        question = self._context.tasks.ask(job)
        self._question = question
        question.finished.connect(partial(self._on_found, question))

    def _on_found(self, question: Task) -> None:
        if question is not self._question:  # an older one: another was asked since
            return
        self._question = None
        self._clear_problems()
        if question.state == TaskState.SUCCEEDED:
            searched: Searched = question.result
            offers = tuple(map(offer_of, searched.found))
            self.heading.setText(_sum_up(searched))
            self._offers.show(offers, self._usable_bytes)
        elif question.error:
            self.heading.setText("")
            card = ProblemCard(question.error)
            card.dismissed.connect(self._clear_problems)
            self._problems.addWidget(card)
            card.show()

    def _clear_problems(self) -> None:
        while item := self._problems.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()

    def _on_current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        offer: Offer | None = current.data(ROW_ROLE)
        self.offer.setVisible(offer is not None)
        if offer:
            self.offer.show_offer(offer, self._usable_bytes)

    def _on_opened(self, variant: Variant, path: str) -> None:
        wanted = self.chat_requested if variant.format == "gguf" else self.shrink_requested
        wanted.emit(path)


def _sum_up(searched: Searched) -> str:
    """What a search has found, and what was left out, in one line."""
    number, left_out = len(searched.found), searched.left_out
    if not number:
        return f"Nothing fits: {left_out}." if left_out else "Nothing found. Try fewer words."
    words = plural(number, "model")
    return f"{words} · {left_out}" if left_out else words


def _select(name: str, options: tuple[tuple[str, str], ...], on_change: Any) -> Select:
    select = Select(name)
    for value, text in options:
        select.addItem(text, value)
    select.currentIndexChanged.connect(lambda _index: on_change())
    return select
