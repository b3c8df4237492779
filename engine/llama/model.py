"""A model in memory: its weights, and the vocabulary that turns text into tokens and back."""

from __future__ import annotations

import codecs
import ctypes
import os
import re
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from engine.errors import (
    OUT_OF_MEMORY_WORDS,
    CorruptFile,
    EngineError,
    FormatError,
    InferenceError,
    OutOfMemory,
    UnsupportedArchitecture,
    UnsupportedTokenizer,
)
from engine.gguf import GgufFile
from engine.hardware import Device
from engine.jobs import Notice, Progress
from engine.llama.devices import devices, use_devices
from engine.llama.experts import keep_experts
from engine.llama.library import library
from engine.llama.long_texts import BEAR_ANY_LENGTH, LONGEST, short_pieces
from engine.splits import open_gguf

POLL_S = 0.05
MAX_TEXT_BYTES = 64 << 20
"""A longer prompt is refused: no context holds it, and llama.cpp counts its bytes in 32 bits."""

LOAD_MODE_NONE = 0  # not by mmap
_TOKEN_NULL = -1

COMPUTE_BYTES = 2 << 30
"""Left free on each GPU beside the weights: for what a model computes that reads long texts."""


class Model:
    """A loaded model. `close` frees it, after every context made from it."""

    def __init__(self, file: GgufFile, handle: int) -> None:
        self._c = library().c
        self.handle = handle
        self.path = file.path
        self.metadata = file.metadata
        template = file.get("tokenizer.chat_template")
        self.chat_template = template if isinstance(template, str) else None
        pre = file.get("tokenizer.ggml.pre")
        self.vocabulary = Vocabulary(self._c.llama_model_get_vocab(handle), str(pre))

    @property
    def has_state(self) -> bool:
        """Whether it goes on from a state, like Mamba, not only from a cache of all tokens."""
        return bool(
            self._c.llama_model_is_recurrent(self.handle)
            or self._c.llama_model_is_hybrid(self.handle)
        )

    def close(self) -> None:
        if self.handle:
            self._c.llama_model_free(self.handle)
            self.handle = 0
            library().take_back()


def load_model(
    path: str | Path,
    n_gpu_layers: int | None = None,
    n_cpu_experts: int = 0,
    *,
    is_copied: bool = False,
) -> Generator[Progress | Notice, None, Model]:
    """Load the GGUF at `path`; closing the generator stops llama.cpp at the next tensor.

    `n_gpu_layers` -1 are all, None are all if a GPU has room for them and else none. The experts of
    the first `n_cpu_experts` layers stay in main memory. `is_copied` reads the weights into memory
    of the process instead of mapping the file. A notice tells if it is not computed where the user
    would expect.

    The file is checked by our own parser before llama.cpp sees it. Raises NotFound, StorageError,
    CorruptFile, UnsupportedTensor, UnsupportedArchitecture, UnsupportedTokenizer, OutOfMemory.
    """
    file = open_model_file(path)
    if n_gpu_layers is None:
        n_gpu_layers = all_or_none(file.size_bytes, devices())
    if library().notice:
        yield Notice(library().notice)
    loading = _Loading(file.path, n_gpu_layers, n_cpu_experts, is_copied=is_copied)
    thread = threading.Thread(target=loading.run, name="load-model", daemon=True)
    thread.start()
    model = None
    try:
        is_loading = True
        while is_loading:
            done = int(loading.fraction * file.size_bytes)
            yield Progress("Loading the model", done, file.size_bytes, "bytes")
            thread.join(POLL_S)
            is_loading = thread.is_alive()
        if not loading.handle:
            raise _load_error(file, loading.log_lines())
        _require_answers(file, loading.handle)
        model = Model(file, loading.handle)
        return model
    finally:
        loading.is_cancelled = True
        thread.join()
        if model is None and loading.handle:
            library().c.llama_model_free(loading.handle)
        if model is None:
            library().take_back()


def open_model_file(path: str | Path) -> GgufFile:
    """Open a GGUF that claims to hold a whole model; raises as `load_model`."""
    if (Path(path) / "config.json").is_file():
        raise FormatError(
            f"{Path(path).name} is a checkpoint, and this needs a GGUF file.",
            hint="Shrink it to chat with it, or convert it to 16 bits, and use the result.",
        )
    file = open_gguf(path)
    if not file.get("general.architecture"):
        raise CorruptFile(
            f"{file.path.name} does not say what kind of model it holds.",
            hint="Get the file again from where it came from.",
        )
    if not file.tensors:
        raise CorruptFile(
            f"{file.path.name} holds a vocabulary and no model.",
            hint="Choose the file with the weights.",
        )
    return file


