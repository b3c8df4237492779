"""The card at the right of Discover: a model of the hub, what of it can be had, its card."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QUrl, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app import theme
from app.chat.text import LinkDialog
from app.context import AppContext
from app.discover.fit_check import FitCheck
from app.discover.found import Offer
from app.discover.variant_row import VariantRow, best
from app.downloads import download, resume, task_of
from app.problems import ProblemCard
from app.tasks import Task, TaskState
from app.widgets import Card, IconButton, Scroll, SecondaryButton, hline, row, second, section
from engine.hub.here import FindHere, Here
from engine.hub.search import Describe, Described
from engine.words import format_count

if TYPE_CHECKING:
    from engine.hub.repo import Repo

MAX_CARD_CHARS = 30_000
MAX_BLOCKS = 120
"""Each is a widget: a card made of thousands would stop the window for half a minute."""
MAX_VARIANTS = 60
N_SHOWN = 6


class OfferCard(Card):
    """Asks the hub about the offer it is shown, and starts its downloads."""

    opened = Signal(object, str)
    """A variant, and the path at which it now is, to be used."""

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._context = context
        self._offer: Offer | None = None
        self._repo: Repo | None = None
        self._question: Task | None = None
        self.fit_check = FitCheck(context, self)
        self._usable_bytes = 0
        self._page = ""
        self.rows: list[VariantRow] = []
        self._name = section("")
        self._name.setWordWrap(True)
        self._facts = second("")
        self._about = second("")
        self.page_button = IconButton("external", "Open its page on the hub")
        self.page_button.clicked.connect(self._on_page_clicked)
        self.more_button: SecondaryButton | None = None
        self._inside = QWidget()
        self._holder = QVBoxLayout()
        holder = QWidget()
        holder.setLayout(self._holder)
        self._holder.setContentsMargins(0, 0, theme.SPACE_8, 0)
        self._lay_out_inside()
        heading = row(self._name, self.page_button)
        heading.setStretch(0, 1)
        self.body.addLayout(heading)
        self.body.addWidget(self._facts)
        self.body.addWidget(self._about)
        self.body.addWidget(Scroll(holder), 1)

    def _lay_out_inside(self) -> None:
        """A fresh column, which goes away as a whole with the next offer."""
        self._content = QVBoxLayout(self._inside)
        self._content.setContentsMargins(0, 0, 0, 0)
        self._content.setSpacing(theme.SPACE_12)
        self._holder.addWidget(self._inside)

    def show_offer(self, offer: Offer, usable_bytes: int) -> None:
        """Show `offer`, and ask the hub for its files."""
        self.introduce(offer, usable_bytes)
        self._ask()

    def introduce(self, offer: Offer, usable_bytes: int) -> None:
        """Show what is known of `offer` without the hub."""
        self._offer, self._usable_bytes = offer, usable_bytes
        self._name.setText(offer.title)
        self._facts.setText(" · ".join(_facts(offer)))
        self._about.hide()
        self._page = ""
        self.page_button.setEnabled(False)
        self._clear()

    def _ask(self) -> None:
        assert self._offer
        self._clear()
        self._about.setText("Asking the hub")
        self._about.show()
        value = self._context.settings.value
        job = Describe(self._offer.repo, value.models_folder, value.is_offline)
        question = self._context.tasks.ask(job)
        self._question = question
        question.finished.connect(partial(self._on_answered, question))

    def _on_answered(self, question: Task) -> None:
        if question is not self._question:  # another one was chosen meanwhile
            return
        self._question = None
        self._about.hide()
        if question.state == TaskState.SUCCEEDED:
            self.show_described(question.result)
        elif question.error:
            problem = ProblemCard(question.error)
            problem.dismissed.connect(problem.hide)
            again = SecondaryButton("Try again", "regenerate")
            again.clicked.connect(self._ask)
            self._content.addWidget(problem)
            self._content.addLayout(row(again, None))
            self._content.addStretch(1)

    def show_described(self, described: Described) -> None:
        """Show what the hub has told."""
        self._page = described.page
        self.page_button.setEnabled(True)
        repo = self._repo = described.repo
        if repo.about.is_gated:
            self._about.setText(
                "Its owner asks you to accept terms first: open its page, sign in, accept them,"
                " and give Snug an access token in Settings."
            )
            self._about.show()
        variants = repo.variants()
        if not variants:
            self._about.setText("It has no file that Snug can use: no GGUF, no safetensors.")
            self._about.show()
        to_take = best(variants, self._usable_bytes)
        to_judge = to_take or next(iter(variants), None)
        for i, variant in enumerate(variants[:MAX_VARIANTS]):
            line = VariantRow(variant, self._usable_bytes, is_best=variant is to_take)
            line.clicked.connect(partial(self._on_clicked, line))
            line.chosen.connect(partial(self.fit_check.choose, line, repo.id))
            self._show_state(line, described.here)
            if i >= N_SHOWN and variant is not to_take:
                line.hide()
            self.rows.append(line)
            if variant is to_judge:
                line.chosen.emit()
            self._content.addWidget(line)
        if len(variants) > N_SHOWN:
            self.more_button = SecondaryButton(f"Show all {len(self.rows)}", "chevron-down")
            self.more_button.clicked.connect(self._show_all)
            self._content.addLayout(row(self.more_button, None))
        self._show_card(described.card[:MAX_CARD_CHARS])

    def _show_card(self, text: str) -> None:
        from app.chat.blocks import BlockColumn
        from app.chat.markdown import blocks_of

        if text.strip():
            card = BlockColumn()
            card.show_blocks(blocks_of(text)[:MAX_BLOCKS])
            self._content.addWidget(hline())
            self._content.addWidget(card)
        self._content.addStretch(1)

    def look_again(self) -> None:
        """Find out what of the offer is on this computer now: it may have been removed."""
        if self._repo:
            job = FindHere(self._repo, self._context.settings.value.models_folder)
            question = self._context.tasks.ask(job)
            question.finished.connect(partial(self._on_looked, question, self._repo))

    def _on_looked(self, question: Task, repo: Repo) -> None:
        if repo is self._repo and question.state == TaskState.SUCCEEDED:
            for line in self.rows:
                self._show_state(line, question.result)

    def _show_state(self, line: VariantRow, here: dict[str, Here]) -> None:
        """What of a variant is here, and the task that is at it, wherever it was started."""
        assert self._repo
        name = line.variant.main_file.name
        line.show_here(here.get(name))
        if task := task_of(self._context.tasks, self._repo.id, name):
            line.follow(task)

    def _on_clicked(self, line: VariantRow) -> None:
        assert self._repo
        here = line.here
        if line.task and line.task.state == TaskState.PAUSED:
            line.task.resume()
        elif line.task and line.task.is_active:
            line.task.pause()
        elif here and here.path:
            self.opened.emit(line.variant, here.path)
        elif here and here.note:
            line.follow(resume(self._context, here.note.job, here.note.title))
        else:
            line.follow(download(self._context, self._repo, line.variant))

    def _on_page_clicked(self) -> None:
        LinkDialog(QUrl(self._page), self, "It is the model's page on the hub.").show()

    def _show_all(self) -> None:
        for line in self.rows:
            line.show()
        if self.more_button:
            self.more_button.hide()

    def _clear(self) -> None:
        self.fit_check.choose(None)
        self._repo, self.rows, self.more_button = None, [], None
        old, self._inside = self._inside, QWidget()
        old.deleteLater()
        self._lay_out_inside()


def _facts(offer: Offer) -> list[str]:
    facts = [offer.repo]
    if offer.n_params:
        facts.append(f"{format_count(offer.n_params)} parameters")
    if offer.license:
        facts.append(offer.license)
    return facts
