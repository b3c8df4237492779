"""Every colour pair the app uses is readable, in both themes, and the look changes live."""

from __future__ import annotations

import re

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QFontInfo, QIcon, QPalette
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import icons, stylesheet, theme
from app.theme import Theme

TEXT_CONTRAST = 4.5
CONTROL_CONTRAST = 3.0


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of #RRGGBB."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(params=["light", "dark"])
def worn(request: pytest.FixtureRequest) -> Theme:
    return theme.load(request.param)


@pytest.mark.parametrize("ground", ["window", "surface", "raised"])
@pytest.mark.parametrize("ink", ["text", "second", "accent", "good", "caution", "bad"])
def test_text_is_readable_on_every_ground(worn: Theme, ink: str, ground: str) -> None:
    assert contrast(getattr(worn, ink), getattr(worn, ground)) >= TEXT_CONTRAST


@pytest.mark.parametrize("tone", ["good", "caution", "bad", "accent"])
def test_badges_are_readable(worn: Theme, tone: str) -> None:
    assert contrast(getattr(worn, tone), worn.tint(tone)) >= TEXT_CONTRAST
    assert contrast(worn.text, worn.tint(tone)) >= TEXT_CONTRAST


def test_primary_button_is_readable(worn: Theme) -> None:
    assert contrast(worn.on_accent, worn.accent) >= TEXT_CONTRAST
    for amount in stylesheet.ACCENT_STATES:
        assert contrast(worn.on_accent, theme.mix(worn.accent, worn.text, amount)) >= TEXT_CONTRAST


@pytest.mark.parametrize("ground", ["surface", "raised"])
def test_code_is_readable(worn: Theme, ground: str) -> None:
    for kind in worn.code._fields:
        assert contrast(getattr(worn.code, kind), getattr(worn, ground)) >= TEXT_CONTRAST, kind


@pytest.mark.parametrize("ground", ["window", "surface", "raised"])
@pytest.mark.parametrize("edge", ["outline", "accent"])
def test_control_edges_and_focus_rings_are_visible(worn: Theme, edge: str, ground: str) -> None:
    assert contrast(getattr(worn, edge), getattr(worn, ground)) >= CONTROL_CONTRAST


def test_bit_colours_clamp(worn: Theme) -> None:
    assert worn.bits_colour(1.6) == worn.bits[0]
    assert worn.bits_colour(4.8) == worn.bits[3]
    assert worn.bits_colour(16) == worn.bits[-1]


def test_stylesheet_has_no_colour_of_its_own(worn: Theme) -> None:
    """Every colour comes from a token, so none is forgotten in the other theme."""
    assert not re.search(r"#[0-9A-Fa-f]{6}", stylesheet.SHEET.template)
    assert "$" not in stylesheet.build(worn)


def test_look_changes_live(qtbot: QtBot, qapp: QApplication) -> None:
    appearance = theme.apply(qapp, "light")
    with qtbot.waitSignal(appearance.changed):
        theme.apply(qapp, "dark")
    assert theme.current().name == "dark"
    assert qapp.palette().color(QPalette.ColorRole.Window) == QColor(theme.load("dark").window)
    assert theme.apply(qapp, "light") is appearance


def test_system_choice_follows_the_desktop(qtbot: QtBot, qapp: QApplication) -> None:
    theme.apply(qapp, "system")
    hints = qapp.styleHints()
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.current() == theme.load("dark")
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Light)
    assert theme.current() == theme.load("light")
    theme.apply(qapp, "light")
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.current() == theme.load("light")


def test_bundled_fonts_are_used(qapp: QApplication) -> None:
    theme.apply(qapp, "light")
    assert QFontInfo(theme.ui_font()).family().startswith("Inter")
    assert QFontInfo(theme.mono_font()).family() == "JetBrains Mono"


def test_every_icon_draws_and_follows_the_theme(qapp: QApplication) -> None:
    for path in (theme.RESOURCES / "icons").glob("*.svg"):
        inks = []
        for name in ("light", "dark"):
            theme.apply(qapp, name)
            image = icons.icon(path.stem).pixmap(24, 24).toImage()
            drawn = [
                image.pixelColor(x, y)
                for x in range(24)
                for y in range(24)
                if image.pixelColor(x, y).alpha() > 150
            ]
            assert drawn, path.stem
            inks.append(drawn[0].lightness())
        assert inks[1] - inks[0] > 100, path.stem


def test_icon_is_crisp_and_fades_when_disabled(qapp: QApplication) -> None:
    theme.apply(qapp, "light")
    picture = icons.icon("stop")
    sharp = picture.pixmap(picture.actualSize(QSize(16, 16)), 2.0)
    assert sharp.width() == 32
    assert sharp.devicePixelRatio() == 2.0
    faded = picture.pixmap(QSize(16, 16), 1.0, QIcon.Mode.Disabled).toImage()
    full = picture.pixmap(QSize(16, 16), 1.0).toImage()
    assert faded.pixelColor(8, 4).alpha() < full.pixelColor(8, 4).alpha()
