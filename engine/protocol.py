"""What the window and the worker process say to each other: one JSON object a line.

Requests go to the worker's stdin, events come from its stdout; stderr is its log and nothing more.
This file knows the shapes only; `worker.py` and `client.py` know what to do with them.
"""

from __future__ import annotations

import msgspec

from engine.errors import ErrorReport
from engine.jobs import Step

VERSION = 2
STUCK_STATUS = 70
"""The exit status of a worker that ends itself because a cancelled job did not end."""


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Start `job` (its own tagged JSON); every event about it carries `id`."""

    id: int
    job: msgspec.Raw


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: int


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Stop as a cancel does, but keep what the same job can go on from."""

    id: int


Request = Run | Cancel | Pause


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The first line of a worker."""

    protocol: int
    pid: int


class StepEvent(msgspec.Struct, frozen=True, tag="step"):
    id: int
    step: Step


class ResultEvent(msgspec.Struct, frozen=True, tag="result"):
    id: int
    result: msgspec.Raw


class ErrorEvent(msgspec.Struct, frozen=True, tag="error"):
    id: int
    error: ErrorReport


class CancelledEvent(msgspec.Struct, frozen=True, tag="cancelled"):
    id: int


Event = Ready | StepEvent | ResultEvent | ErrorEvent | CancelledEvent

encode = msgspec.json.encode
decode_request = msgspec.json.Decoder(Request).decode
decode_event = msgspec.json.Decoder(Event).decode
