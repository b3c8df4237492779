"""The small parts every page is made of: labels, buttons, cards, badges, progress.

Looks come from the stylesheet by `role`; sizes from `app.theme`. Knows no page and no job.
"""

from app.widgets.buttons import (
    DangerButton,
    IconButton,
    PrimaryButton,
    QuietButton,
    SecondaryButton,
    TextLink,
)
from app.widgets.choices import SearchField, SegmentedControl, Select
from app.widgets.empty_state import EmptyState
from app.widgets.grounds import Card, Part, Scroll, column, hline, row
from app.widgets.labels import (
    Badge,
    ElidedLabel,
    IconLabel,
    Tone,
    body,
    mono,
    number,
    second,
    section,
    strong,
    title,
)
from app.widgets.progress import ProgressBar, has_motion, paint_ring
from app.widgets.toast import Toast

__all__ = [
    "Badge",
    "Card",
    "DangerButton",
    "ElidedLabel",
    "EmptyState",
    "IconButton",
    "IconLabel",
    "Part",
    "PrimaryButton",
    "ProgressBar",
    "QuietButton",
    "Scroll",
    "SearchField",
    "SecondaryButton",
    "SegmentedControl",
    "Select",
    "TextLink",
    "Toast",
    "Tone",
    "body",
    "column",
    "has_motion",
    "hline",
    "mono",
    "number",
    "paint_ring",
    "row",
    "second",
    "section",
    "strong",
    "title",
]
