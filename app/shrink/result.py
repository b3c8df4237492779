"""The result before it is made: its size, why this width, what it takes, and where it goes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QFileDialog, QLineEdit, QVBoxLayout, QWidget

from app import theme
from app.shrink.choices import ChoiceList
from app.shrink.memory_bar import MemoryBar
from app.shrink.naming import default_name, numbered, why_not, with_suffix
from app.shrink.size_slider import SizeSlider
from app.shrink.texts import TextsChoice
from app.shrink.work import STOCK, WorkChoice
from app.widgets import (
    Badge,
    ElidedLabel,
    IconButton,
    PrimaryButton,
    Scroll,
    TextLink,
    body,
    column,
    hline,
    number,
    row,
    second,
)
from engine.fit.recommend import Choice, Recommendation
from engine.hardware import Computer
from engine.words import format_bytes, format_bytes_exact, format_path


class ResultView(QWidget):
    """What would come out. `shrink_clicked` fires with a width chosen and a free name."""

    shrink_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source = ""
        self._folder = Path()
        self._n_ctx = 0
        self._is_named_by_hand = False
        self._computer: Computer | None = None
        self.choice: Choice | None = None
        self._size = number("")
        self._size.setAccessibleName("Size of the result")
        self._fit = Badge("")
        self._what = second("")
        self._reason = body("")
        self._memory = MemoryBar()
        self.choices = ChoiceList()
        self.choices.chosen.connect(self._on_chosen)
        self.slider = SizeSlider()
        self.slider.chosen.connect(self._on_chosen)
        self.work = WorkChoice()
        self.work.changed.connect(self._on_work_changed)
        self.texts = TextsChoice()
        self.name_field = QLineEdit()
        self.name_field.setAccessibleName("Name of the new file")
        self.name_field.setAcceptDrops(False)
        self.name_field.textEdited.connect(self._on_name_edited)
        self.name_field.returnPressed.connect(self._on_shrink_clicked)
        self._where = ElidedLabel("", role="second")
        self.folder_button = IconButton("folder", "Save in another folder")
        self.folder_button.clicked.connect(self.choose_folder)
        self._conflict = second("")
        self.numbered_button = TextLink("")
        self.numbered_button.clicked.connect(self.take_numbered_name)
        self.shrink_button = PrimaryButton("Shrink", "shrink")
        self.shrink_button.clicked.connect(self._on_shrink_clicked)
        self._lay_out()

    def _lay_out(self) -> None:
        pad = theme.CARD_PADDING
        heading = row(self._size, self._fit, None, spacing=theme.SPACE_12)
        contents = column(
            column(heading, self._what, spacing=2),
            self._reason,
            theme.SPACE_4,
            self._memory,
            theme.SPACE_4,
            self.choices,
            self.slider,
            theme.SPACE_8,
            self.work,
            theme.SPACE_8,
            self.texts,
            self.work.details,
            None,
            spacing=theme.SPACE_8,
        )
        contents.setContentsMargins(pad, pad, pad, theme.SPACE_8)
        upper = QWidget()
        upper.setLayout(contents)
        naming = row(self.name_field, self.folder_button, self.shrink_button)
        below = row(self._where, self._conflict, self.numbered_button)
        lower = column(naming, below, spacing=theme.SPACE_4)
        lower.setContentsMargins(pad, theme.SPACE_12, pad, theme.SPACE_12)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        scroll = Scroll(upper)
        show = partial(scroll.ensureWidgetVisible, self.work.details)
        self.work.fold.clicked.connect(lambda: QTimer.singleShot(0, show))
        box.addWidget(scroll, 1)
        box.addWidget(hline())
        box.addLayout(lower)

    # What is shown

    def show_recommendation(
        self, source: str, recommendation: Recommendation, computer: Computer, folder: Path
    ) -> None:
        self._source, self._computer, self._folder = source, computer, folder
        self._is_named_by_hand = False
        self._reason.setText(recommendation.reason)
        self._n_ctx = recommendation.n_ctx
        widest = recommendation.choices[0]
        self.work.show_model(round(widest.size_bytes * 8 / widest.bits_per_weight))
        self.slider.show_choices(recommendation.choices, computer)
        self.choices.show_recommendation(recommendation)

    @property
    def out(self) -> Path:
        return self._folder / self._name

    @property
    def _name(self) -> str:
        return with_suffix(self.name_field.text())

    def _on_chosen(self, choice: Choice) -> None:
        assert self._computer
        self.choice = choice
        self.choices.mark(choice)
        self.slider.show_choice(choice)
        self._size.setText(format_bytes(choice.size_bytes))
        self._size.setToolTip(format_bytes_exact(choice.size_bytes))
        self._what.setText(
            f"{choice.recipe or 'In between'}, {choice.bits_per_weight:.2f} bits per weight, with"
            f" {self._n_ctx:,} tokens of context"
        )
        if choice.fits:
            self._fit.set("Fits this computer", "good")
        else:
            self._fit.set("Too large for this computer", "bad")
        self._memory.show_memory(choice.memory, self._computer)
        if not self._is_named_by_hand:
            kind = choice.recipe or format_bytes(choice.size_bytes).replace(" ", "")
            self.name_field.setText(default_name(self._source, kind))
        self.check_name()

    def _on_work_changed(self) -> None:
        """The stock types come in their own sizes, and are rounded without a text."""
        is_stock = self.work.value == STOCK
        self.slider.setEnabled(not is_stock)
        self.texts.setEnabled(not is_stock)
        if is_stock and self.choice and not self.choice.recipe:
            self.slider.take_nearest()

    # Where it goes

    def _on_name_edited(self, text: str) -> None:
        self._is_named_by_hand = bool(text.strip())
        self.check_name()

    def check_name(self) -> None:
        """Say what is wrong with the name, and offer a free one where the name is taken."""
        why = why_not(self._folder, self._name)
        self._conflict.setText(why)
        self._conflict.setVisible(bool(why))
        self._where.setText(f"In {format_path(self._folder)}")
        self._where.setVisible(not why)
        is_taken = bool(why) and self.out.exists()
        self.numbered_button.setVisible(is_taken)
        if is_taken:
            self.numbered_button.setText(f"Use {numbered(self.out).name}")
        self.shrink_button.setEnabled(not why and self.choice is not None)

    def take_numbered_name(self) -> None:
        self.name_field.setText(numbered(self.out).name)
        self._is_named_by_hand = True
        self.check_name()

    def choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save in", str(self._folder))
        if folder:
            self.set_folder(Path(folder))

    def set_folder(self, folder: Path) -> None:
        self._folder = folder
        self.check_name()

    def _on_shrink_clicked(self) -> None:
        self.check_name()  # a file of that name may have come meanwhile
        if self.shrink_button.isEnabled():
            self.shrink_clicked.emit()
