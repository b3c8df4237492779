"""The jobs around a running model: load it, let it answer, measure its speed.

Light to import: llama.cpp comes in when a job runs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from engine.chat import Message
from engine.fit.run import KvType
from engine.jobs import Job, Step
from engine.sampling import SamplingParams

if TYPE_CHECKING:
    from engine.llama.session import Session

FinishReason = Literal["stop", "length", "cancelled", "error"]


class LoadSettings(msgspec.Struct, frozen=True):
    """How to load a model: `n_ctx` 0 and `kv_type` None = what fits, `n_threads` 0 = the default.

    `n_gpu_layers` -1 = as many as fit. `is_capped` = no longer a context than the model was trained
    for. `anyway` = also where nothing seems to fit.
    """

    n_ctx: int = 0
    n_threads: int = 0
    n_gpu_layers: int = -1
    kv_type: KvType | None = None
    is_capped: bool = False
    anyway: bool = False


class ModelInfo(msgspec.Struct, frozen=True):
    """A loaded model and how it runs here."""

    path: str
    name: str
    architecture: str
    type: str
    n_params: int
    size_bytes: int
    n_ctx: int
    n_ctx_train: int
    n_vocab: int
    has_chat_template: bool
    n_threads: int
    device: str
    load_seconds: float
    predicted_bytes: int = 0
    """Weights, cache and buffers as predicted before loading."""
    taken: dict[str, int] = {}
    """The same by device, as llama.cpp counts them now; empty where it does not tell."""
    notice: str = ""
    """What about the graphics is not as the user would expect."""

    @property
    def taken_bytes(self) -> int:
        return sum(self.taken.values())


class Load(Job, frozen=True):
    """Load the GGUF at `path`. Run here it returns a Session, which the caller closes."""

    Result: ClassVar = ModelInfo

    path: str
    settings: LoadSettings = LoadSettings()

    def run(self) -> Generator[Step, None, Session]:
        from engine.llama.session import Session

        return (yield from Session.load(self.path, self.settings))


class Answer(msgspec.Struct, frozen=True):
    """A whole answer and how it came about.

    `prompt_tokens_evaluated` are the ones that the KV cache did not hold yet; speeds are tokens per
    second over them and over the generated tokens.
    """

    text: str
    prompt_tokens: int
    prompt_tokens_evaluated: int
    prompt_tokens_per_second: float
    time_to_first_token_seconds: float
    generation_tokens: int
    generation_tokens_per_second: float
    finish_reason: FinishReason
    n_ctx: int
    n_ctx_used: int
    seed: int


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Answer `messages` with the model's chat template, or continue `prompt` as it stands.

    A model without a template continues the text of the messages. `max_tokens` 0 = until the model
    ends or the context is full.
    """

    Result: ClassVar = Answer

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    sampling: SamplingParams = SamplingParams()
    max_tokens: int = 0

    def run(self, session: Session) -> Generator[Step, None, Answer]:
        return session.generate(self)


class BenchResult(msgspec.Struct, frozen=True):
    """Speeds as llama-bench measures them: mean and sample standard deviation of the runs."""

    pp_tokens_per_second: float
    tg_tokens_per_second: float
    pp_tokens_per_second_stddev: float
    tg_tokens_per_second_stddev: float
    n_prompt: int
    n_generate: int
    n_threads: int
    repetitions: int
    model: str
    type: str
    size_bytes: int
    n_params: int


class Bench(Job, frozen=True):
    """Measure as llama-bench does: `n_prompt` tokens read at once, `n_generate` one by one."""

    Result: ClassVar = BenchResult

    model: str
    n_prompt: int = 512
    n_generate: int = 128
    n_threads: int = 0
    repetitions: int = 3

    def run(self) -> Generator[Step, None, BenchResult]:
        from engine.llama.bench import measure

        return (yield from measure(self))
