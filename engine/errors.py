"""Expected failures of the world, each a sentence with a next step.

An `EngineError` is never a bug of ours: the disk was full, the file was cut short, the
model does not fit. It crosses the process boundary as an `ErrorReport` and is revived as the same
class.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class ErrorReport(msgspec.Struct, frozen=True):
    """An error on the wire and on screen: what happened, what to do, and the rest."""

    code: str
    message: str
    hint: str = ""
    details: str = ""


class EngineError(Exception):
    """Something the user can understand and act on.

    `message` says what happened in one sentence, `hint` what to do next (may be empty),
    `details` is for the curious: paths, figures, the engine's own words.
    """

    code: ClassVar[str] = "engine"
    _classes: ClassVar[dict[str, type[EngineError]]] = {}

    def __init__(self, message: str, *, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __init_subclass__(cls) -> None:
        cls.code = cls.__name__
        EngineError._classes[cls.code] = cls

    def report(self) -> ErrorReport:
        return ErrorReport(self.code, self.message, self.hint, self.details)

    @staticmethod
    def revive(report: ErrorReport) -> EngineError:
        """Build the exception that `report` describes; an unknown code gives an EngineError."""
        cls = EngineError._classes.get(report.code, EngineError)
        return cls(report.message, hint=report.hint, details=report.details)


class StorageError(EngineError):
    """The disk refused."""


class DiskFull(StorageError): ...


class NotWritable(StorageError): ...


class NotFound(StorageError):
    """A file or folder that was named does not exist."""


class AlreadyExists(StorageError):
    """The output is there already and is never overwritten unasked."""


class KeptAside(AlreadyExists):
    """The output is made, and whole, but under another name: `details` is its path."""


class NetworkError(EngineError):
    """A server could not be reached, or did not answer as it should."""


class AccessDenied(NetworkError):
    """The server wants a login, or a licence that is accepted first."""


class FormatError(EngineError):
    """A file is not what it should be."""


class UnsupportedArchitecture(FormatError): ...


class UnsupportedTensor(FormatError): ...


class UnsupportedTokenizer(FormatError): ...


class CorruptFile(FormatError): ...


class UnsafeFile(FormatError):
    """A format that can run code when it is opened, such as pickle."""


class ResourceError(EngineError):
    """The computer ran out of something."""


class OutOfMemory(ResourceError): ...


OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "bad_alloc",
    "failed to allocate",
    "unable to allocate",
    "cudamalloc",
    "outofdevicememory",
    "outofhostmemory",
    "memory allocation of size",
)
"""In lower case: of llama.cpp's log where memory is refused, by the system, CUDA or Vulkan.

Vulkan's exception says "vk::Device::allocateMemory: ErrorOutOfDeviceMemory".
"""


class TooSmall(ResourceError):
    """Nothing fits into the size that was asked for."""


class DeviceLost(ResourceError): ...


class InferenceError(EngineError):
    """The model could not answer."""


class ContextOverflow(InferenceError): ...


class TemplateError(InferenceError): ...


class WorkerCrashed(EngineError):
    """The engine process died; `details` holds the end of its log."""
