"""Read-only text that is as tall as its words need, and opens a link only when told to.

What is shown may come from a model: nothing in it makes Qt read a file or the network.
"""

from __future__ import annotations

from html import escape
from math import ceil
from typing import Any

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QFontMetrics, QImage, QTextOption, QWheelEvent
from PySide6.QtWidgets import QDialog, QFrame, QSizePolicy, QTextBrowser, QVBoxLayout, QWidget

from app import theme
from app.widgets import PrimaryButton, SecondaryButton, body, mono, row, section

MAX_SHOWN_URL = 400
LINE_PX = 16


class TextView(QTextBrowser):
    """A piece of rich text of our own making; its height follows its width."""

    def __init__(self, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._html = ""
        self._width_hint = 0
        self._heights: dict[int, int] = {}  # by width, for the text as it is
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setOpenLinks(False)
        self.setOpenExternalLinks(False)
        self.setUndoRedoEnabled(False)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.anchorClicked.connect(self._on_link_clicked)
        theme.appearance().changed.connect(self._dress)

    def show_html(self, html: str) -> None:
        """Show HTML made by `app.chat.markdown`, never by a model."""
        self._html = html
        self._dress()

    def show_plain(self, text: str) -> None:
        """Show `text` as it stands, and be no wider than its longest line."""
        self._html = f'<p style="white-space: pre-wrap">{escape(text)}</p>'
        metrics = QFontMetrics(theme.ui_font())
        widest = max(map(metrics.horizontalAdvance, text.split("\n")))
        self._width_hint = widest + 2  # the layout rounds each run of a font up
        self._dress()

    def _dress(self) -> None:
        self.document().setDefaultStyleSheet(_css(theme.current()))
        self.setHtml(self._html)
        before = self._heights.get(self.width())
        self._heights.clear()
        # Most words of a stream go into a line that is there: then no layout above need move.
        if before is None or before != self.heightForWidth(self.width()):
            self.updateGeometry()

    def loadResource(self, kind: int, url: QUrl | str) -> Any:
        """Load nothing, from nowhere: Qt would read `file:` and network paths.

        An empty image says "this is it"; with None or empty bytes Qt opens the file all the same.
        """
        return QImage()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        if width not in self._heights:
            document = self.document()
            worn = document.textWidth()
            if worn == width:
                self._heights[width] = ceil(document.size().height())
            else:  # a question of the layout: what is on screen keeps its width
                document.setTextWidth(width)
                self._heights[width] = ceil(document.size().height())
                document.setTextWidth(worn)
        return self._heights[width]

    def sizeHint(self) -> QSize:
        # Every layout above asks for the height of a width; what is not known yet is not measured.
        height = self._heights.get(self.width(), LINE_PX)
        return QSize(self._width_hint or theme.READING_WIDTH, height)

    def minimumSizeHint(self) -> QSize:
        return QSize(40, LINE_PX)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the transcript scrolls, not one paragraph

    def _on_link_clicked(self, url: QUrl) -> None:
        LinkDialog(url, self.window()).open()


class LinkDialog(QDialog):
    """Shows where a link leads, whose it is, and asks before it is opened."""

    def __init__(self, url: QUrl, parent: QWidget, whose: str = "The model wrote it.") -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._url = url
        self.setWindowTitle("Open this link?")
        # Encoded, so that no look-alike letter or direction mark hides the true host.
        shown = bytes(url.toEncoded().data()).decode("ascii", "replace")
        if len(shown) > MAX_SHOWN_URL:
            shown = shown[:MAX_SHOWN_URL] + "…"
        self.target = mono(shown)
        self.target.setMinimumWidth(420)
        self.target.setMaximumWidth(560)
        self.open_button = PrimaryButton("Open link", "external")
        self.open_button.clicked.connect(self._on_open_clicked)
        self.cancel_button = SecondaryButton("Cancel")
        self.cancel_button.clicked.connect(self.reject)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.PAGE_MARGIN,) * 4)
        box.setSpacing(theme.SPACE_12)
        box.addWidget(section("Open this link?"))
        box.addWidget(body(f"{whose} It leads outside Snug, to:"))
        box.addWidget(self.target)
        box.addSpacing(theme.SPACE_8)
        box.addLayout(row(None, self.cancel_button, self.open_button))
        self.cancel_button.setFocus()

    def _on_open_clicked(self) -> None:
        from app.chat.markdown import is_openable

        if is_openable(self._url.toString()):
            QDesktopServices.openUrl(self._url)
        self.accept()


def _css(now: theme.Theme) -> str:
    """How the tags of `app.chat.markdown` look, in the subset of CSS that Qt knows."""
    return f"""
    p, li {{ line-height: 150%; margin: 0; }}
    p + p {{ margin-top: 8px; }}
    p.h1 {{ font-size: 18px; font-weight: 600; margin: 4px 0 0 0; }}
    p.h2 {{ font-size: 16px; font-weight: 600; margin: 4px 0 0 0; }}
    p.h3, p.h4, p.h5, p.h6 {{ font-size: 14px; font-weight: 600; margin: 2px 0 0 0; }}
    ul, ol {{ margin: 0; }}
    li {{ margin: 2px 0; }}
    strong {{ font-weight: 600; }}
    code {{ font-family: "{theme.MONO_FAMILY}"; font-size: 12px; background-color: {now.raised}; }}
    a {{ color: {now.accent}; }}
    table {{ border-collapse: collapse; }}
    th {{ font-weight: 600; }}
    th, td {{ padding: 6px 20px 6px 0; border-bottom: 1px solid {now.line}; }}
    """
