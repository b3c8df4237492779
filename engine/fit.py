"""What fits in this computer's memory: predictions, the context length, the recipe to take.

The sums are for dense models with flash attention, as llama.cpp allocates them (measured within
1 MiB on the CPU backend); sliding windows and recurrent layers need less, so for them they are an
upper bound. Pure: knows the header of a model, touches neither its data nor a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from engine.errors import CorruptFile
from engine.ggml_types import GgmlType
from engine.gguf_values import Array, Value
from engine.hardware import Computer, Cpu, Device
from engine.quantize.recipe import RECIPES
from engine.quantize.write import Plan, plan

if TYPE_CHECKING:
    from engine.source import ModelSource

MIB = 2**20
USEFUL_N_CTX = 4096  # what a recommended model must have room for: a long question and its answer
LONGEST_DEFAULT_N_CTX = 16_384  # a longer one only when asked: the KV cache is paid for at once
SHORTEST_N_CTX = 512

_N_UBATCH = 512  # llama.cpp's default: tokens computed at once
_KV_BYTES = 2  # F16
_CELLS = 256  # the KV cache grows in steps of this many tokens
_CPU_RUNTIME_BYTES = 128 * MIB  # Python, the libraries, the vocabulary
_GPU_RUNTIME_BYTES = 600 * MIB  # a CUDA or Metal context and its pools: 300 to 600 MiB
_NARROWEST_FOR_GPU = "Q4_K_M"  # below this, quality is worth more than the GPU's speed

# Types that ggml's CPU kernels rearrange into a second copy when they load a model, from
# ggml_repack_get_optimal_repack_type and ggml/src/ggml-cpu/amx.
_T = GgmlType
_REPACKED = {
    "AVX2": (_T.Q4_0, _T.Q4_K, _T.IQ4_NL, _T.MXFP4),
    "AVX512": (_T.Q2_K,),
    "AMX-INT8": (_T.Q4_0, _T.Q4_1, _T.Q8_0, _T.Q4_K, _T.Q5_K, _T.Q6_K, _T.IQ4_XS),
    "DOTPROD": (_T.Q4_0, _T.Q4_K, _T.Q5_K, _T.Q6_K, _T.Q8_0, _T.IQ4_NL, _T.MXFP4),
}


class Shape(msgspec.Struct, frozen=True):
    """The sizes of a model that decide what it needs besides its weights."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim_k: int
    head_dim_v: int
    n_vocab: int
    n_ctx_train: int

    @staticmethod
    def from_metadata(metadata: Mapping[str, Value]) -> Shape:
        """Read the sizes from GGUF metadata; what differs by layer counts at its largest.

        Raises CorruptFile for a size that is no size: the file may come from anybody.
        """
        found = metadata.get("general.architecture")
        architecture = found.value if found else ""

        def number(key: str, default: int = 0) -> int:
            value = metadata.get(f"{architecture}.{key}")
            if value is None:
                return default
            sizes = value.value if isinstance(value.value, Array) else (value.value,)
            if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
                raise CorruptFile(
                    f"This file gives an impossible {key.replace('_', ' ').replace('.', ' ')}.",
                    hint="Get the file again from where it came from.",
                    details=f"{architecture}.{key} is {ascii(value.value)[:80]}",
                )
            return max(sizes, default=default)

        n_embd, n_heads = number("embedding_length"), number("attention.head_count")
        head_dim = n_embd // n_heads if n_heads else 0
        tokens = metadata.get("tokenizer.ggml.tokens")
        return Shape(
            n_layers=number("block_count"),
            n_embd=n_embd,
            n_ff=number("feed_forward_length"),
            n_heads=n_heads,
            n_kv_heads=number("attention.head_count_kv", n_heads),
            head_dim_k=number("attention.key_length", head_dim),
            head_dim_v=number("attention.value_length", head_dim),
            n_vocab=(
                len(tokens.value)
                if tokens and isinstance(tokens.value, Array)
                else number("vocab_size")
            ),
            n_ctx_train=number("context_length"),
        )

    def kv_cache_bytes(self, n_ctx: int) -> int:
        cells = -(-n_ctx // _CELLS) * _CELLS
        return (
            cells
            * self.n_layers
            * self.n_kv_heads
            * _KV_BYTES
            * (self.head_dim_k + self.head_dim_v)
        )

    def compute_bytes(self, n_ctx: int) -> int:
        """The buffers for intermediate results and for the logits of one token, as a chat needs."""
        n_tokens = min(_N_UBATCH, n_ctx)
        in_a_layer = 4 * n_tokens * (3 * self.n_ff + 4 * self.n_embd) + 2 * n_tokens * n_ctx
        at_the_end = 4 * self.n_vocab + 8 * n_tokens * self.n_embd
        return max(in_a_layer, at_the_end) + 4 * self.n_vocab


class Memory(msgspec.Struct, frozen=True):
    """What a running model takes, in bytes.

    `repacked_bytes` is the second copy that the CPU's kernels make of some tensors. It is no part
    of the total: the file's pages under such a tensor are not read again, and the system takes
    them back at no cost when memory is short.
    """

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    runtime_bytes: int
    repacked_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What must be there."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.runtime_bytes

    @property
    def most_bytes(self) -> int:
        """What it may be seen to take while there is plenty: the file's pages and their copies."""
        return self.total_bytes + self.repacked_bytes


class Choice(msgspec.Struct, frozen=True):
    """One recipe for one model here: `size_bytes` is the exact size of the file it gives."""

    recipe: str
    size_bytes: int
    bits_per_weight: float
    memory: Memory
    fits: bool


class Recommendation(msgspec.Struct, frozen=True):
    """The recipe to take (None: nothing fits), why, all recipes from the widest, the context."""

    recipe: str | None
    reason: str
    choices: tuple[Choice, ...]
    n_ctx: int


class _Place(msgspec.Struct, frozen=True):
    """Where a whole model could live."""

    name: str
    usable_bytes: int
    runtime_bytes: int


def predict(
    shape: Shape,
    weights_bytes: int,
    n_ctx: int,
    *,
    repacked_bytes: int = 0,
    runtime_bytes: int = _CPU_RUNTIME_BYTES,
) -> Memory:
    """Predict what a model with `weights_bytes` of tensors takes with a context of `n_ctx`."""
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=shape.kv_cache_bytes(n_ctx),
        compute_bytes=shape.compute_bytes(n_ctx),
        runtime_bytes=runtime_bytes,
        repacked_bytes=repacked_bytes,
    )


