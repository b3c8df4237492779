"""What flows into the weight matrices while a model reads: llama.cpp's evaluation callback.

The scheduler asks before each operation of the graph whether its result is wanted, and shows it
when it is computed (`ggml_backend_sched_eval_callback` of ggml-backend.h, as llama-imatrix uses
it). Data that lie elsewhere are copied by the backend. Knows nothing of statistics.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.ggml_types import GgmlType
from engine.llama.library import library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_DIMS = 4
N_SOURCES = 10
_PRODUCTS = (b"MUL_MAT", b"MUL_MAT_ID")


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h, as in the llama.cpp that llama-cpp-python 0.3.36 holds."""


Tensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * N_DIMS),
    ("nb", ctypes.c_size_t * N_DIMS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * N_SOURCES),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
)


class Product:
    """A multiplication of an input with the matrix, or the matrices, of a weight tensor.

    `n_cols` is the length of the input's rows. `input_id` is the same for all products of one input
    within one evaluation. A product `is_routed` where each token is multiplied with `n_slots` of
    the `n_matrices` (experts); else with all of them. `n_rows` are the input's.
    """

    def __init__(self, node: Tensor, *, is_routed: bool) -> None:
        weight, source = node.src[0].contents, node.src[1].contents
        self.weight = plain_name(weight.name)
        self.is_routed = is_routed
        self.n_cols = int(weight.ne[0])
        self.n_matrices = int(weight.ne[2] * weight.ne[3])
        self.n_rows = int(source.ne[1] * source.ne[2] * source.ne[3])
        self.n_slots = int(node.src[2].contents.ne[0]) if is_routed else 0
        ids = ctypes.addressof(node.src[2].contents) if is_routed else 0
        self.input_id = (ctypes.addressof(source), ids)
        self._node = node

    def rows(self) -> NDArray[np.float32]:
        """The input, float32 [n_matrices, n, n_cols]; [n_tokens, n, n_cols] if it is routed.

        For a routed one n is 1, or the number of experts that a token goes to. It is llama.cpp's
        own memory if that can be read: copy what is to outlive the evaluation.
        """
        weight, source = self._node.src[0].contents, self._node.src[1].contents
        values = _values(self._node.src[1], "<f4")  # [ne3, ne2, ne1, n_cols]
        if self.is_routed:
            return values.reshape(-1, source.ne[1], self.n_cols)
        # Matrix (i3 % ne3, i2 % ne2) of the weight meets the input's (i3, i2).
        m3, m2 = int(weight.ne[3]), int(weight.ne[2])
        apart = values.reshape(source.ne[3] // m3, m3, source.ne[2] // m2, m2, -1, self.n_cols)
        return apart.transpose(1, 3, 0, 2, 4, 5).reshape(self.n_matrices, -1, self.n_cols)

    def experts(self) -> NDArray[np.int32]:
        """Which matrices each token of a routed input goes to, int32 [n_tokens, n_used]."""
        ids = self._node.src[2]
        return _values(ids, "<i4").reshape(-1, ids.contents.ne[0])


class Observer:
    """Shows the products of weight tensors to two functions while a context decodes.

    `wants` is asked before a product is computed, and `see` gets it when it is, and tells whether
    the rest is to be computed, too. What they raise ends the evaluation; `raise_error` raises it
    again outside of llama.cpp.
    """

    def __init__(self, wants: Callable[[Product], bool], see: Callable[[Product], bool]) -> None:
        self._wants = wants
        self._see = see
        self._error: BaseException | None = None
        self._op_name = library().function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
        self.callback = library().c.ggml_backend_sched_eval_callback(self._on_node)

    def raise_error(self) -> None:
        """Raise what `wants` or `see` raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _on_node(self, address: int, is_asked: bool, _data: object) -> bool:
        if self._error is not None:
            return True
        node = Tensor.from_address(address)
        op = self._op_name(node.op)
        if op not in _PRODUCTS or node.src[1].contents.type != GgmlType.F32:
            return False
        try:
            product = Product(node, is_routed=op == b"MUL_MAT_ID")
            if is_asked:
                return self._wants(product)
            return self._see(product)
        except BaseException as error:  # noqa: BLE001 - ctypes would print it and go on
            self._error = error
            return False


def _values(pointer: Any, dtype: str) -> NDArray[Any]:
    """A tensor's numbers, of 4 bytes each, [ne3, ne2, ne1, ne0]; it may be a view."""
    import numpy as np

    tensor = pointer.contents
    n_bytes = library().function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
    is_host = library().function("ggml_backend_buffer_is_host", ctypes.c_bool, ctypes.c_void_p)
    get = library().function(
        "ggml_backend_tensor_get",
        None,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
    )
    address = ctypes.addressof(tensor)
    size = n_bytes(address)
    if tensor.buffer and is_host(tensor.buffer):
        data = np.frombuffer((ctypes.c_uint8 * size).from_address(tensor.data), np.uint8)
        data.flags.writeable = False
    else:
        data = np.empty(size, np.uint8)
        get(address, data.ctypes.data, 0, size)
    shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
    return np.ndarray(shape, dtype, data, strides=strides)


def plain_name(name: bytes) -> str:
    """The name of a weight that another backend has a copy of: `CUDA0#blk.0.attn_k.weight#0`."""
    parts = name.split(b"#")
    return (parts[1] if len(parts) > 1 else name).decode("utf-8", "replace")
