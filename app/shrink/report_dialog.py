"""What became of a model, with every figure: the report as text, to read and to copy."""

from __future__ import annotations

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QPlainTextEdit, QVBoxLayout, QWidget

from app import theme
from app.widgets import PrimaryButton, SecondaryButton, row, section
from engine.quantize.report import ShrinkReport, as_text

WIDTH, HEIGHT = 760, 520


class ReportDialog(QDialog):
    def __init__(self, report: ShrinkReport, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Report on {report.model}")
        self.setModal(True)
        self.resize(WIDTH, HEIGHT)
        self.text = QPlainTextEdit(as_text(report))
        self.text.setProperty("role", "code")
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setAccessibleName("Report")
        self.copy_button = SecondaryButton("Copy", "copy")
        self.copy_button.clicked.connect(self._on_copy_clicked)
        self.close_button = PrimaryButton("Close")
        self.close_button.clicked.connect(self.accept)
        self.finished.connect(self.deleteLater)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.PAGE_MARGIN,) * 4)
        box.setSpacing(theme.SPACE_12)
        box.addWidget(section("Report"))
        box.addWidget(self.text, 1)
        box.addLayout(row(self.copy_button, None, self.close_button))

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self.text.toPlainText())