def usable_bytes(available_bytes: int) -> int:
    """What a model may take of the free memory: all but 1 GiB or a tenth, whichever is more.

    Of very little memory no more than a quarter is held back.
    """
    return available_bytes - max(available_bytes // 10, min(2**30, available_bytes // 4))


def choose_n_ctx(
    shape: Shape, weights_bytes: int, available_bytes: int, limit: int = LONGEST_DEFAULT_N_CTX
) -> int:
    """Choose the longest context that fits, up to `limit` and what the model was trained for.

    A multiple of 256. When none fits it is the shortest one that is of use, not a promise.
    """
    longest = min(limit, shape.n_ctx_train or limit)
    if longest <= SHORTEST_N_CTX:
        return longest
    usable = usable_bytes(available_bytes)
    too_long = longest // _CELLS + 1
    fitting = SHORTEST_N_CTX // _CELLS
    while too_long - fitting > 1:  # need grows with the context: bisect
        middle = (fitting + too_long) // 2
        if predict(shape, weights_bytes, middle * _CELLS).total_bytes <= usable:
            fitting = middle
        else:
            too_long = middle
    return fitting * _CELLS


def repacked_bytes(of: Plan, cpu: Cpu) -> int:
    """The bytes of the tensors that ggml keeps a second copy of on `cpu`."""
    types = {t for name in cpu.instruction_sets for t in _REPACKED.get(name, ())}
    return sum(
        tensor.n_bytes
        for tensor in of.tensors
        if tensor.type in types
        and len(tensor.shape) > 1
        and tensor.shape[1] % 8 == 0
        and not tensor.name.endswith("token_embd.weight")  # rows are looked up, not multiplied
    )


def recommend(source: ModelSource, computer: Computer) -> Recommendation:
    """Choose the widest recipe whose weights, KV cache and buffers fit, on the GPU if it can be.

    Raises UnsupportedTensor when `source` is quantized already.
    """
    shape = Shape.from_metadata(source.metadata)
    n_ctx = min(USEFUL_N_CTX, shape.n_ctx_train or USEFUL_N_CTX)
    plans = {name: plan(source, recipe) for name, recipe in RECIPES.items()}
    main_memory = _Place("", usable_bytes(computer.memory_available_bytes), _CPU_RUNTIME_BYTES)
    gpus = [_gpu_place(gpu) for gpu in computer.gpus]

    def memory_in(place: _Place, name: str) -> Memory:
        weights_bytes = sum(tensor.n_bytes for tensor in plans[name].tensors)
        copies = repacked_bytes(plans[name], computer.cpu) if place is main_memory else 0
        return predict(
            shape,
            weights_bytes,
            n_ctx,
            repacked_bytes=copies,
            runtime_bytes=place.runtime_bytes,
        )

    def widest_in(place: _Place) -> str | None:
        fitting = (n for n in plans if memory_in(place, n).total_bytes <= place.usable_bytes)
        return next(fitting, None)

    found = [(place, name) for place in (*gpus, main_memory) if (name := widest_in(place))]
    order = list(RECIPES)
    # The first is the fastest; a GPU that only holds a narrow recipe gives way to main memory.
    good = [f for f in found if order.index(f[1]) <= order.index(_NARROWEST_FOR_GPU)]
    place, recipe = next(iter(good or sorted(found, key=lambda f: order.index(f[1]))), (None, None))
    home = place or main_memory
    choices = tuple(
        Choice(
            recipe=name,
            size_bytes=p.size_bytes,
            bits_per_weight=p.bits_per_weight,
            memory=memory_in(home, name),
            fits=any(
                memory_in(x, name).total_bytes <= x.usable_bytes for x in (*gpus, main_memory)
            ),
        )
        for name, p in plans.items()
    )
    if recipe is None:
        return Recommendation(None, _reason_against(choices[-1], home, n_ctx), choices, n_ctx)
    chosen = choices[order.index(recipe)]
    return Recommendation(recipe, _reason_for(chosen, home, n_ctx), choices, n_ctx)


def _gpu_place(gpu: Device) -> _Place:
    # The desktop draws with the same memory: leave it a twentieth.
    usable = gpu.memory_free_bytes - gpu.memory_free_bytes // 20
    return _Place(gpu.description or gpu.name, usable, _GPU_RUNTIME_BYTES)


def _reason_for(choice: Choice, place: _Place, n_ctx: int) -> str:
    where = f"on the {place.name}" if place.name else "in this computer's memory"
    return (
        f"{choice.recipe} is the widest that fits {where}: with {n_ctx:,} tokens of context it "
        f"needs {_size(choice.memory.total_bytes)} of the {_size(place.usable_bytes)} it may use."
    )


def _reason_against(narrowest: Choice, place: _Place, n_ctx: int) -> str:
    return (
        f"Nothing fits: even {narrowest.recipe} needs {_size(narrowest.memory.total_bytes)} with "
        f"{n_ctx:,} tokens of context, and {_size(place.usable_bytes)} may be used here."
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