def _require_answers(file: GgufFile, handle: int) -> None:
    """Refuse what llama.cpp loads but cannot write an answer with."""
    c = library().c
    architecture = file.get("general.architecture")
    if c.llama_model_has_encoder(handle) or not c.llama_model_has_decoder(handle):
        raise UnsupportedArchitecture(
            f"{file.path.name} is not a model that writes text ({architecture}).",
            hint="Choose a language model for chat or text.",
        )
    if c.llama_vocab_type(c.llama_model_get_vocab(handle)) == c.LLAMA_VOCAB_TYPE_NONE:
        raise UnsupportedTokenizer(
            f"{file.path.name} has no vocabulary.",
            hint="Get the file again, or convert the original checkpoint again.",
        )


def all_or_none(size_bytes: int, found: Sequence[Device]) -> int:
    """-1 for all layers, if the GPUs have room for `size_bytes` and what they compute, else 0.

    Graphics in the processor has no memory of its own to fill.
    """
    gpus = [device for device in found if device.kind == "gpu" and device.memory_total_bytes > 0]
    room_bytes = sum(gpu.memory_free_bytes - COMPUTE_BYTES for gpu in gpus)
    return -1 if not gpus or size_bytes <= room_bytes else 0


class _Loading:
    """One call of llama_model_load_from_file, on a thread of its own."""

    def __init__(
        self, path: Path, n_gpu_layers: int, n_cpu_experts: int, *, is_copied: bool
    ) -> None:
        self.fraction = 0.0
        self.is_cancelled = False
        self.handle = 0
        self._path = path
        self._library = library()
        self._library.log_lines.clear()
        self._params = self._library.c.llama_model_default_params()
        self._params.n_gpu_layers = n_gpu_layers
        self._overrides = keep_experts(self._params, n_cpu_experts)
        self._devices = use_devices(self._params)
        if n_gpu_layers:
            self._library.hand_over()
        if is_copied:
            self._params.load_mode = LOAD_MODE_NONE
        self._callback = self._library.c.llama_progress_callback(self._on_progress)
        self._params.progress_callback = self._callback

    def run(self) -> None:
        path = os.fsencode(self._path)
        self.handle = self._library.c.llama_model_load_from_file(path, self._params) or 0

    def log_lines(self) -> list[str]:
        return list(self._library.log_lines)

    def _on_progress(self, fraction: float, _data: object) -> bool:
        self.fraction = fraction
        return not self.is_cancelled


