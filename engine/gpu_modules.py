"""Which of llama.cpp's modules for graphics work here, and which one to use.

A driver can crash or hang the process that loads it, so each module is loaded in a process of its
own first (`engine/llama/probe.py`). What came of it is kept until the module, Snug, a card or a
driver changes. A module that crashed or hung is in quarantine until then, or until `forget`: it is
not loaded, and the next one is used. Loads nothing itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from engine import __version__, processes
from engine.alone import alone
from engine.folders import folders
from engine.graphics_cards import AMD, INTEL, NVIDIA, Card, fingerprint, why_no_nvidia
from engine.hardware import Device, Graphics, Unused

log = logging.getLogger(__name__)

NAMES = {"metal": "Metal", "cuda": "CUDA", "hip": "ROCm", "vulkan": "Vulkan"}
"""How people call what a module computes with, by its name in the file's; the best one first."""

_CARDS_OF = {"cuda": {NVIDIA}, "hip": {AMD}}
"""The makers of the cards that a module is for; the others are for all."""

PATIENCE_S = 30.0
"""The first use of a driver after a start of the system can take 10 s."""
LOG_LINES = 20

_CRASHED = "crashed when it was tried"
_CRASHED_LATER = "crashed at work"


class Found(msgspec.Struct, frozen=True):
    """What came of trying a module.

    `problem` is why nothing can be computed on by it, as a sentence that begins with its name.
    `is_final` is False where it was not the module's fault, and it will be tried again.
    """

    devices: tuple[Device, ...] = ()
    problem: str = ""
    is_quarantined: bool = False
    is_final: bool = True
    details: str = ""


class _Kept(msgspec.Struct, frozen=True):
    """`key` is what the module, Snug, the cards and the drivers were then."""

    key: str
    found: Found


_Record = dict[str, _Kept]


def file_of_module(folder: Path, name: str) -> Path:
    """Where llama.cpp's build puts the module `name`."""
    return folder / (f"ggml-{name}.dll" if sys.platform == "win32" else f"libggml-{name}.so")


def modules_in(folder: Path) -> tuple[Path, ...]:
    """The modules for graphics that this build has, the best one first."""
    files = (file_of_module(folder, name) for name in NAMES)
    return tuple(file for file in files if file.is_file())


def name_of(module: Path) -> str:
    return NAMES[_word_of(module)]


def _word_of(module: Path) -> str:
    return module.stem.rpartition("ggml-")[2]


# Trying


def look(modules: Sequence[Path]) -> dict[Path, Found]:
    """What there is to compute on by each of `modules`; those that have changed are tried first.

    That takes a second each; another process that looks at the same time waits for it. Raises
    nothing: whatever is wrong with graphics, there is the processor.
    """
    if not modules:
        return {}
    try:
        record = _look(modules)
    except Exception as error:
        log.exception("graphics not looked at")
        details = f"{type(error).__name__}: {error}"
        return {module: _not_tried(module, details) for module in modules}
    return {module: record[_text(module)].found for module in modules}


def _look(modules: Sequence[Path]) -> _Record:
    path = _record_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_suffix(".lock")):
            before = _read(path)
            record = _looked(modules, before)
            if record != before:
                _write(path, record)
    except OSError as error:  # nothing can be kept on this disk
        log.warning("graphics not kept: %s", error)
        record = _looked(modules, {})
    return record


def _looked(modules: Sequence[Path], record: _Record) -> _Record:
    now, record = fingerprint(), dict(record)
    for module in modules:
        kept, key = record.get(_text(module)), _key(module, now)
        if kept is None or kept.key != key or not kept.found.is_final:
            record[_text(module)] = _Kept(key, probe(module))
    return record


