"""The list of conversations: new, find, open, rename, delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from PySide6.QtCore import (
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QAction, QKeyEvent, QMouseEvent, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app import icons, theme
from app.store import Conversation
from app.widgets import QuietButton, SearchField

WIDTH_PX = 260
ROW_PX = 32
GROUP_PX = 32
ID = Qt.ItemDataRole.UserRole
AnyIndex = QModelIndex | QPersistentModelIndex


class ConversationPanel(QFrame):
    """Shows what it is given; what the user wants is told by signals."""

    new_requested = Signal()
    chosen = Signal(int)
    renamed = Signal(int, str)
    delete_requested = Signal(int)
    searched = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "sidebar")
        self.setFixedWidth(WIDTH_PX)
        self.setAccessibleName("Conversations")
        self.new_button = QuietButton("New chat", "plus")
        self.new_button.setToolTip("New chat (Ctrl+N)")
        self.new_button.clicked.connect(self.new_requested)
        self.search = SearchField("Find a conversation")
        self.search.setToolTip("Find a conversation (Ctrl+K)")
        self.search.textChanged.connect(self.searched)
        self.list = ConversationList()
        self.list.opened.connect(self.chosen)
        self.list.renamed.connect(self.renamed)
        self.list.delete_requested.connect(self.delete_requested)
        self._empty = QLabel()
        self._empty.setProperty("role", "second")
        self._empty.setWordWrap(True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        box = QVBoxLayout(self)
        box.setContentsMargins(theme.SPACE_12, theme.SPACE_12, theme.SPACE_12, theme.SPACE_8)
        box.setSpacing(theme.SPACE_8)
        box.addWidget(self.new_button, 0, Qt.AlignmentFlag.AlignLeft)
        box.addWidget(self.search)
        box.addWidget(self._empty)
        box.addWidget(self.list, 1)

    def show_conversations(
        self, conversations: Sequence[Conversation], current: int | None, query: str
    ) -> None:
        self.list.show_conversations(conversations, current)
        self._empty.setVisible(not conversations)
        self._empty.setText(
            "No conversation holds these words." if query else "Your conversations will be here."
        )


class ConversationList(QListWidget):
    """Conversations under Today, Yesterday and Earlier; F2 renames, Delete deletes."""

    opened = Signal(int)
    renamed = Signal(int, str)
    delete_requested = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Conversations")
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setMouseTracking(True)
        self.setItemDelegate(_Delegate(self))
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._on_menu_requested)
        self.itemActivated.connect(self._on_opened)
        self.itemClicked.connect(self._on_opened)
        self.itemChanged.connect(self._on_changed)

    def show_conversations(
        self, conversations: Sequence[Conversation], current: int | None
    ) -> None:
        was_blocked = self.blockSignals(True)
        today = datetime.now(UTC).astimezone().date()
        self.clear()
        group = ""
        for conversation in conversations:
            if (now := group_of(conversation.updated_at, today)) != group:
                group = now
                head = QListWidgetItem(group, self)
                head.setFlags(Qt.ItemFlag.NoItemFlags)
            item = QListWidgetItem(conversation.title, self)
            item.setData(ID, conversation.id)
            item.setToolTip(conversation.title)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            if conversation.id == current:
                self.setCurrentItem(item)
        self.blockSignals(was_blocked)

    def item_of(self, conversation_id: int) -> QListWidgetItem | None:
        items = (self.item(row) for row in range(self.count()))
        return next((item for item in items if item.data(ID) == conversation_id), None)

    def menu_for(self, item: QListWidgetItem) -> QMenu:
        """What can be done with one conversation."""
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        rename = QAction(icons.icon("edit", "second"), "Rename", menu)
        rename.triggered.connect(lambda: self.editItem(item))
        delete = QAction(icons.icon("trash", "second"), "Delete", menu)
        conversation_id = item.data(ID)
        delete.triggered.connect(lambda: self.delete_requested.emit(conversation_id))
        menu.addActions([rename, delete])
        return menu

    def keyPressEvent(self, event: QKeyEvent) -> None:
        item = self.currentItem()
        if event.key() == Qt.Key.Key_Delete and item and item.data(ID):
            self.delete_requested.emit(item.data(ID))
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        item = self.itemAt(event.position().toPoint())
        if (
            item is not None
            and item.data(ID)
            and more_area(self.visualItemRect(item)).contains(event.position().toPoint())
        ):
            self._open_menu(item, event.globalPosition().toPoint())
        else:
            super().mousePressEvent(event)

    def _on_menu_requested(self, at: QPoint) -> None:
        item = self.itemAt(at)
        if item is not None and item.data(ID):
            self._open_menu(item, self.viewport().mapToGlobal(at))

    def _open_menu(self, item: QListWidgetItem, at: QPoint) -> None:
        self.menu_for(item).popup(at)

    def _on_opened(self, item: QListWidgetItem) -> None:
        if item.data(ID):
            self.opened.emit(item.data(ID))

    def _on_changed(self, item: QListWidgetItem) -> None:
        self.renamed.emit(item.data(ID), item.text())


def more_area(row: QRect) -> QRect:
    """Where a row takes a click that opens its menu."""
    return QRect(row.right() - 28, row.top(), 28, row.height())


class _Delegate(QStyledItemDelegate):
    """Paints group heads quietly, and the sign of the menu on the row under the mouse."""

    def sizeHint(self, option: QStyleOptionViewItem, index: AnyIndex) -> QSize:
        return QSize(WIDTH_PX - 40, ROW_PX if index.data(ID) else GROUP_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: AnyIndex) -> None:
        now = theme.current()
        area: QRect = option.rect
        state: QStyle.StateFlag = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not index.data(ID):
            painter.setFont(theme.ui_font(12))
            painter.setPen(now.colour("second"))
            align = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom
            painter.drawText(area.adjusted(8, 0, -8, -6), align, str(index.data()))
            painter.restore()
            return
        is_chosen = bool(state & QStyle.StateFlag.State_Selected)
        is_hovered = bool(state & QStyle.StateFlag.State_MouseOver)
        ground = area.adjusted(0, 1, 0, -1)
        if is_chosen or is_hovered:
            tint = now.tint("accent", 0.14) if is_chosen else theme.mix(now.window, now.text, 0.06)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(now.colour(tint))
            painter.drawRoundedRect(ground, theme.RADIUS, theme.RADIUS)
        if state & QStyle.StateFlag.State_HasFocus and is_chosen:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(now.colour("accent"))
            painter.drawRoundedRect(ground.adjusted(1, 0, -1, 0), theme.RADIUS, theme.RADIUS)
        has_more = is_hovered or is_chosen
        painter.setFont(theme.ui_font(13))
        painter.setPen(now.colour("text"))
        words = area.adjusted(8, 0, -32 if has_more else -8, 0)
        text = painter.fontMetrics().elidedText(
            str(index.data()), Qt.TextElideMode.ElideRight, words.width()
        )
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
        if has_more:
            picture = QRect(0, 0, 16, 16)
            picture.moveCenter(more_area(area).center())
            icons.icon("more", "second").paint(painter, picture)
        painter.restore()

    def editorEvent(
        self, event: QEvent, model: object, option: QStyleOptionViewItem, index: AnyIndex
    ) -> bool:
        return False


def group_of(when: float, today: date) -> str:
    """The heading for a time in seconds since the epoch."""
    day = datetime.fromtimestamp(when, UTC).astimezone().date()
    if day >= today:
        return "Today"
    return "Yesterday" if day == today - timedelta(days=1) else "Earlier"
