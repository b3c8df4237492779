"""The weights of a loaded model, written over for a while: what a rounded tensor does to its words.

Data are written by the backend, wherever they lie; the file stays as it is.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from engine.llama.context import Context
from engine.llama.library import library
from engine.llama.model import Model
from engine.llama.observe import N_SOURCES, Tensor, plain_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_CTX = 32


class LoadedWeights:
    """Where the weights of `model` lie. It must have been loaded `is_copied`: files are not mapped.

    A tied embedding may lie in memory twice.
    """

    def __init__(self, model: Model) -> None:
        """Lets the model read two tokens to find them; raises OutOfMemory."""
        finder = _Finder()
        context = Context(model, N_CTX, observer=finder)
        try:
            context.decode([0, 0])
        finally:
            context.close()
        self._addresses = finder.addresses
        self._set = library().function(
            "ggml_backend_tensor_set",
            None,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_size_t,
        )

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._addresses

    def write(self, tensor: str, data: NDArray[np.uint8], offset: int) -> None:
        """Write contiguous `data`, in the type the tensor has, from its byte `offset` on."""
        for address in self._addresses[tensor].values():
            self._set(address, data.ctypes.data, offset, data.nbytes)


class _Finder:
    """An observer that wants nothing, and notes the weights that it is told of."""

    def __init__(self) -> None:
        self.addresses: dict[str, dict[int, int]] = {}  # name -> where the data lie -> the tensor
        self.callback = library().c.ggml_backend_sched_eval_callback(self._on_node)

    def raise_error(self) -> None:
        """Nothing can go wrong."""

    def _on_node(self, address: int, _is_asked: bool, _data: object) -> bool:
        node = Tensor.from_address(address)
        for i in range(N_SOURCES):
            if node.src[i]:
                source = node.src[i].contents
                name = plain_name(source.name)
                if name.endswith(".weight") and source.data:
                    of_name = self.addresses.setdefault(name, {})
                    of_name[source.data] = ctypes.addressof(source)
        return False