def probe(module: Path, patience_s: float = PATIENCE_S) -> Found:
    """Load `module` in a process of its own, and ask it for its devices."""
    name = name_of(module)
    log.info("trying %s", module.name)
    try:
        done = subprocess.run(
            processes.command("probe", str(module), str(patience_s)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=processes.FOLDER,
            env=processes.environment(),
            timeout=patience_s,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired as late:
        problem = f"{name} did not answer within {patience_s:.0f} s when it was tried."
        return Found(problem=problem, is_quarantined=True, details=_tail(late.stderr))
    except OSError as error:
        return _not_tried(module, str(error))
    details = f"exit status {done.returncode}\n{_tail(done.stderr)}"
    if processes.is_crash(done.returncode):
        return Found(problem=f"{name} {_CRASHED}.", is_quarantined=True, details=details)
    try:
        return msgspec.json.decode(done.stdout, type=Found)
    except msgspec.MsgspecError:  # it was killed, or memory ran out
        return _not_tried(module, details)


def _not_tried(module: Path, details: str) -> Found:
    problem = f"{name_of(module)} could not be tried."
    text = details.encode("utf-8", "backslashreplace").decode()
    return Found(problem=problem, is_final=False, details=text)


def _tail(log_bytes: bytes | None) -> str:
    return "\n".join((log_bytes or b"").decode("utf-8", "replace").splitlines()[-LOG_LINES:])


# Quarantine


def forget() -> None:
    """Let everything be tried again, the next time that someone looks."""
    _record_path().unlink(missing_ok=True)


def hand_over(module: Path) -> None:
    """Note that this process leaves its work to `module`: a crash counts against it now."""
    mark = _mark_of(os.getpid())
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        _replace(mark, os.fsencode(module))
    except OSError as error:
        log.warning("graphics not marked: %s", error)


def take_back() -> None:
    """Note that this process is alive after what it left to a module."""
    try:
        _mark_of(os.getpid()).unlink(missing_ok=True)
    except OSError as error:
        log.warning("graphics marked still: %s", error)


def hear_of_end(pid: int, *, has_crashed: bool) -> None:
    """A process has ended: put the module in quarantine that it was handing its work to.

    A mark that names no module, as one of another version may, is none.
    """
    mark = _mark_of(pid)
    try:
        module = Path(os.fsdecode(mark.read_bytes()))
        mark.unlink(missing_ok=True)
        if has_crashed and _word_of(module) in NAMES:
            log.info("%s crashed at work", module.name)
            _put_in_quarantine(module)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("no quarantine: %s", error)


def _put_in_quarantine(module: Path) -> None:
    path, key = _record_path(), _key(module, fingerprint())
    found = Found(problem=f"{name_of(module)} {_CRASHED_LATER}.", is_quarantined=True)
    with alone(path.with_suffix(".lock")):
        _write(path, {**_read(path), _text(module): _Kept(key, found)})


# What is kept


def _record_path() -> Path:
    return folders().cache / "graphics.json"


def _mark_of(pid: int) -> Path:
    return folders().cache / f"computing-{pid}"


def _key(module: Path, now: tuple[str, ...]) -> str:
    stat = module.stat()
    words = (__version__, str(stat.st_size), str(stat.st_mtime_ns), *now)
    return hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest()


def _text(module: Path) -> str:
    """Its name in the record, which holds only text: on Linux that of a folder may be any bytes."""
    return str(module).encode("utf-8", "backslashreplace").decode()


def _read(path: Path) -> _Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:  # of another version, say
        log.warning("graphics not readable: %s", error)
        return {}


def _write(path: Path, record: _Record) -> None:
    _replace(path, msgspec.json.encode(record))


def _replace(path: Path, data: bytes) -> None:
    """Have all of `data` in `path`, or what was there before. Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


# Choosing


def select(choice: str, found: Mapping[Path, Found]) -> Path | None:
    """The one module to load, None for the processor alone.

    The one that has the device `choice`; else the first that has a graphics card, then the first
    that has graphics in the processor. More than one would count the same card twice.
    """
    if choice == processes.CPU:
        return None
    named = (module for module in found if device_named(choice, found[module].devices))
    of_kind = (
        module
        for kind in ("gpu", "igpu")
        for module in found
        if any(device.kind == kind for device in found[module].devices)
    )
    return next(named, None) or next(of_kind, None)


def device_named(choice: str, devices: Sequence[Device]) -> Device | None:
    same = (device for device in devices if device.name.casefold() == choice.casefold())
    return next(same, None)


def graphics(choice: str, found: Mapping[Path, Found], cards: tuple[Card, ...]) -> Graphics:
    """All of it in words: what can be computed on, what cannot, and what is not as expected."""
    devices = tuple(device for what in found.values() for device in what.devices)
    why = ""
    if found and not any("nvidia" in device.description.casefold() for device in devices):
        why = why_no_nvidia(cards)
    unused = [
        Unused(name_of(module), what.problem, what.is_quarantined, what.details)
        for module, what in found.items()
        if what.problem
    ]
    if why and why not in (what.problem for what in found.values()):
        unused.append(Unused("NVIDIA", why))
    return Graphics(devices, tuple(unused), _notice(choice, found, cards, why))


def _notice(
    choice: str, found: Mapping[Path, Found], cards: tuple[Card, ...], why_no_nvidia: str
) -> str:
    """What is not as the user would expect it, and what is computed on instead."""
    devices = [device for what in found.values() for device in what.devices]
    if choice == processes.CPU or device_named(choice, devices):
        return ""
    used = select(choice, found)
    better = list(found)[: list(found).index(used)] if used else list(found)
    reasons = [found[module].problem for module in better if found[module].is_quarantined]
    if choice != processes.AUTO and not reasons:
        reasons.append(f"{choice}, which was chosen, is not there.")
    if used is None and why_no_nvidia:
        reasons.append(why_no_nvidia)
    if used is None:
        vendors = {card.vendor for card in cards} - ({NVIDIA} if why_no_nvidia else set())
        reasons += _problems(found, vendors)
    if not reasons:
        return ""
    where = found[used].devices[0].description if used else "the processor"
    return f"{' '.join(reasons)} Snug computes on {where} instead."


def _problems(found: Mapping[Path, Found], vendors: set[int]) -> list[str]:
    """Why cards of these makers are not used, as far as no driver has crashed; and what to do."""
    told = []
    for module, what in found.items():
        could_be_used = vendors & _CARDS_OF.get(_word_of(module), {NVIDIA, AMD, INTEL})
        if not could_be_used or not what.problem or what.is_quarantined:
            continue
        advice = (
            "Install the newest driver of the graphics card to use it."
            if what.is_final
            else "It is tried again when a model is loaded."
        )
        told.append(f"{what.problem} {advice}")
    return told
