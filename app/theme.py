"""Colours, sizes and fonts: tokens from resources/themes, one palette and one stylesheet.

The `Appearance` hangs on the QApplication, so there is no global; a widget asks `current()`.
Knows no page; `app/stylesheet.py` turns the tokens into Qt's stylesheet.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from app import stylesheet

Choice = Literal["system", "light", "dark"]

RESOURCES: Final = Path(__file__).parent.parent / "resources"

# The 4 px grid (look.md).
SPACE_4: Final = 4
SPACE_8: Final = 8
SPACE_12: Final = 12
SPACE_16: Final = 16
SPACE_24: Final = 24
SPACE_32: Final = 32
PAGE_MARGIN: Final = 24
CARD_PADDING: Final = 16
CONTROL_HEIGHT: Final = 32
PRIMARY_HEIGHT: Final = 36
RADIUS: Final = 8
RADIUS_CARD: Final = 12
RADIUS_CHIP: Final = 6
RAIL_WIDTH: Final = 56
READING_WIDTH: Final = 760
FOLD_WIDTH: Final = 1000
"""Below this window width the conversation list folds."""

UI_FAMILY: Final = "Inter"
MONO_FAMILY: Final = "JetBrains Mono"


class CodeColours(NamedTuple):
    """Syntax colours, readable on `surface` and `raised`."""

    keyword: str
    string: str
    number: str
    comment: str
    function: str
    type: str


class Theme(NamedTuple):
    """The colour tokens of one theme as #RRGGBB; `bits` runs from 2 to 8 and more bits."""

    name: Literal["light", "dark"]
    window: str
    surface: str
    raised: str
    line: str
    outline: str
    text: str
    second: str
    accent: str
    on_accent: str
    good: str
    caution: str
    bad: str
    bits: tuple[str, ...]
    code: CodeColours

    @property
    def is_dark(self) -> bool:
        return self.name == "dark"

    def colour(self, token: str) -> QColor:
        """The QColor of a token name ("second"), or of a literal "#RRGGBB"."""
        return QColor(token if token.startswith("#") else getattr(self, token))

    def tint(self, token: str, amount: float = 0.1) -> str:
        """`token` washed over `surface`: the ground of a badge or a selected row."""
        return mix(self.surface, getattr(self, token), amount)

    def bits_colour(self, bits_per_weight: float) -> str:
        """The heat map colour of a width; 2 and below is the first, 8 and above the last."""
        return self.bits[min(len(self.bits) - 1, max(0, round(bits_per_weight) - 2))]


def mix(ground: str, over: str, amount: float) -> str:
    """`over` laid on `ground` with opacity `amount`, both #RRGGBB."""
    pairs = ((int(ground[i : i + 2], 16), int(over[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * amount):02X}" for a, b in pairs)


@cache
def load(name: Literal["light", "dark"]) -> Theme:
    tokens = json.loads((RESOURCES / "themes" / f"{name}.json").read_bytes())
    code = CodeColours(**tokens.pop("code"))
    return Theme(**tokens, code=code)


class Appearance(QObject):
    """The chosen look of a QApplication; `changed` fires after palette and stylesheet are set."""

    changed = Signal()

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.setObjectName("appearance")
        self._app = app
        self.choice: Choice = "system"
        self.theme = load("light")
        app.setStyle(QStyleFactory.create("Fusion"))
        _load_fonts()
        app.setFont(ui_font())
        self._scheme = app.styleHints().colorScheme()
        app.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)

    def choose(self, choice: Choice) -> None:
        self.choice = choice
        schemes = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}
        # Tells the platform too, so that title bars and native dialogs follow.
        self._app.styleHints().setColorScheme(schemes.get(choice, Qt.ColorScheme.Unknown))
        self._scheme = self._app.styleHints().colorScheme()
        self._wear(self._wanted())

    def _wanted(self) -> Literal["light", "dark"]:
        if self.choice != "system":
            return self.choice
        return "dark" if self._scheme == Qt.ColorScheme.Dark else "light"

    def _wear(self, name: Literal["light", "dark"]) -> None:
        self.theme = load(name)
        self._app.setPalette(palette(self.theme))
        self._app.setStyleSheet(stylesheet.build(self.theme))
        self.changed.emit()

    def _on_scheme_changed(self, scheme: Qt.ColorScheme) -> None:
        self._scheme = scheme
        if self._wanted() != self.theme.name:
            self._wear(self._wanted())


def apply(app: QApplication, choice: Choice = "system") -> Appearance:
    """Dress `app`; the first call also sets style and fonts. Later calls change the theme live."""
    appearance = app.findChild(Appearance, "appearance") or Appearance(app)
    appearance.choose(choice)
    return appearance


def appearance() -> Appearance:
    """The Appearance of the running application, for its `changed` signal."""
    app = QApplication.instance()
    assert isinstance(app, QApplication), "a QApplication comes first"
    dressed = app.findChild(Appearance, "appearance")
    # Not `or apply(app)`: a style set while something is painted crashes Qt.
    assert dressed, "theme.apply comes before the first widget"
    return dressed


def current() -> Theme:
    """The theme worn now; ask anew in each paintEvent."""
    return appearance().theme


def ui_font(size_px: int = 13, weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
    font = QFont(UI_FAMILY)
    font.setPixelSize(size_px)
    font.setWeight(weight)
    return font


def mono_font(size_px: int = 13) -> QFont:
    font = QFont(MONO_FAMILY)
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setPixelSize(size_px)
    return font


def set_role(widget: QWidget, role: str) -> None:
    """Give `widget` another stylesheet role and repaint it in that role."""
    widget.setProperty("role", role)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def palette(theme: Theme) -> QPalette:
    """A QPalette of the tokens, for what no stylesheet reaches (native dialogs, plain views)."""
    result = QPalette()
    role = QPalette.ColorRole
    for name, token in (
        (role.Window, theme.window),
        (role.WindowText, theme.text),
        (role.Base, theme.surface),
        (role.AlternateBase, theme.raised),
        (role.Text, theme.text),
        (role.Button, theme.surface),
        (role.ButtonText, theme.text),
        (role.BrightText, theme.bad),
        (role.PlaceholderText, theme.second),
        (role.Highlight, theme.accent),
        (role.HighlightedText, theme.on_accent),
        (role.Accent, theme.accent),
        (role.Link, theme.accent),
        (role.LinkVisited, theme.accent),
        (role.ToolTipBase, theme.surface),
        (role.ToolTipText, theme.text),
        (role.Light, theme.raised),
        (role.Midlight, theme.raised),
        (role.Mid, theme.line),
        (role.Dark, theme.outline),
        (role.Shadow, theme.line),
    ):
        result.setColor(name, QColor(token))
    faint = QColor(mix(theme.surface, theme.second, 0.6))
    for name in (role.WindowText, role.Text, role.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, name, faint)
    return result


def _load_fonts() -> None:
    """Register the bundled families; where one is missing Qt falls back to the system's."""
    for path in sorted((RESOURCES / "fonts").glob("*.[ot]tf")):
        QFontDatabase.addApplicationFont(str(path))
