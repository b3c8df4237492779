"""What is known of the selected model, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from app import theme
from app.models.scan import Row
from app.models.verdict import Verdict, sums_in_words
from app.widgets import (
    Badge,
    Card,
    ElidedLabel,
    IconButton,
    PrimaryButton,
    Scroll,
    SecondaryButton,
    body,
    column,
    second,
    section,
)
from app.widgets import (
    row as hbox,
)
from engine.quantize.figures import QualityReport
from engine.quantize.report import ShrinkReport
from engine.words import format_bytes, format_bytes_exact, format_count, format_path

if TYPE_CHECKING:
    from engine.fit.verdict import Verdict as Fit
    from engine.inference import ModelInfo
    from engine.library import Entry

Facts = dict[str, tuple[str, str]]

FACTS = (
    "Size",
    "Type",
    "Parameters",
    "Architecture",
    "Layers",
    "Context",
    "Vocabulary",
    "Template",
    "Licence",
    "Memory",
    "Speed",
    "Took",
    "Quality",
    "From",
    "Path",
)


class Details(Card):
    """The card at the right of the Models page; the page knows which model it is."""

    chat_clicked = Signal()
    shrink_clicked = Signal()
    reveal_clicked = Signal()
    remove_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setFixedWidth(320)
        self.setAccessibleName("Details of the selected model")
        self._name = section("")
        self._name.setWordWrap(True)
        self._badge = Badge("")
        self._problem = body("")
        self._facts = QWidget()
        self._grid = QGridLayout(self._facts)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(theme.SPACE_16)
        self._grid.setVerticalSpacing(theme.SPACE_8)
        self._grid.setColumnStretch(1, 1)
        self._lines: dict[str, tuple[QLabel, QLabel]] = {}
        self._build_facts()
        self.chat_button = PrimaryButton("Chat", "chat")
        self.shrink_button = SecondaryButton("Shrink", "shrink")
        self.shrink_first_button = PrimaryButton("Shrink", "shrink")
        self.reveal_button = IconButton("reveal", "Show in folder")
        self.remove_button = IconButton("trash", "Remove")
        self.chat_button.clicked.connect(self.chat_clicked)
        self.shrink_button.clicked.connect(self.shrink_clicked)
        self.shrink_first_button.clicked.connect(self.shrink_clicked)
        self.reveal_button.clicked.connect(self.reveal_clicked)
        self.remove_button.clicked.connect(self.remove_clicked)
        self._lay_out()

    def _lay_out(self) -> None:
        content = QWidget()
        content.setLayout(
            column(
                self._name,
                hbox(self._badge, None),
                self._problem,
                theme.SPACE_8,
                self._facts,
                None,
                spacing=theme.SPACE_8,
            )
        )
        self.body.addWidget(Scroll(content), 1)
        self.body.addSpacing(theme.SPACE_8)
        self.body.addLayout(
            hbox(
                self.chat_button,
                self.shrink_first_button,
                self.shrink_button,
                None,
                self.reveal_button,
                self.remove_button,
            )
        )

    def show_row(self, row: Row, load: ModelInfo | None = None) -> None:
        """Show `row`, with how it was loaded last."""
        entry, summary = row.entry, row.entry.summary
        self._name.setText(entry.name)
        self._show_badge(row.verdict)
        self._problem.setText(" ".join(part for part in (entry.problem, entry.hint) if part))
        self._problem.setVisible(bool(entry.problem))
        is_chattable = summary is not None and summary.kind == "gguf"
        is_source = can_shrink(entry)
        self.chat_button.setVisible(is_chattable)
        self.shrink_first_button.setVisible(is_source and not is_chattable)
        self.shrink_button.setVisible(is_source and is_chattable)
        self.remove_button.setVisible(not (entry.is_starter or entry.origin))
        self._show_facts(facts_of(row) | fit_facts(row.verdict.fit) | load_facts(load))

    def show_exact(self, verdict: Verdict, tokens_per_second: float | None) -> None:
        """Put what llama.cpp says in the place of the estimate."""
        self._show_badge(verdict)
        for what, (text, tooltip) in fit_facts(verdict.fit, tokens_per_second).items():
            self._show_fact(what, text, tooltip)

    def show_report(self, report: ShrinkReport | None) -> None:
        """Say what shrinking cost this model, if that was measured."""
        if report and report.quality:
            self._show_fact("Quality", *quality_words(report.quality))

    def _show_badge(self, verdict: Verdict) -> None:
        self._badge.set(verdict.words, verdict.tone)
        self._badge.setToolTip(verdict.reason)

    def _build_facts(self) -> None:
        top = Qt.AlignmentFlag.AlignTop
        for line, what in enumerate(FACTS):
            key = second(what)
            key.setWordWrap(False)
            value = ElidedLabel(mode=Qt.TextElideMode.ElideMiddle) if what == "Path" else body("")
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(key, line, 0, top)
            self._grid.addWidget(value, line, 1, top)
            self._lines[what] = (key, value)

    def _show_facts(self, facts: Facts) -> None:
        for what in self._lines:
            self._show_fact(what, *facts.get(what, ("", "")))

    def _show_fact(self, what: str, text: str, tooltip: str) -> None:
        key, value = self._lines[what]
        value.setText(text)
        value.setToolTip(tooltip)
        value.setAccessibleName(f"{what}: {text}")
        key.setVisible(bool(text))
        value.setVisible(bool(text))


def can_shrink(entry: Entry) -> bool:
    """A checkpoint or a GGUF of 16 or 32 bits is a source; what is quantized already is not."""
    summary = entry.summary
    if summary is None:
        return False
    return summary.kind == "checkpoint" or not summary.quantized


def facts_of(row: Row) -> Facts:
    """What is shown of a model: (value, tooltip) of each of FACTS that is known."""
    summary = row.entry.summary
    facts = {"Path": (format_path(row.entry.path), row.entry.path)}
    if summary is None:
        return facts
    facts |= {
        "Size": (format_bytes(summary.size_bytes), format_bytes_exact(summary.size_bytes)),
        "Type": (f"{summary.type}, {summary.bits_per_weight:.2f} bits per weight", ""),
        "Parameters": (format_count(summary.n_params), f"{summary.n_params:,}"),
        "Architecture": (summary.architecture, ""),
        "Layers": (str(summary.n_layers), ""),
        "Context": (f"{summary.n_ctx_train:,} tokens", "As long as it was trained for"),
        "Vocabulary": (f"{summary.n_vocab:,} tokens", ""),
        "Template": ("Its own" if summary.has_chat_template else "None, it continues text", ""),
        "Licence": (summary.license or "Not stated", ""),
    }
    if source := row.entry.source:
        facts["From"] = (source.repo, f"Revision {source.revision}, verified by {source.digest}")
    elif row.entry.origin:
        facts["From"] = (row.entry.origin, "It belongs to that app; Snug only reads it")
    return facts


def fit_facts(fit: Fit | None, tokens_per_second: float | None = None) -> Facts:
    """What a model is predicted to take, and how fast it would write."""
    if fit is None:
        return {}
    words = f"{format_bytes(fit.total_bytes)} with {fit.run.n_ctx:,} tokens"
    if fit.run.kv_type != "f16":
        words += f" of context in {fit.run.kv_type.upper()}"
    facts = {"Memory": (words, f"Predicted:\n{sums_in_words(fit)}")}
    if tokens_per_second:
        about = (
            "With some questions and answers in the conversation already.\n"
            "By the bytes that each token needs, and how fast this computer multiplies them"
        )
        facts["Speed"] = (f"About {format_count(round(tokens_per_second))} tokens/s", about)
    return facts


def quality_words(quality: QualityReport) -> tuple[str, str]:
    """How like its original a model is, in short, and every figure."""
    words = f"{quality.verdict.capitalize()}: {quality.same_top_fraction:.1%} same top token"
    if probes := quality.probes:
        words += f", {probes.n_kept} of {probes.n_passed} probes kept"
    figures = (
        f"Measured against the original on {quality.n_tokens:,} tokens:\n"
        f"KL divergence {quality.kld_mean:.4f} on average, 99.9 % below {quality.kld_p999:.3f}\n"
        f"Perplexity {quality.perplexity:.3f}, of the original {quality.perplexity_reference:.3f}"
    )
    return words, figures


def load_facts(load: ModelInfo | None) -> Facts:
    """What a model took when it was loaded, against what had been predicted for that."""
    if load is None or not load.taken:
        return {}
    predicted = format_bytes(load.predicted_bytes)
    words = f"{format_bytes(load.taken_bytes)} with {load.n_ctx:,} tokens; predicted {predicted}"
    exact = f"{format_bytes_exact(load.taken_bytes)}; {format_bytes_exact(load.predicted_bytes)}"
    return {"Took": (words, f"Weights, context and buffers when it was loaded last:\n{exact}")}