class Vocabulary:
    """Text to tokens and back, as the model's own tokenizer does it.

    `pre` is llama.cpp's name for how a byte-level BPE splits text.
    """

    def __init__(self, handle: int, pre: str) -> None:
        self._c = library().c
        self._handle = handle
        self._buffer = ctypes.create_string_buffer(512)
        self.n_tokens: int = self._c.llama_vocab_n_tokens(handle)
        self.bos: int = self._c.llama_vocab_bos(handle)
        self.eos: int = self._c.llama_vocab_eos(handle)
        self.adds_bos: bool = self._c.llama_vocab_get_add_bos(handle)
        self._adds_eos: bool = self._c.llama_vocab_get_add_eos(handle)
        is_bpe = self._c.llama_vocab_type(handle) == self._c.LLAMA_VOCAB_TYPE_BPE
        self._bears_any_length = not is_bpe or pre in BEAR_ANY_LENGTH
        self._letters, self._unknown = self._spelling()

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Return the tokens of `text`, with one BOS if the model wants it.

        `special` recognises special tokens where they are spelled out, as templates do; without it
        they are text like any other. Raises InferenceError for a text that is too long for any
        model.
        """
        if self._letters:
            text = "".join(c if c in self._letters else self._unknown for c in text)
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_TEXT_BYTES:
            raise InferenceError(
                f"The text is too long: {len(data):,} bytes.", hint="Send a shorter one."
            )
        if self._bears_any_length or len(text) <= LONGEST:
            tokens = self._tokens(data, special, has_ends=True)
        else:
            tokens = [self.bos] if self.adds_bos else []
            for piece in short_pieces(text):
                tokens += self._tokens(piece.encode("utf-8", "replace"), special, has_ends=False)
            tokens += [self.eos] if self._adds_eos else []
        # A template or a user may have written the BOS that the tokenizer adds.
        is_doubled = self.adds_bos and tokens[:2] == [self.bos, self.bos]
        return tokens[1:] if is_doubled else tokens

    def _tokens(self, data: bytes, special: bool, *, has_ends: bool) -> list[int]:
        tokens = (ctypes.c_int32 * (len(data) + 2))()
        n = self._c.llama_tokenize(
            self._handle, data, len(data), tokens, len(tokens), has_ends, special
        )
        if n < 0:
            raise InferenceError("The text could not be split into tokens.")
        return list(tokens[:n])

    def piece(self, token: int, special: bool = False) -> bytes:
        """Return the bytes of `token`, maybe half a character; none of a special token."""
        buffer = self._buffer
        n = self._c.llama_token_to_piece(self._handle, token, buffer, len(buffer), 0, special)
        if n < 0:
            self._buffer = ctypes.create_string_buffer(-n)
            return self.piece(token, special)
        return buffer.raw[:n]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def text_of(self, token: int) -> str:
        """Return the text of a special token as templates write it, empty if there is none."""
        if token == _TOKEN_NULL:
            return ""
        return self.piece(token, special=True).decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Whether `token` ends an answer: end of sequence, of turn, of message, and their kin."""
        return bool(self._c.llama_vocab_is_eog(self._handle, token))

    def _spelling(self) -> tuple[frozenset[str], str]:
        """Return the letters of a SentencePiece vocabulary without byte tokens, and "unknown".

        On any other letter llama.cpp (llama_vocab::byte_to_token) ends the process. Both are empty
        for a vocabulary that can spell everything.
        """
        c = self._c
        if c.llama_vocab_type(self._handle) != c.LLAMA_VOCAB_TYPE_SPM:
            return frozenset(), ""
        kinds = [c.llama_vocab_get_attr(self._handle, i) for i in range(self.n_tokens)]
        if any(kind & c.LLAMA_TOKEN_ATTR_BYTE for kind in kinds):
            return frozenset(), ""
        texts = [
            c.llama_vocab_get_text(self._handle, i).decode("utf-8", "replace")
            for i in range(self.n_tokens)
        ]
        unknown = (
            text
            for text, kind in zip(texts, kinds, strict=True)
            if kind & c.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        return frozenset("".join(texts)) | {" "}, next(unknown, "")


class StreamDecoder:
    """Turns tokens into text one at a time and holds back a character until all of it is there."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._utf8.decode(self._vocabulary.piece(token))

    def flush(self) -> str:
        """Return what is left of an incomplete character."""
        return self._utf8.decode(b"", final=True)


def out_of_memory(lines: Sequence[str], what: str, hint: str) -> OutOfMemory | None:
    """Return the error for a log in which llama.cpp says that memory was refused."""
    for line in lines:
        if any(words in line.lower() for words in OUT_OF_MEMORY_WORDS):
            return OutOfMemory(
                f"There is not enough memory for {what}.", hint=hint, details="\n".join(lines)
            )
    return None


def _load_error(file: GgufFile, lines: list[str]) -> EngineError:
    """Say what llama.cpp's log means for the user; the log itself becomes the details."""
    name, details = file.path.name, "\n".join(lines)
    if "unknown model architecture" in details:
        architecture = file.get("general.architecture")
        return UnsupportedArchitecture(
            f"{name} is a model of a kind that Snug does not know yet: {architecture}.",
            hint="Update Snug, or choose a model of another family.",
            details=details,
        )
    for words in ("unknown pre-tokenizer", "unknown tokenizer", "cannot find tokenizer"):
        if words in details:
            return UnsupportedTokenizer(
                f"{name} has a tokenizer that Snug does not know yet.",
                hint="Update Snug, or choose another file of this model.",
                details=details,
            )
    if error := out_of_memory(
        lines, f"the weights of {name}", "Close other programs or choose a smaller model."
    ):
        return error
    missing = re.search(r"tensor '(\S+)' not found|missing tensor '(\S+)'", details)
    tensor = missing and (missing[1] or missing[2])
    what = f"the tensor {tensor} is missing" if tensor else "it could not be loaded"
    return CorruptFile(
        f"{name} is not a whole model: {what}.",
        hint="Get the file again, or convert the original checkpoint again.",
        details=details,
    )
