"""The statistics of inputs in the making: a file that is mapped into memory and summed up in."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.calibrate.inputs import Input
from engine.calibrate.massive import energies, shares
from engine.errors import CorruptFile
from engine.files import as_write_error
from engine.gguf import encode_header
from engine.gguf_header import aligned
from engine.gguf_values import TensorInfo, Value
from engine.mapped import forget
from engine.output import new_file
from engine.partial import partial_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORGET_BYTES = 256 << 20
_COPY_BYTES = 16 << 20

Place = tuple[TensorInfo, int]
"""A tensor, and where in the file it begins."""


class Tally(msgspec.Struct, frozen=True):
    """What is counted beside the file, by the name of the input: see `Sums`."""

    counts: dict[str, list[int]]
    totals: dict[str, list[list[float]]]
    beyond: dict[str, list[list[float]]]
    n_sampled: dict[str, int]


class Sums:
    """The statistics of all inputs in the making, in a file that is mapped into memory.

    No more than `FORGET_BYTES` of it, or one matrix, are in memory at a time, so that it can be
    larger. `n_threads` compute; the sums do not depend on their number.
    """

    def __init__(
        self,
        mapped: mmap.mmap,
        inputs: Sequence[Input],
        places: Mapping[str, Place],
        n_threads: int,
        writing: _Writing,
    ) -> None:
        import numpy as np

        self.is_last_pass = False
        """Whether what is let go of is not added to again: it is written to the disk at once."""
        self._mapped = mapped
        self._writing = writing
        self._places = places
        self._n_threads = n_threads
        self._n_touched = 0
        self._inputs = inputs
        self._counts = {one.name: np.zeros(one.n_matrices, np.int64) for one in inputs}
        self._totals = {one.name: np.zeros((one.n_matrices, one.n_cols)) for one in inputs}
        # Of the sums of squares, what the second moment leaves out of massive rows.
        self._beyond = {one.name: np.zeros((one.n_matrices, one.n_cols)) for one in inputs}
        self._n_sampled = {one.name: 0 for one in inputs}

    def add(self, one: Input, rows: NDArray[np.float32], is_held_out: NDArray[np.bool_]) -> None:
        """Add the rows of a chunk, float32 [n_matrices, n, n_cols]; `is_held_out` [n_tokens].

        Raises CorruptFile for rows that are no numbers.
        """
        import numpy as np

        share = self._shares(one, rows)
        apart = np.repeat(is_held_out, rows.shape[1] // len(is_held_out))
        counts = np.where(apart, np.float32(0), share)
        for matrix in range(one.n_matrices):
            self._add_rows(one, matrix, rows[matrix], counts[matrix])
        sample = rows[:, apart] * share[:, apart, np.newaxis]  # [n_matrices, n_held_out, n_cols]
        if sample.size:
            first = self._n_sampled[one.name]
            self._array(f"{one.name}.in_sample")[:, first : first + sample.shape[1]] = sample
            self._n_sampled[one.name] += sample.shape[1]

    def add_routed(
        self,
        one: Input,
        rows: NDArray[np.float32],
        experts: NDArray[np.int32],
        is_held_out: NDArray[np.bool_],
    ) -> None:
        """Add rows [n_tokens, n, n_cols] that go to `experts` [n_tokens, n_used].

        Slot i of a token takes its row i % n, as ggml_mul_mat_id does. Raises CorruptFile.
        """
        import numpy as np

        n_rows, share = rows.shape[1], self._shares(one, rows)
        for expert in range(one.n_matrices):
            tokens, slots = np.nonzero((experts == expert) & ~is_held_out[:, None])
            if len(tokens):
                of_expert = tokens, slots % n_rows
                self._add_rows(one, expert, rows[of_expert], share[of_expert])
        sample = rows[is_held_out] * share[is_held_out, :, np.newaxis]
        sample = sample.reshape(-1, one.n_cols)
        if len(sample):
            first = self._n_sampled[one.name]
            self._array(f"{one.name}.in_sample")[first : first + len(sample)] = sample
            # Slots i, i + n, ... of a token take the same row.
            routes = experts[is_held_out].reshape(-1, one.n_used, n_rows).transpose(0, 2, 1)
            target = self._array(f"{one.name}.in_experts")
            target[first : first + len(sample)] = routes.reshape(-1, one.n_used)
            self._n_sampled[one.name] += len(sample)

    def tally(self) -> Tally:
        return Tally(
            {name: counts.tolist() for name, counts in self._counts.items()},
            {name: totals.tolist() for name, totals in self._totals.items()},
            {name: beyond.tolist() for name, beyond in self._beyond.items()},
            dict(self._n_sampled),
        )

    def fits(self, tally: Tally, size_bytes: int) -> bool:
        """Whether `tally` and a file of `size_bytes` are of these inputs."""
        shapes = {name: (len(rows), len(rows[0])) for name, rows in tally.totals.items() if rows}
        return (
            size_bytes == len(self._mapped)
            and shapes == {name: totals.shape for name, totals in self._totals.items()}
            and {name: len(n) for name, n in tally.counts.items()}
            == {name: len(n) for name, n in self._counts.items()}
            and tally.n_sampled.keys() == self._n_sampled.keys()
        )

    def restore(self, tally: Tally, copy: Path, is_stopped: Callable[[], bool]) -> None:
        """Go on from `tally` and a `copy` of the file that was made with it.

        Raises OSError, and CancelledError once it `is_stopped`: the sums are good for nothing then.
        """
        import numpy as np

        with copy.open("rb") as file:
            at = 0
            while part := file.read(_COPY_BYTES):
                if is_stopped():
                    raise CancelledError
                self._touch(len(part))
                self._mapped[at : at + len(part)] = part
                at += len(part)
        for name in self._counts:
            self._counts[name] = np.array(tally.counts[name], np.int64)
            self._totals[name] = np.array(tally.totals[name])
            self._beyond[name] = np.array(tally.beyond[name])
        self._n_sampled = dict(tally.n_sampled)

    def finish(self) -> None:
        """Write what is not in the file yet: counts, sums, sums of squares."""
        for one in self._inputs:
            squares = self._diagonal(one) + self._beyond[one.name]
            for tensor in one.tensors:
                self._array(f"{tensor}.in_sum2")[:] = squares
                self._array(f"{tensor}.in_sum")[:] = self._totals[one.name]
                self._array(f"{tensor}.counts")[:, 0] = self._counts[one.name]

    def _shares(self, one: Input, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What each of `rows` [..., n_cols] counts, [...]: more than 0. Raises CorruptFile."""
        import numpy as np

        energy = energies(rows, self._n_threads)
        if not np.isfinite(energy).all():
            raise CorruptFile(
                f"What flows into {one.name} is infinite, or not a number.",
                hint="The model is damaged or was not converted well: get it again, "
                "or keep it in F32.",
            )
        return shares(energy)

    def _add_rows(
        self, one: Input, matrix: int, rows: NDArray[np.float32], counts: NDArray[np.float32]
    ) -> None:
        """Add rows [n, n_cols] to the sums of one matrix; `counts` [n]: 0 leaves a row out."""
        import numpy as np

        from engine._native import add_outer_products

        self._counts[one.name][matrix] += np.count_nonzero(counts)
        for i in np.flatnonzero((counts > 0) & (counts < 1)):
            rest = 1 - np.square(counts[i], dtype=np.float64)
            self._beyond[one.name][matrix] += rest * np.square(rows[i], dtype=np.float64)
        self._touch(4 * one.n_cols * one.n_block)  # before there is a view: it may raise
        outer = self._array(f"{one.name}.in_outer")[matrix]
        totals = self._totals[one.name][matrix]
        add_outer_products(np.ascontiguousarray(rows), counts, outer, totals, self._n_threads)

    def _touch(self, n_bytes: int) -> None:
        """Make room for so much more of the file in memory."""
        if self._n_touched + n_bytes > FORGET_BYTES:
            self._n_touched = 0
            forget(self._mapped)
            if self.is_last_pass:
                self._writing.begin()
        self._n_touched += n_bytes

    def _diagonal(self, one: Input) -> NDArray[np.float32]:
        """The sums of squares, float32 [n_matrices, n_cols]."""
        import numpy as np

        self._touch(4 * one.n_matrices * one.n_cols * one.n_block)
        outer = self._array(f"{one.name}.in_outer")
        columns = np.arange(one.n_cols)
        diagonal: NDArray[np.float32] = outer[:, columns, columns % one.n_block]
        return diagonal

    def _array(self, name: str) -> NDArray[np.float32]:
        """A tensor of the file, float32 with the outer dimensions first, to be written to."""
        import numpy as np

        info, at = self._places[name]
        return np.frombuffer(self._mapped, np.float32, info.n_elements, at).reshape(
            info.shape[::-1]
        )


