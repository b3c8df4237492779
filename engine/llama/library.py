"""Loads llama.cpp into this process, once, and listens to its log.

Everything goes through the one handle that `llama_cpp` opened: the functions of ggml, on which
llama.cpp's own library depends, are found through it too. A second handle (`llama_cpp._ggml`) would
be a second copy of ggml with its own registry of backends: a wheel holds files instead of links.
Knows nothing of models.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine import gpu_modules
from engine.graphics_cards import cards
from engine.hardware import Device
from engine.llama.modules import load_module, load_processor_modules
from engine.llama.registry import registered
from engine.processes import AUTO, CPU, DEVICE, LIBRARY_VARIABLES

log = logging.getLogger(__name__)

LOG_LINES = 200
"""How much of llama.cpp's log is kept to explain a failure."""

# GGML_LOG_LEVEL_* of ggml.h.
_DEBUG, _INFO, _CONTINUED = 1, 2, 5


class Library:
    """llama.cpp: `c` is its C API, `function` finds what `llama_cpp` does not declare.

    `version` is that of the binding, which pins llama.cpp. `device` is what to compute on: "auto",
    "cpu" or the name of a device that is there. `gpu_module` is the module for graphics that is
    loaded, and `notice` says what about it is not as the user would expect.

    `log_lines` holds the end of its log. llama.cpp logs file names and figures, never text of a
    conversation, and Snug keeps it out of stdout.
    """

    def __init__(self, only_module: Path | None = None) -> None:
        """With `only_module` nothing else is loaded to compute on; raises OSError if it cannot."""
        # Before the import: the binding loads what they name.
        for variable in LIBRARY_VARIABLES:
            os.environ.pop(variable, None)
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
        self.device = os.environ.get(DEVICE, AUTO)
        self.notice = ""
        self.gpu_module: Path | None = None
        self._file = Path(c._lib._name)
        self._handles = [c._lib]
        if sys.platform == "win32":  # where a handle knows what is in its own file, and no more
            files = (self._file.with_name(name) for name in ("ggml.dll", "ggml-base.dll"))
            self._handles += [ctypes.CDLL(str(file)) for file in files if file.is_file()]
        self._linked: tuple[Device, ...] = ()
        self._is_marked = False
        if only_module:
            load_module(self, only_module)
            return
        self._load_backends()
        c.llama_backend_init()

    def function(self, name: str, restype: Any, *argtypes: Any) -> Any:
        """Return the C function `name`, declared with these types.

        Each call makes an object of its own, so that two declarations never meet in one.
        Raises AttributeError if there is none of that name.
        """
        prototype = ctypes.CFUNCTYPE(restype, *argtypes)
        *others, last = self._handles
        for handle in others:
            with contextlib.suppress(AttributeError):
                return prototype((name, handle))
        return prototype((name, last))

    def look(self) -> dict[Path, gpu_modules.Found]:
        """What there is beside the processor, by module, the best first.

        In a build without modules all is linked into the library, whatever there is.
        """
        if self._linked:
            return {self._file: gpu_modules.Found(self._linked)}
        return gpu_modules.look(gpu_modules.modules_in(self._file.parent))

    def hand_over(self) -> None:
        """Leave work to a driver, which may end the process with it: until `take_back`."""
        if self.gpu_module and not self._is_marked:
            self._is_marked = True
            gpu_modules.hand_over(self.gpu_module)

    @contextmanager
    def at_risk(self) -> Iterator[None]:
        """Leave work to a driver that is done with this block: asking, or preparing."""
        was_marked = self._is_marked
        self.hand_over()
        try:
            yield
        finally:
            if not was_marked:
                self.take_back()

    def take_back(self) -> None:
        """The driver has done its work, or refused to."""
        if self._is_marked:
            self._is_marked = False
            gpu_modules.take_back()

    def _load_backends(self) -> None:
        """Load what is chosen to compute on, before llama.cpp looks for it by itself.

        With no backend registered, `llama_backend_init` would search the current directory and run
        the `libggml-*.so` it finds there. A developer's build has them linked into the library.
        """
        linked = registered(self).values()
        self._linked = tuple(device for device in linked if device.is_graphics)
        if self.device != CPU:
            self._load_graphics()
        if not any(device.kind == "cpu" for device in linked):
            load_processor_modules(self, self._file.parent)

    def _load_graphics(self) -> None:
        found = self.look()
        self.notice = gpu_modules.graphics(self.device, found, cards()).notice
        module = gpu_modules.select(self.device, found)
        possible = found[module].devices if module else ()
        if not gpu_modules.device_named(self.device, possible):
            self.device = AUTO
        if module is None or module == self._file:
            return
        try:
            load_module(self, module)
            self.gpu_module = module
        except (OSError, AttributeError) as error:  # it did load when it was tried
            log.warning("%s not loaded: %s", module.name, error)
            self.notice = (
                f"{gpu_modules.name_of(module)} could not be loaded this time."
                " Snug computes on the processor instead."
            )

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


@functools.cache
def _load_once() -> Library:
    return Library()


_loading = threading.Lock()


def library() -> Library:
    """Return llama.cpp, loaded at the first call.

    One thread at a time: of two libraries made at once, the log would go to the one nobody has.
    """
    with _loading:
        return _load_once()
