"""The window: a navigation rail and one page at a time. Wires pages to each other, no more.

A page is imported and built when it is first shown. The window and its rail are painted first, the
chat right after, and then what that does not need (a scan for models, keys).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import QByteArray, QEvent, QSize, Qt, QTimer
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app import icons, theme
from app.context import AppContext

if TYPE_CHECKING:
    from PySide6.QtGui import QCloseEvent, QPaintEvent

    from app.jobs_panel import JobsButton, JobsPanel
    from app.tasks import Task
    from engine.updates import Release

PageName = Literal["chat", "models", "shrink", "settings"]

PAGES: tuple[tuple[PageName, str, str], ...] = (
    ("chat", "Chat", "Ctrl+1"),
    ("models", "Models", "Ctrl+2"),
    ("shrink", "Shrink", "Ctrl+3"),
    ("settings", "Settings", "Ctrl+4"),
)
"""Name (also the icon's), text and shortcut; the last one stands at the foot of the rail."""


NEWS_MS = 1_000
"""After the first paint, which has nothing to do with them."""


class Window(QMainWindow):
    """Owns the pages and the context; closing it ends every process."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self.context = context
        self.setWindowTitle("Snug")
        self.setMinimumSize(900, 600)
        self._pages: dict[PageName, QWidget] = {}
        self._stack = QStackedWidget()
        self._nav = QButtonGroup(self)
        self._nav_buttons: dict[PageName, QToolButton] = {}
        self._is_painted = False
        self._update: QWidget | None = None
        self._notice: QWidget | None = None
        self._jobs_panel: JobsPanel | None = None
        self.jobs_button: JobsButton | None = None
        central = QWidget()
        central.setProperty("role", "page")
        box = QHBoxLayout(central)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self._build_rail())
        self._column = QVBoxLayout()
        self._column.setSpacing(0)
        self._column.addWidget(self._stack, 1)
        box.addLayout(self._column, 1)
        self.setCentralWidget(central)
        self._restore_geometry()
        self._nav_buttons["chat"].setChecked(True)

    # Pages

    def show_page(self, name: PageName) -> QWidget:
        """Show `name`, building it on the first visit."""
        self.context.settings.refresh()
        page: QWidget = self.page(name)
        self._stack.setCurrentWidget(page)
        self._nav_buttons[name].setChecked(True)
        return page

    def page(self, name: PageName) -> Any:
        """The page `name`, built but not necessarily shown. Any: each page has its own methods."""
        if name not in self._pages:
            # In its place from the start: moving a built page in dresses all of it again.
            page = self._builders[name](self.context, self._stack)
            self._pages[name] = page
            self._stack.addWidget(page)
            self._wire(name, page)
        return self._pages[name]

    @property
    def current_page_name(self) -> PageName:
        shown = self._stack.currentWidget()
        return next((name for name, page in self._pages.items() if page is shown), "chat")

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._is_painted:
            self._is_painted = True
            QTimer.singleShot(0, self._on_first_painted)

    def _on_first_painted(self) -> None:
        if not self._pages:
            self.show_page("chat")
        self.complete()
        if self.context.settings.problem:
            self._tell(self.context.settings.problem)

    def _tell(self, problem: str) -> None:
        """Show what concerns no page in particular above all of them."""
        from app.problems import ProblemCard
        from engine.errors import EngineError

        card = ProblemCard(EngineError(problem))
        card.dismissed.connect(self._show_above(card).deleteLater)

    def _listen_for_news(self) -> None:
        self.context.updates.found.connect(self._tell_of)
        self.context.computer.noticed.connect(self._tell_of_graphics)
        self._tell_of_graphics(self.context.computer.notice)

    def _tell_of_graphics(self, notice: str) -> None:
        """Show what is not computed on as expected, until it is or the user has read it."""
        if self._notice:
            self._notice.deleteLater()
            self._notice = None
        settings = self.context.settings
        if not notice or notice == settings.value.dismissed_notice:
            return
        from app.problems import ProblemCard
        from engine.errors import EngineError

        hint = "In Settings you can try again, or choose what to compute on."
        card = ProblemCard(EngineError(notice, hint=hint), "Open Settings")
        card.action.connect(lambda: self.show_page("settings"))
        card.dismissed.connect(partial(settings.update, dismissed_notice=notice))
        self._notice = place = self._show_above(card)
        card.dismissed.connect(place.hide)

    def _tell_of(self, release: Release) -> None:
        """Show that there is a newer version; of two, the newest one."""
        from app.updates import UpdateCard

        if self._update:
            self._update.deleteLater()
        card = UpdateCard(release, self.context.updates)
        self._update = place = self._show_above(card)
        card.closed.connect(place.hide)

    def _show_above(self, card: QWidget) -> QWidget:
        place = QWidget()
        around = QVBoxLayout(place)
        around.setContentsMargins(theme.SPACE_16, theme.SPACE_16, theme.SPACE_16, 0)
        around.addWidget(card)
        self._column.insertWidget(0, place)
        return place

    def complete(self) -> None:
        """Add what the first paint did not need: keys, and the place where jobs will show."""
        self._add_shortcuts()
        self.context.tasks.added.connect(self._on_task_added)
        QTimer.singleShot(NEWS_MS, self, self._listen_for_news)

    @property
    def _builders(self) -> dict[PageName, Callable[[AppContext, QWidget], QWidget]]:
        return {
            "chat": _build_chat,
            "models": _build_models,
            "shrink": _build_shrink,
            "settings": _build_preferences,
        }

    def _wire(self, name: PageName, page: Any) -> None:
        match name:
            case "chat":
                page.models_requested.connect(lambda: self.show_page("models"))
                page.discover_requested.connect(self._show_discover)
                session = page.session
                session.changed.connect(lambda: self.context.computer.set_loaded(session.info))
                page.files_dropped.connect(lambda paths: self.page("models").add(paths))
            case "models":
                page.chat_requested.connect(self.chat_with)
                page.shrink_requested.connect(self.shrink)
            case "shrink":
                page.chat_requested.connect(self.chat_with)
            case "settings":
                pass

    def _show_discover(self) -> None:
        self.show_page("models")
        self.page("models").show_discover()

    def chat_with(self, path: str) -> None:
        self.show_page("chat")
        self.page("chat").open_model(path)

    def shrink(self, path: str) -> None:
        self.show_page("shrink")
        self.page("shrink").set_source(path)

    def add_and_shrink(self, path: str) -> None:
        """Shrink the checkpoint folder at `path`, which need not be in the list of models yet."""
        self.show_page("shrink")
        self.page("shrink").choose(path)

    # The rail

    def _build_rail(self) -> QFrame:
        rail = QFrame()
        rail.setProperty("role", "rail-ground")
        rail.setFixedWidth(theme.RAIL_WIDTH)
        rail.setAccessibleName("Navigation")
        box = QVBoxLayout(rail)
        box.setContentsMargins(theme.SPACE_4, theme.SPACE_8, theme.SPACE_4 - 1, theme.SPACE_8)
        box.setSpacing(theme.SPACE_4)
        for name, text, shortcut in PAGES[:-1]:
            box.addWidget(self._nav_button(name, text, shortcut))
        box.addStretch(1)
        box.addWidget(self._nav_button(*PAGES[-1]))
        self._rail_box = box
        return rail

    def _nav_button(self, name: PageName, text: str, shortcut: str) -> QToolButton:
        button = QToolButton()
        button.setProperty("role", "rail")
        button.setText(text)
        button.setIcon(icons.icon(name, "second", checked_colour="accent"))
        button.setIconSize(QSize(20, 20))
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setCheckable(True)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.setAccessibleName(text)
        button.setToolTip(f"{text} ({shortcut})")
        button.setFixedSize(theme.RAIL_WIDTH - theme.SPACE_8, 48)
        button.clicked.connect(lambda: self.show_page(name))
        self._nav.addButton(button)
        self._nav_buttons[name] = button
        return button

    def _on_task_added(self) -> None:
        if self.jobs_button is None:
            from app.jobs_panel import JobsButton

            self.jobs_button = JobsButton(self.context.tasks, self)
            self.jobs_button.clicked.connect(self._on_jobs_clicked)
            place = self._rail_box.count() - 1
            self._rail_box.insertWidget(place, self.jobs_button, 0, Qt.AlignmentFlag.AlignHCenter)

    def _on_jobs_clicked(self) -> None:
        assert self.jobs_button
        if self._jobs_panel is None:
            from app.jobs_panel import JobsPanel

            self._jobs_panel = JobsPanel(self.context.tasks, self)
        self._jobs_panel.open_beside(self.jobs_button)

    # Keys

    def _add_shortcuts(self) -> None:
        for name, _text, keys in PAGES:
            self._on_keys(keys, partial(self.show_page, name))
        self._on_keys("Ctrl+,", lambda: self.show_page("settings"))
        self._on_keys("Ctrl+N", lambda: self._in_chat("new_chat"))
        self._on_keys("Ctrl+K", lambda: self._in_chat("find_conversation"))
        self._on_keys("Ctrl+Q", self.close)

    def _on_keys(self, keys: str, act: Callable[[], object]) -> None:
        from PySide6.QtGui import QKeySequence, QShortcut

        QShortcut(QKeySequence(keys), self).activated.connect(act)

    def _in_chat(self, method: str) -> None:
        self.show_page("chat")
        getattr(self.page("chat"), method)()

    # Coming and going

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow():
            self.context.settings.refresh()

    def _restore_geometry(self) -> None:
        kept = QByteArray.fromBase64(self.context.settings.value.window_geometry.encode())
        if not self.restoreGeometry(kept):
            self.resize(1180, 760)

    def _may_close(self) -> bool:
        active = self.context.tasks.active
        if not active:
            return True
        from app.problems import ask

        return ask(self, *_what_closing_loses(active))

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._may_close():
            event.ignore()
            return
        geometry = self.saveGeometry().toBase64().toStdString()
        self.context.settings.update(window_geometry=geometry)
        for page in self._pages.values():
            # A page with a process of its own ends it in `shutdown`.
            if hasattr(page, "shutdown"):
                page.shutdown()
        self.context.shutdown()
        event.accept()


def _what_closing_loses(active: list[Task]) -> tuple[str, str, str]:
    """Heading, sentence and button for closing while `active` is not finished."""
    from engine.move import MoveModels
    from engine.words import plural

    moves = [task for task in active if isinstance(task.job, MoveModels)]
    kept = [task for task in active if task.job.can_resume and task.progress]
    lost = [task for task in active if task not in kept + moves]
    what_happens = (
        (lost, "closing discards what was done so far. The sources stay as they are."),
        (moves, "closing stops it. Each model is in one of the two folders, or still in both."),
        (kept, "closing stops it. What is there so far is kept, and can be resumed."),
    )
    sentences = [
        f"{', '.join(task.title for task in tasks)}: {what}"
        for tasks, what in what_happens
        if tasks
    ]
    return (
        f"{plural(len(active), 'job')} not finished",
        "\n\n".join(sentences),
        "Discard and close" if lost else "Stop and close",
    )


def _build_chat(context: AppContext, parent: QWidget) -> QWidget:
    from app.chat.page import ChatPage

    return ChatPage(context, parent)


def _build_models(context: AppContext, parent: QWidget) -> QWidget:
    from app.models.page import ModelsPage

    return ModelsPage(context, parent)


def _build_shrink(context: AppContext, parent: QWidget) -> QWidget:
    from app.shrink.page import ShrinkPage

    return ShrinkPage(context, parent)


def _build_preferences(context: AppContext, parent: QWidget) -> QWidget:
    from app.preferences.page import PreferencesPage

    return PreferencesPage(context, parent)
