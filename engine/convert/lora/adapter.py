"""An adapter's folder: adapter_config.json and adapter_model.safetensors, checked.

A matrix has the pair A and B, or it is there whole, as are biases and norms that were trained too.
Names are those of the base model's tensors. Source: peft/utils/save_and_load.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.checkpoint import Checkpoint, StoredTensor, read_safetensors_header, refuse_pickle
from engine.convert.lora.config import NAME, AdapterConfig, read_adapter_config
from engine.convert.lora.refusals import bad_adapter, unsupported_adapter
from engine.convert.weights import StoredWeight, Weight
from engine.errors import FormatError, NotFound
from engine.files import read_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TENSORS_NAME = "adapter_model.safetensors"
MAX_NAME = 300
# base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight; the adapter's name and
# what wraps a module differ by version and trainer.
_WRAPPERS = re.compile(r"^base_model\.model\.|\b(_orig_mod|_fsdp_wrapped_module)\.")
_FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(\.(?!weight$|bias$)[\w-]+)?(\.weight)?"
)
_WHOLE = re.compile(r"\.(base_layer|modules_to_save(\.(?!weight$|bias$)[\w-]+)?)(?=\.\w+$)")


class LowRank:
    """What is added to a matrix: `scale` * left @ right, [n_rows, rank] times [rank, n_cols].

    Of a linear layer they are B and A; of an embedding, and of a layer that is stored transposed,
    A and B transposed (`is_swapped`). With a `magnitude` (DoRA) rows of the sum get these lengths.
    """

    def __init__(
        self, a: Weight, b: Weight, strength: float, magnitude: Weight | None, *, is_swapped: bool
    ) -> None:
        self._a, self._b = a, b
        self.rank = a.shape[0]
        self.strength = strength
        self.magnitude = magnitude
        self._is_swapped = is_swapped
        n_out, n_in = b.shape[0], a.shape[1]
        self.shape = (n_in, n_out) if is_swapped else (n_out, n_in)

    @property
    def scale(self) -> float:
        return self.strength / self.rank

    def left(self, start: int, stop: int) -> NDArray[np.float32]:
        """Its rows `start` to `stop`, float32 [stop - start, rank]."""
        if not self._is_swapped:
            return self._b.rows(start, stop)
        import numpy as np

        from engine.floats import to_float32

        size = self._a.type.block_bytes
        columns = self._a.raw(0, self.rank)[:, start * size : stop * size]
        decoded = to_float32(np.ascontiguousarray(columns).reshape(-1).data, self._a.type)
        return decoded.reshape(self.rank, stop - start).T

    def right(self) -> NDArray[np.float32]:
        """float32 [rank, n_cols]"""
        return self._b.rows(0, self.shape[1]).T if self._is_swapped else self._a.rows(0, self.rank)


class Adapter:
    """An open adapter: what it adds to matrices, and the tensors that it has `whole`, by name."""

    def __init__(
        self,
        folder: Path,
        config: AdapterConfig,
        low_rank: Mapping[str, LowRank],
        whole: Mapping[str, Weight],
        files: Checkpoint,
    ) -> None:
        self.folder = folder
        self.config = config
        self.low_rank = low_rank
        self.whole = whole
        self._files = files

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """Read the config, and the header of the tensors.

        Raises NotFound, StorageError, FormatError, UnsafeFile, UnsupportedTensor, CorruptFile.
        """
        try:
            if not (folder / NAME).is_file():
                raise NotFound(
                    f"{folder.name} is no LoRA adapter: it has no {NAME}.",
                    hint=f"Choose the folder that holds {NAME} and {TENSORS_NAME}.",
                    details=str(folder),
                )
            config = read_adapter_config(folder)
            tensors = read_safetensors_header(_tensors_file(folder))
        except OSError as error:  # a folder that may not be looked into
            raise read_error(error, folder) from error
        files = Checkpoint(folder, {}, {})
        factors, whole = _sorted(folder, files, tensors)
        if not factors:
            raise bad_adapter(folder, "it holds no LoRA")
        low_rank = {
            f"{module}.weight": _low_rank(folder, config, module, found)
            for module, found in factors.items()
        }
        return cls(folder, config, low_rank, whole, files)

    @property
    def name(self) -> str:
        """That of its folder, or of the repository in a download cache."""
        return self._files.name

    def forget(self) -> None:
        self._files.forget()

    def close(self) -> None:
        self._files.close()


def _sorted(
    folder: Path, files: Checkpoint, tensors: list[StoredTensor]
) -> tuple[dict[str, dict[str, Weight]], dict[str, Weight]]:
    """What belongs to a pair, by module and kind, and the other tensors by name."""
    factors: dict[str, dict[str, Weight]] = {}
    whole: dict[str, Weight] = {}
    for tensor in tensors:
        if len(tensor.name) > MAX_NAME:
            raise bad_adapter(folder, f"it has a tensor called {tensor.name[:40]!a}...")
        name = _WRAPPERS.sub("", tensor.name)
        match = _FACTOR.fullmatch(name)
        place = factors.setdefault(match["module"], {}) if match else whole
        key = match["kind"] if match else _WHOLE.sub("", name)
        if key in place:
            raise bad_adapter(folder, f"{tensor.name!a} is there twice")
        place[key] = StoredWeight(files, tensor)
    return factors, whole


def _tensors_file(folder: Path) -> Path:
    if (folder / TENSORS_NAME).is_file():
        return folder / TENSORS_NAME
    pickle = folder / "adapter_model.bin"
    if pickle.is_file():
        raise refuse_pickle(pickle)
    raise FormatError(
        f"{folder.name} has an {NAME} but no {TENSORS_NAME}.",
        hint=f"Download {TENSORS_NAME} of the adapter into this folder too.",
    )


def _low_rank(
    folder: Path, config: AdapterConfig, module: str, found: Mapping[str, Weight]
) -> LowRank:
    """Check the pair of `module` against itself and the config."""
    is_embedding = "lora_embedding_A" in found or "lora_embedding_B" in found
    names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A", "lora_B")
    expected = {*names, *(("lora_magnitude_vector",) if config.is_dora else ())}
    if found.keys() != expected:
        wrong = min(found.keys() ^ expected)
        raise bad_adapter(folder, f"{module} {'has' if wrong in found else 'lacks'} {wrong}")
    a, b = (found[name] for name in names)
    rank = config.rank_of(module)
    if len(a.shape) != 2 or len(b.shape) != 2 or not a.shape[0] == b.shape[1] == rank:
        raise bad_adapter(
            folder,
            f"A and B of {module} have the shapes {list(a.shape)} and {list(b.shape)}, and the"
            f" rank is {rank}",
        )
    strength = config.strength_of(module, a.shape[0])
    is_swapped = is_embedding or config.is_transposed
    magnitude = found.get("lora_magnitude_vector")
    low_rank = LowRank(a, b, strength, magnitude, is_swapped=is_swapped)
    if magnitude is not None:
        if is_swapped:
            raise unsupported_adapter(folder, f"a DoRA of {module}, which is no linear layer")
        if magnitude.shape != low_rank.shape[:1]:
            raise bad_adapter(folder, f"the magnitudes of {module} are {list(magnitude.shape)}")
    return low_rank
