"""Loads llama.cpp into this process, once, and listens to its log.

Everything goes through the one handle that `llama_cpp` opened: the functions of ggml, on which
llama.cpp's own library depends, are found through it too. A second handle (`llama_cpp._ggml`) would
be a second copy of ggml with its own registry of backends: a wheel holds files instead of links.
Knows nothing of models.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import logging
import os
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LOG_LINES = 200
"""How much of llama.cpp's log is kept to explain a failure."""

# GGML_LOG_LEVEL_* of ggml.h.
_DEBUG, _INFO, _CONTINUED = 1, 2, 5


class Library:
    """llama.cpp: `c` is its C API, `function` finds what `llama_cpp` does not declare.

    `version` is that of the binding, which pins llama.cpp.

    `log_lines` holds the end of its log. llama.cpp logs file names and figures, never text of a
    conversation, and Snug keeps it out of stdout.
    """

    def __init__(self) -> None:
        # This variable names a shared library to run, and the user never set it for Snug.
        os.environ.pop("GGML_BACKEND_PATH", None)
        from llama_cpp import __version__
        from llama_cpp import llama_cpp as c

        self.c: Any = c
        self.version = str(__version__)
        self.log_lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self._line = ""
        self._level = _DEBUG
        # llama.cpp keeps the pointer for as long as the process lives, and so must we.
        self._log_callback = c.llama_log_callback(self._on_log)
        c.llama_log_set(self._log_callback, ctypes.c_void_p(0))
        self._register_backends(Path(c._lib._name).parent)
        c.llama_backend_init()

    def function(self, name: str, restype: Any, *argtypes: Any) -> Any:
        """Return the C function `name`, declared with these types.

        Each call makes an object of its own, so that two declarations never meet in one.
        """
        prototype = ctypes.CFUNCTYPE(restype, *argtypes)
        return prototype((name, self.c._lib))

    def _register_backends(self, folder: Path) -> None:
        """Make sure that a backend is there before llama.cpp looks for one by itself.

        With none registered, `llama_backend_init` would search the current directory and run the
        `libggml-*.so` it finds there; a backend linked into the library is registered already.
        """
        if self.function("ggml_backend_reg_count", ctypes.c_size_t)() == 0:
            load = self.function("ggml_backend_load_all_from_path", None, ctypes.c_char_p)
            load(os.fsencode(folder))
        if self.function("ggml_backend_reg_count", ctypes.c_size_t)() == 0:
            raise ImportError(f"llama.cpp has no backend in {folder}")

    def _on_log(self, level: int, text: bytes | None, _data: object) -> None:
        """Collect the pieces that llama.cpp logs into lines."""
        if level != _CONTINUED:
            self._level = level
        self._line += (text or b"").decode("utf-8", "replace")
        *lines, self._line = self._line.split("\n")
        for line in lines:
            if self._level > _DEBUG:
                self.log_lines.append(line)
            # Its errors too are only notes: an exception that follows them tells the user.
            log.log(logging.INFO if self._level > _INFO else logging.DEBUG, "%s", line)


_load_once = functools.cache(Library)
_loading = threading.Lock()


def library() -> Library:
    """Return llama.cpp, loaded at the first call.

    One thread at a time: of two libraries made at once, the log would go to the one nobody has.
    """
    with _loading:
        return _load_once()
