"""The sizes of a model that decide what it needs besides its weights, from its metadata."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.errors import CorruptFile
from engine.gguf_values import Array, Value

_N_UBATCH = 512  # llama.cpp's default: tokens computed at once
_KV_BYTES = 2  # F16
MAX_LAYERS = 4096
CELLS = 256  # the KV cache grows in steps of this many tokens


class Shape(msgspec.Struct, frozen=True, gc=False):
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
    n_experts: int = 0
    n_experts_used: int = 0

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

        if number("block_count") > MAX_LAYERS:
            raise CorruptFile(
                "This file claims more layers than any model has.",
                hint="Get the file again from where it came from.",
            )
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
            n_experts=number("expert_count"),
            n_experts_used=number("expert_used_count"),
        )

    def kv_cache_bytes(self, n_ctx: int) -> int:
        cells = -(-n_ctx // CELLS) * CELLS
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
