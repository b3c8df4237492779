"""Buttons. They take focus from the keyboard only: a ring always means "the keyboard is here"."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QPushButton, QSizePolicy, QWidget

from app import icons, theme


def _dress(button: QPushButton, role: str, icon: str | None, colour: str) -> None:
    button.setProperty("role", role)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setAutoDefault(False)
    button.setCursor(Qt.CursorShape.ArrowCursor)
    button.setIconSize(QSize(16, 16))
    if icon:
        button.setIcon(icons.icon(icon, colour))


class PrimaryButton(QPushButton):
    """The one filled button of a page."""

    def __init__(self, text: str, icon: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        _dress(self, "primary", icon, "on_accent")


class SecondaryButton(QPushButton):
    def __init__(self, text: str, icon: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        _dress(self, "secondary", icon, "text")


class QuietButton(QPushButton):
    """Text without a border, with a ground on hover."""

    def __init__(self, text: str, icon: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        _dress(self, "quiet", icon, "second")


class DangerButton(QPushButton):
    """Does what cannot be undone; its text says what."""

    def __init__(self, text: str, icon: str | None = None, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        _dress(self, "danger", icon, "bad")


class TextLink(QPushButton):
    """A link in the flow of a page; `clicked` does the work."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        _dress(self, "link", None, "accent")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)


class IconButton(QPushButton):
    """A square button with an icon; `name` is its accessible name and its tooltip."""

    def __init__(
        self,
        icon: str,
        name: str,
        *,
        size_px: int = theme.CONTROL_HEIGHT,
        icon_px: int = 16,
        colour: str = "second",
        is_primary: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        _dress(self, "icon-primary" if is_primary else "icon", None, colour)
        self._colour = "on_accent" if is_primary else colour
        self.setIconSize(QSize(icon_px, icon_px))
        # The stylesheet's heights count the content, so a smaller button says so itself.
        inner = size_px - 2
        self.setStyleSheet(
            f"min-width: {inner}px; max-width: {inner}px;"
            f"min-height: {inner}px; max-height: {inner}px;"
        )
        self.set_icon(icon, name)

    def set_icon(self, icon: str, name: str, shortcut: str = "") -> None:
        """Change what the button does: its picture and its name together."""
        self.setIcon(icons.icon(icon, self._colour))
        self.setAccessibleName(name)
        self.setToolTip(f"{name} ({shortcut})" if shortcut else name)
