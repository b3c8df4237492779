"""The one Qt stylesheet, generated from a theme.

Widgets are addressed by type and by the dynamic property `role`; `app/widgets.py` sets the roles.
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.theme import Theme

ACCENT_STATES = (0.12, 0.22)
"""How much text colour a hovered and a pressed primary button takes up."""

# Focus never moves a thing: every control has a 1 px border that only changes its colour, and a
# focused one swaps 1 px of padding for a second pixel of ring.
SHEET = Template("""
* { font-family: "Inter"; }
QMainWindow, QDialog, QWidget[role="page"] { background: $window; }
QWidget { color: $text; }
QToolTip { background: $surface; color: $text; border: 1px solid $line; padding: 4px 6px; }

QLabel { background: transparent; }
QLabel[role="title"] { font-size: 20px; font-weight: 600; }
QLabel[role="section"] { font-size: 15px; font-weight: 600; }
QLabel[role="body"] { font-size: 13px; }
QLabel[role="strong"] { font-size: 13px; font-weight: 600; }
QLabel[role="second"] { font-size: 12px; color: $second; }
QLabel[role="number"] { font-size: 28px; font-weight: 600; }
QLabel[role="mono"] { font-family: "JetBrains Mono"; font-size: 12px; }
QLabel:disabled { color: $faint; }

QLabel[role="badge"] { font-size: 12px; font-weight: 500; border-radius: 6px; padding: 2px 8px; }
QLabel[tone="good"] { color: $good; background: $good_tint; }
QLabel[tone="caution"] { color: $caution; background: $caution_tint; }
QLabel[tone="bad"] { color: $bad; background: $bad_tint; }
QLabel[tone="accent"] { color: $accent; background: $accent_tint; }
QLabel[tone="neutral"] { color: $second; background: $raised; }

QFrame[role="card"] { background: $surface; border: 1px solid $line; border-radius: 12px; }
QFrame[role="card-raised"] { background: $raised; border: 1px solid $raised; border-radius: 12px; }
QFrame[role="card-bad"] { background: $bad_tint; border: 1px solid $bad_line; border-radius: 12px; }
QFrame[role="bubble"] { background: $surface; border: 1px solid $line; border-radius: 12px; }
QFrame[role="line"] { background: $line; border: none; max-height: 1px; min-height: 1px; }
QFrame[role="line-vertical"] { background: $line; border: none; max-width: 1px; min-width: 1px; }
QFrame[role="rail-ground"] { background: $rail; border: none; border-right: 1px solid $line; }
QFrame[role="sidebar"] { background: $rail; border: none; border-right: 1px solid $line; }
QFrame[role="popup"] { background: $surface; border: 1px solid $line; border-radius: 12px; }

QPushButton, QToolButton {
  font-size: 13px; font-weight: 500; border-radius: 8px; padding: 0 12px;
  min-height: 30px; max-height: 30px; border: 1px solid transparent; background: transparent;
}
QPushButton[role="primary"] {
  color: $on_accent; background: $accent; border-color: $accent;
  min-height: 34px; max-height: 34px; padding: 0 16px; font-weight: 600;
}
QPushButton[role="primary"]:hover { background: $accent_hover; border-color: $accent_hover; }
QPushButton[role="primary"]:pressed { background: $accent_pressed; border-color: $accent_pressed; }
QPushButton[role="primary"]:focus { border: 2px solid $text; padding: 0 15px;
  min-height: 32px; max-height: 32px; }
QPushButton[role="primary"]:disabled { color: $faint; background: $raised; border-color: $raised; }
QPushButton[role="secondary"] { background: $surface; border-color: $control_line; }
QPushButton[role="secondary"]:hover, QPushButton[role="secondary"]:pressed { background: $raised; }
QPushButton[role="secondary"]:checked { background: $accent_tint; border-color: $accent; }
QPushButton[role="danger"] { background: $surface; border-color: $control_line; color: $bad; }
QPushButton[role="danger"]:hover { background: $bad_tint; border-color: $bad_line; }
QPushButton[role="quiet"] { color: $text; }
QPushButton[role="quiet"]:hover { background: $hover; }
QPushButton[role="quiet"]:pressed, QPushButton[role="quiet"]:checked { background: $pressed; }
QPushButton[role="link"] { color: $accent; padding: 0 2px; min-height: 22px; max-height: 22px;
  border-radius: 4px; text-align: left; }
QPushButton[role="link"]:hover { text-decoration: underline; }
QPushButton[role="icon"] { padding: 0; }
QPushButton[role="icon"]:hover { background: $hover; }
QPushButton[role="icon"]:pressed, QPushButton[role="icon"]:checked { background: $pressed; }
QPushButton[role="icon-primary"] { padding: 0; background: $accent; }
QPushButton[role="icon-primary"]:hover { background: $accent_hover; }
QPushButton[role="icon-primary"]:disabled { background: $pressed; }
QPushButton[role="secondary"]:disabled, QPushButton[role="quiet"]:disabled,
QPushButton[role="danger"]:disabled, QPushButton[role="link"]:disabled { color: $faint; }
QPushButton[role="secondary"]:focus, QPushButton[role="quiet"]:focus,
QPushButton[role="danger"]:focus { border: 2px solid $accent; padding: 0 11px;
  min-height: 28px; max-height: 28px; }
