"""Asks one model the probes, greedily, and keeps what it said."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.errors import ContextOverflow, TemplateError
from engine.fit.run import KvType
from engine.inference import Generate, LoadSettings
from engine.jobs import Progress, Step
from engine.quantize.probes.probe import Probe
from engine.sampling import SamplingParams

if TYPE_CHECKING:
    from engine.llama.session import Session

N_CTX = 4096
_NEXT_QUESTION = "\nQuestion:"


class Answered(msgspec.Struct, frozen=True):
    """An answer; `has_ended`: by the model's own token. Of a probe that cannot be asked: None."""

    text: str
    has_ended: bool


def ask(
    path: str,
    probes: Sequence[Probe],
    stage: str,
    kv_type: KvType = "f16",
    n_threads: int = 0,
) -> Generator[Step, None, tuple[Answered | None, ...]]:
    """Load the GGUF at `path` and answer `probes`; None for one that it has no room or words for.

    `stage` is what the progress is called; `n_threads` 0 is as many as are good here. Raises what
    loading a model raises, InferenceError.
    """
    from engine.llama.session import Session
    from engine.llama.threads import default_n_threads

    # A number of threads that changed on the way could change an answer.
    settings = LoadSettings(
        n_ctx=N_CTX,
        n_threads=n_threads or default_n_threads(),
        kv_type=kv_type,
        is_capped=True,
        anyway=True,
    )
    session = yield from Session.load(path, settings)
    try:
        answers = []
        for number, probe in enumerate(probes):
            done = Progress(stage, number, len(probes), "steps")
            yield done
            answers.append((yield from _answer(session, probe, done)))
        yield Progress(stage, len(probes), len(probes), "steps")
        return tuple(answers)
    finally:
        session.close()


def _answer(
    session: Session, probe: Probe, done: Progress
) -> Generator[Progress, None, Answered | None]:
    has_template = session.info.has_chat_template
    if not has_template and probe.text is None:
        return None
    request = Generate(
        messages=probe.messages if has_template else (),
        prompt=None if has_template else probe.text,
        sampling=SamplingParams(temperature=0),
        max_tokens=probe.max_tokens,
    )
    writing = session.generate(request)
    try:
        while True:
            next(writing)
            yield done
    except StopIteration as stop:
        answer = stop.value
    except (ContextOverflow, TemplateError):
        return None
    finally:
        writing.close()
    text = answer.text if has_template else answer.text.partition(_NEXT_QUESTION)[0]
    return Answered(text, answer.finish_reason == "stop")