class _Writing:
    """Lets the system write a file while more is made: less is left to wait for at the end."""

    def __init__(self, path: Path, file: int) -> None:
        self._path = path
        self._file = file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._last: Future[None] | None = None

    def begin(self) -> None:
        """Write what there is, unless that is being done; raises as `end` what failed before.

        Not on Windows, where that does not reach what is written through a map.
        """
        if os.name == "nt":
            return
        if self._last is None or self._last.done():
            self.end()
            self._last = self._thread.submit(os.fsync, self._file)

    def end(self) -> None:
        """Wait for it. Raises StorageError if it failed: this descriptor is told that only once."""
        last, self._last = self._last, None
        if last:
            with as_write_error(self._path):
                last.result()

    def close(self) -> None:
        """Do not wait: a cancel is to be quick."""
        self._thread.shutdown(wait=False)


@contextmanager
def new_statistics(
    path: Path,
    metadata: Mapping[str, Value],
    inputs: Sequence[Input],
    n_held_out: int,
    n_threads: int,
    *,
    overwrite: bool,
) -> Generator[Sums, None, None]:
    """Make the file of the statistics of `inputs`; it appears whole when the block ends well.

    Raises what `new_file` raises.
    """
    tensors = [info for one in inputs for info in one.layout(n_held_out)]
    header, alignment = encode_header(metadata, tensors)
    places, at = {}, len(header)
    for info in tensors:
        places[info.name] = info, at
        at += aligned(info.n_bytes, alignment)
    with new_file(path, size_bytes=at, overwrite=overwrite) as output:
        output.write(header)
        output.reserve(at - len(header))
        with (
            partial_of(path).open("r+b") as file,
            closing(_Writing(path, file.fileno())) as writing,
            mmap.mmap(file.fileno(), 0) as mapped,
        ):
            sums = Sums(mapped, inputs, places, n_threads, writing)
            yield sums
            sums.finish()
            writing.end()
            mapped.flush()