QPushButton[role="icon"]:focus, QPushButton[role="link"]:focus { border: 2px solid $accent; }
QPushButton[role="icon-primary"]:focus { border: 2px solid $text; }
QPushButton::menu-indicator { image: none; width: 0; }

*[role="rail"] { padding: 0; border-radius: 8px; max-height: 48px; }
QToolButton[role="rail"] { font-size: 11px; color: $second; padding-top: 5px; }
*[role="rail"]:hover { background: $hover; }
QToolButton[role="rail"]:checked { background: $accent_tint; color: $accent; }
*[role="rail"]:focus { border: 2px solid $accent; }

QFrame[role="segments"] { background: $raised; border-radius: 8px; border: none; }
QPushButton[role="segment"] { color: $second; border-radius: 6px; padding: 0 12px;
  min-height: 26px; max-height: 26px; }
QPushButton[role="segment"]:hover { color: $text; }
QPushButton[role="segment"]:checked { color: $text; background: $segment; border-color: $line; }
QPushButton[role="segment"]:focus { border: 2px solid $accent; padding: 0 11px;
  min-height: 24px; max-height: 24px; }

QLineEdit, QComboBox {
  background: $surface; border: 1px solid $outline; border-radius: 8px; padding: 0 9px;
  min-height: 30px; max-height: 30px; font-size: 13px;
  selection-background-color: $accent; selection-color: $on_accent;
}
QLineEdit[role="search"] { background: $raised; border-color: $raised; padding-left: 2px; }
QLineEdit[role="search"]:hover { border-color: $outline; }
QLineEdit:focus, QComboBox:focus { border: 2px solid $accent; padding: 0 8px;
  min-height: 28px; max-height: 28px; }
QLineEdit[role="search"]:focus { padding-left: 1px; }
QLineEdit:disabled, QComboBox:disabled { color: $faint; border-color: $line; }
QLineEdit QToolButton { min-height: 0; max-height: 16px; padding: 0; border: none;
  background: transparent; }
QComboBox::drop-down { border: none; width: 26px; }
QComboBox::down-arrow { image: none; }
QComboBox QAbstractItemView { background: $surface; border: 1px solid $line; padding: 4px;
  outline: none; selection-background-color: $accent_tint; selection-color: $text; }

QPlainTextEdit, QTextEdit, QTextBrowser { background: transparent; border: none; font-size: 13px;
  selection-background-color: $accent; selection-color: $on_accent; }
QFrame[role="composer"] { background: $surface; border: 1px solid $control_line;
  border-radius: 12px; }
QFrame[role="composer"][active="true"] { border: 1px solid $accent; }
QPlainTextEdit[role="code"], QTextEdit[role="code"] { background: $raised; border-radius: 8px;
  padding: 8px; font-family: "JetBrains Mono"; font-size: 12px; }

QMenu { background: $surface; border: 1px solid $line; border-radius: 8px; padding: 4px; }
QMenu::item { padding: 6px 24px 6px 12px; border-radius: 6px; }
QMenu::item:selected { background: $hover; }
QMenu::item:disabled { color: $faint; }
QMenu::separator { height: 1px; background: $line; margin: 4px 8px; }
QMenu::icon { padding-left: 8px; }

QListView, QTreeView, QTableView { background: transparent; border: none; outline: none; }
QListView::item { border-radius: 8px; padding: 6px 8px; }
QListView::item:hover { background: $hover; }
QListView::item:selected { background: $accent_tint; color: $text; }

QAbstractScrollArea { background: transparent; border: none; }
QScrollArea > QWidget > QWidget[role="scroll"] { background: transparent; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $scroll; border-radius: 3px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::handle:hover { background: $outline; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QSplitter::handle { background: $line; }
QCheckBox, QRadioButton { spacing: 8px; font-size: 13px; }

QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: $track; }
QSlider::sub-page:horizontal { height: 4px; border-radius: 2px; background: $accent; }
QSlider { min-height: 24px; }
QSlider::handle:horizontal { width: 16px; height: 16px; margin: -6px 0; border-radius: 8px;
  background: $accent; }
QSlider::handle:horizontal:focus { border: 2px solid $text; width: 12px; height: 12px; }
""")


def build(theme: Theme) -> str:
    """The stylesheet of `theme`."""
    from app.theme import mix

    tokens = {
        name: getattr(theme, name)
        for name in theme._fields
        if isinstance(getattr(theme, name), str)
    }
    derived = {f"{tone}_tint": theme.tint(tone) for tone in ("good", "caution", "bad", "accent")}
    hover, pressed = ACCENT_STATES
    derived |= {
        "rail": mix(theme.window, theme.raised, 0.6),
        "hover": mix(theme.window, theme.text, 0.06),
        "pressed": mix(theme.window, theme.text, 0.11),
        "segment": mix(theme.surface, theme.text, 0.12) if theme.is_dark else theme.surface,
        "control_line": mix(theme.surface, theme.outline, 0.45),
        "track": mix(theme.surface, theme.outline, 0.35),
        "scroll": mix(theme.window, theme.outline, 0.45),
        "faint": mix(theme.window, theme.second, 0.7),
        "accent_hover": mix(theme.accent, theme.text, hover),
        "accent_pressed": mix(theme.accent, theme.text, pressed),
        "bad_line": mix(theme.surface, theme.bad, 0.4),
    }
    return SHEET.substitute(tokens | derived)
