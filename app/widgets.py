"""The small parts every page is made of: labels, buttons, cards, badges, progress.

Looks come from the stylesheet by `role`; sizes from `app.theme`. Knows no page and no job.

Labels      title section body strong second number mono  (text) -> QLabel, wrapping where it helps
Buttons     PrimaryButton SecondaryButton QuietButton DangerButton TextLink IconButton
Grounds     Card, hline(), vline(), Scroll(widget), column(...), row(...)
Signs       Badge ElidedLabel ProgressBar Ring EmptyState IconLabel
Choices     SegmentedControl Select Toggle SearchField
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, QVariantAnimation, Signal
from PySide6.QtGui import (
    QHideEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QBoxLayout,
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app import icons, theme

Tone = Literal["good", "caution", "bad", "neutral", "accent"]


# Labels


def _label(text: str, role: str, wraps: bool) -> QLabel:
    label = QLabel(text)
    label.setProperty("role", role)
    label.setWordWrap(wraps)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def title(text: str) -> QLabel:
    return _label(text, "title", wraps=False)


def section(text: str) -> QLabel:
    return _label(text, "section", wraps=False)


def body(text: str) -> QLabel:
    return _label(text, "body", wraps=True)


def strong(text: str) -> QLabel:
    return _label(text, "strong", wraps=False)


def second(text: str) -> QLabel:
    return _label(text, "second", wraps=True)


def number(text: str) -> QLabel:
    """The one big number of a page."""
    return _label(text, "number", wraps=False)


def mono(text: str) -> QLabel:
    return _label(text, "mono", wraps=True)


class ElidedLabel(QLabel):
    """One line that ends in "..." where there is no room; the whole text is then its tooltip."""

    def __init__(
        self,
        text: str = "",
        role: str = "body",
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._mode = mode
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:
        return QSize(24, super().minimumSizeHint().height())

    def _shown(self) -> str:
        return self.fontMetrics().elidedText(self.text(), self._mode, self.width())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.setToolTip(self.text() if self._shown() != self.text() else "")

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        self.style().drawItemText(
            painter,
            self.contentsRect(),
            int(self.alignment().value),
            self.palette(),
            self.isEnabled(),
            self._shown(),
            self.foregroundRole(),
        )


class IconLabel(QLabel):
    """A picture, not a control; it follows the theme."""

    def __init__(self, name: str, size_px: int = 20, colour: str = "second") -> None:
        super().__init__()
        self._size_px = size_px
        self._icon = icons.icon(name, colour)
        self.setFixedSize(size_px, size_px)

    def set_icon(self, name: str, colour: str = "second") -> None:
        self._icon = icons.icon(name, colour)
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        self._icon.paint(QPainter(self), self.rect())


class Badge(QLabel):
    """A word in a tinted chip; the colour only repeats what the word says."""

    def __init__(self, text: str, tone: Tone = "neutral", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setProperty("role", "badge")
        self.setProperty("tone", tone)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def set(self, text: str, tone: Tone) -> None:
        self.setText(text)
        self.setProperty("tone", tone)
        self.style().unpolish(self)
        self.style().polish(self)


# Buttons. They take focus from the keyboard only, so a ring always means "the keyboard is here".


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


# Grounds


class Card(QFrame):
    """A surface with a padded column, `body`.

    `role` is card, card-raised, card-bad or card-selected.
    """

    def __init__(self, role: str = "card", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", role)
        self.body = QVBoxLayout(self)
        pad = theme.CARD_PADDING
        self.body.setContentsMargins(pad, pad, pad, pad)
        self.body.setSpacing(theme.SPACE_8)


def hline() -> QFrame:
    line = QFrame()
    line.setProperty("role", "line")
    return line


def vline() -> QFrame:
    line = QFrame()
    line.setProperty("role", "line-vertical")
    return line


Part = QWidget | QLayout | int | None
"""What `row` and `column` take: a widget, a layout, a gap in px, or None for a stretch."""


def _fill(box: QBoxLayout, parts: Sequence[Part], spacing: int, margin: int) -> None:
    box.setContentsMargins(margin, margin, margin, margin)
    box.setSpacing(spacing)
    for part in parts:
        if part is None:
            box.addStretch(1)
        elif isinstance(part, int):
            box.addSpacing(part)
        elif isinstance(part, QWidget):
            box.addWidget(part)
        else:
            box.addLayout(part)


def row(*parts: Part, spacing: int = theme.SPACE_8, margin: int = 0) -> QHBoxLayout:
    box = QHBoxLayout()
    _fill(box, parts, spacing, margin)
    return box


def column(*parts: Part, spacing: int = theme.SPACE_8, margin: int = 0) -> QVBoxLayout:
    box = QVBoxLayout()
    _fill(box, parts, spacing, margin)
    return box


class Scroll(QScrollArea):
    """Scrolls `content` up and down, never sideways, without a frame."""

    def __init__(self, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        content.setProperty("role", "scroll")
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setAutoFillBackground(False)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)


# Signs


def has_motion(widget: QWidget) -> bool:
    """False where the desktop asks for reduced motion."""
    from PySide6.QtWidgets import QStyle

    hint = QStyle.StyleHint.SH_Widget_Animation_Duration
    return widget.style().styleHint(hint, None, widget) > 0


class ProgressBar(QProgressBar):
    """A thin bar; `set_fraction(None)` sweeps while the end is not known.

    The sweep's timer runs only while it is on screen, so an idle window stays idle.
    """

    HEIGHT = 6

    def __init__(self, name: str = "Progress", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setTextVisible(False)
        self.setRange(0, 1000)
        self.setFixedHeight(self.HEIGHT)
        self._token = "accent"
        self._sweep = QVariantAnimation(self)
        self._sweep.setStartValue(0.0)
        self._sweep.setEndValue(1.0)
        self._sweep.setDuration(1400)
        self._sweep.setLoopCount(-1)
        self._sweep.valueChanged.connect(lambda _value: self.update())

    def set_fraction(self, fraction: float | None) -> None:
        self.setRange(0, 0 if fraction is None else 1000)
        if fraction is not None:
            self.setValue(round(max(0.0, min(1.0, fraction)) * 1000))
        self._turn_sweep()
        self.update()

    def set_colour(self, token: str) -> None:
        """A theme token, or a "#RRGGBB" such as a bit colour."""
        self._token = token
        self.update()

    def _turn_sweep(self) -> None:
        wanted = self.maximum() == 0 and self.isVisible() and has_motion(self)
        if wanted and self._sweep.state() != QVariantAnimation.State.Running:
            self._sweep.start()
        elif not wanted:
            self._sweep.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._turn_sweep()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._turn_sweep()

    def paintEvent(self, _event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        radius = area.height() / 2
        painter.setBrush(now.colour(theme.mix(now.surface, now.outline, 0.35)))
        painter.drawRoundedRect(area, radius, radius)
        bar = QRectF(area)
        if self.maximum() == 0:
            at = self._sweep.currentValue() if has_motion(self) else 0.35
            bar.setWidth(area.width() * 0.3)
            bar.moveLeft((area.width() * 1.3) * float(at or 0.0) - bar.width())
            bar = bar.intersected(area)
        else:
            bar.setWidth(area.width() * self.value() / self.maximum())
            if 0 < bar.width() < area.height():
                bar.setWidth(area.height())
        if bar.width() > 0:
            painter.setBrush(now.colour(self._token))
            painter.drawRoundedRect(bar, radius, radius)


class Ring(QWidget):
    """A small circle that fills with a fraction; None draws a quarter turn, at rest."""

    def __init__(self, size_px: int = 28, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._fraction: float | None = None
        self._text = ""
        self.setFixedSize(size_px, size_px)

    def set(self, fraction: float | None, text: str = "") -> None:
        self._fraction, self._text = fraction, text
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        paint_ring(QPainter(self), QRectF(self.rect()), self._fraction, self._text)


def paint_ring(painter: QPainter, area: QRectF, fraction: float | None, text: str) -> None:
    """Draw a progress ring with `text` in its middle into the square `area`."""
    now = theme.current()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    circle = area.adjusted(2, 2, -2, -2)
    pen = QPen(now.colour(theme.mix(now.surface, now.outline, 0.35)), 2.5)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    painter.drawEllipse(circle)
    pen.setColor(now.colour("accent"))
    painter.setPen(pen)
    part = 0.25 if fraction is None else fraction
    painter.drawArc(circle, 90 * 16, -round(part * 360 * 16))
    painter.setPen(now.colour("text"))
    painter.setFont(theme.ui_font(11))
    painter.drawText(area, Qt.AlignmentFlag.AlignCenter, text)


class EmptyState(QWidget):
    """What will be here, and the button that fills it."""

    activated = Signal()

    def __init__(
        self,
        icon: str,
        heading: str,
        text: str,
        button_text: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        picture = IconLabel(icon, 40, "second")
        head = section(heading)
        words = second(text)
        # Wide enough that two short sentences make two lines.
        words.setFixedWidth(360)
        words.ensurePolished()
        words.setMinimumHeight(words.heightForWidth(360))
        centre = Qt.AlignmentFlag.AlignHCenter
        words.setAlignment(centre)
        box = QVBoxLayout(self)
        box.setSpacing(theme.SPACE_8)
        box.addStretch(2)
        box.addWidget(picture, 0, centre)
        box.addSpacing(theme.SPACE_8)
        box.addWidget(head, 0, centre)
        box.addWidget(words, 0, centre)
        self.button: PrimaryButton | None = None
        if button_text:
            self.button = PrimaryButton(button_text)
            self.button.clicked.connect(self.activated)
            box.addSpacing(theme.SPACE_8)
            box.addWidget(self.button, 0, centre)
        box.addStretch(3)


# Choices


class SegmentedControl(QFrame):
    """A few exclusive choices side by side; arrow keys move between them."""

    chosen = Signal(str)

    def __init__(
        self, name: str, options: Sequence[tuple[str, str]], parent: QWidget | None = None
    ) -> None:
        """`options` are (value, text)."""
        super().__init__(parent)
        self.setProperty("role", "segments")
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QAbstractButton] = {}
        box = QHBoxLayout(self)
        box.setContentsMargins(2, 2, 2, 2)
        box.setSpacing(2)
        for value, text in options:
            button = QPushButton(text)
            button.setProperty("role", "segment")
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setAutoDefault(False)
            button.setAccessibleName(f"{name}: {text}")
            button.setProperty("value", value)
            self._group.addButton(button)
            self._buttons[value] = button
            box.addWidget(button)
        self._group.buttonToggled.connect(self._on_toggled)

    @property
    def value(self) -> str:
        button = self._group.checkedButton()
        return str(button.property("value")) if button else ""

    def set_value(self, value: str) -> None:
        """Show `value` as chosen, without telling `chosen`."""
        was = self._group.blockSignals(True)
        self._buttons[value].setChecked(True)
        self._group.blockSignals(was)

    def _on_toggled(self, button: QAbstractButton, is_checked: bool) -> None:
        if is_checked:
            self.chosen.emit(str(button.property("value")))


class Toggle(QCheckBox):
    """A switch for something that takes effect at once."""

    _TRACK = QSize(36, 20)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFixedSize(self._TRACK + QSize(6, 6))

    def sizeHint(self) -> QSize:
        return self._TRACK + QSize(6, 6)

    def hitButton(self, _pos: object) -> bool:
        return True

    def paintEvent(self, _event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect())
        track = area.adjusted(3, 3, -3, -3)
        if self.hasFocus():
            painter.setPen(QPen(now.colour("accent"), 2))
            painter.drawRoundedRect(area.adjusted(1, 1, -1, -1), 12, 12)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(now.colour("accent" if self.isChecked() else "outline"))
        painter.drawRoundedRect(track, 10, 10)
        knob = QRectF(0, 0, 14, 14)
        knob.moveCenter(track.center())
        knob.moveLeft(track.right() - 17 if self.isChecked() else track.left() + 3)
        painter.setBrush(now.colour("on_accent" if self.isChecked() else "surface"))
        painter.drawEllipse(knob)


class SearchField(QLineEdit):
    """A quiet field with a magnifier and a button that clears it."""

    def __init__(self, placeholder: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "search")
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(placeholder)
        self.addAction(icons.icon("search", "second"), QLineEdit.ActionPosition.LeadingPosition)
        self.setClearButtonEnabled(True)

    def event(self, event: QEvent) -> bool:
        # Esc first empties the field and only then means something to the page.
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and getattr(event, "key", lambda: None)() == Qt.Key.Key_Escape
            and self.text()
        ):
            self.clear()
            event.accept()
            return True
        return super().event(event)


class Select(QComboBox):
    """A drop-down of a few choices; the wheel scrolls the page, not the value."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumContentsLength(10)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        # Here and not in the stylesheet: a picture there cannot follow the theme's colours.
        chevron = icons.icon("chevron-down", "second")
        place = QRect(self.width() - 26, (self.height() - 16) // 2, 16, 16)
        chevron.paint(QPainter(self), place)
