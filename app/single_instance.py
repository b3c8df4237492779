"""One window a user: a second start hands what it was asked to open to the first, and ends.

The conversations have one writer. A lock in the data folder says who it is (one that a killed
process left is taken over), a local socket, for this user only, carries the name of a model.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QLockFile, QObject, QStandardPaths, Signal

if TYPE_CHECKING:
    from PySide6.QtNetwork import QLocalServer, QLocalSocket

log = logging.getLogger(__name__)

ANSWER_MS = 2000
START_S = 4.0
"""How long a window that has just been started may take until it listens."""
AGAIN_S = 0.05
MOST_BYTES = 8192
"""In hexadecimal; a name that is longer is no file's."""
MOST_WAITING = 8


class SingleInstance(QObject):
    """The right to be the one window on `folder`. Kept alive, and listening, while it is open."""

    asked = Signal(object)
    """Another start wants the window, and this path (str, "" for none) opened in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._lock = QLockFile(str(folder / "snug.lock"))
        self._lock.setStaleLockTime(0)  # a long session is not a stale one: only a dead process is
        self._server: QLocalServer | None = None

    def claim(self) -> bool:
        """Become the one; False if another process is. A folder that cannot be written is free."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("no lock: %s", error)
            return True
        is_ours = self._lock.tryLock(0)
        return is_ours or self._lock.error() != QLockFile.LockError.LockFailedError

    def listen(self) -> None:
        """Hear of other starts from now on."""
        from PySide6.QtNetwork import QLocalServer

        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        server.setMaxPendingConnections(MOST_WAITING)
        server.newConnection.connect(self._on_connection)
        QLocalServer.removeServer(_address(self._folder))  # a killed process leaves it
        if not server.listen(_address(self._folder)):
            log.warning("other starts are not heard: %s", server.errorString())
        self._server = server

    def hand_over(self, path: str) -> bool:
        """Ask the running window to come to the front and open `path`; False if it is deaf."""
        socket = self._connected()
        if socket is None:
            return False
        socket.write(os.fsencode(path).hex().encode() + b"\n")
        return socket.waitForReadyRead(ANSWER_MS) and bytes(socket.readAll().data()) == b"ok\n"

    def _connected(self) -> QLocalSocket | None:
        from PySide6.QtNetwork import QLocalSocket

        socket = QLocalSocket()
        give_up_at = time.monotonic() + START_S
        while time.monotonic() < give_up_at:
            socket.connectToServer(_address(self._folder))
            if socket.waitForConnected(ANSWER_MS):
                return socket
            time.sleep(AGAIN_S)
        return None

    def close(self) -> None:
        """Let another process be the one."""
        if self._server:
            self._server.close()
        self._lock.unlock()

    def _on_connection(self) -> None:
        assert self._server
        while socket := self._server.nextPendingConnection():
            socket.setReadBufferSize(MOST_BYTES + 1)
            socket.disconnected.connect(socket.deleteLater)
            socket.readyRead.connect(lambda socket=socket: self._on_ready(socket))

    def _on_ready(self, socket: QLocalSocket) -> None:
        if not socket.canReadLine():
            if socket.bytesAvailable() > MOST_BYTES:
                socket.abort()
            return
        path = _path_in(bytes(socket.readLine(MOST_BYTES).data()))
        if path is None:
            socket.abort()
            return
        socket.write(b"ok\n")
        socket.flush()  # before the window is busy with what was asked
        socket.disconnectFromServer()
        self.asked.emit(path)


def _path_in(line: bytes) -> str | None:
    """The path that another start sent, "" for none; None for what it never sends."""
    try:
        name = bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return None
    path = os.fsdecode(name)
    is_path = not path or (Path(path).is_absolute() and b"\0" not in name)
    return path if is_path and line.endswith(b"\n") else None


def _address(folder: Path) -> str:
    """The socket lies in the user's own folder; on Windows it is a pipe of that user."""
    path = str(folder.absolute() / "snug.socket")
    if sys.platform != "win32" and len(os.fsencode(path)) < 100:  # the address holds no more
        return path
    import hashlib  # 2 ms of the start that few folders need

    name = f"snug-{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}"
    if sys.platform == "win32":
        return name
    # Not the folder for temporary files, where anyone could make it first.
    own = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.RuntimeLocation)
    return str(Path(own) / name)
