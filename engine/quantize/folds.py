"""Which scales can move where, in each architecture: the folds after which the model is the same.

Source: the graphs in llama.cpp src/models/*.cpp, and `build_qkv`, `build_ffn`, `build_moe_ffn` in
src/llama-graph.cpp. Pure: knows names and shapes, touches no data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from engine.gguf_values import Array, TensorInfo, Value
from engine.quantize.fold import Columns, Fold, Span, is_vector
from engine.quantize.matrices import n_matrices


class Family(msgspec.Struct, frozen=True):
    """What differs between architectures; the rest is seen by which tensors a layer has.

    `ffn_norm` is the norm before the feed-forward network; a layer without it hands the network the
    attention's norm too. `keeps_v` is whether attention only mixes values and does not norm them,
    `is_up_linear` whether the network's up projection is only multiplied by its gate.
    """

    ffn_norm: str = "ffn_norm"
    keeps_v: bool = True
    is_up_linear: bool = True


_USUAL = Family()
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "smollm3", "minicpm", "granite", "granitemoe"), _USUAL),
    **dict.fromkeys(("qwen2", "qwen2moe", "qwen3", "qwen3moe", "olmo2", "olmoe"), _USUAL),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "phi2", "phi3", "starcoder2"), _USUAL),
    **dict.fromkeys(("chatglm", "glm4", "stablelm", "command-r", "cohere2"), _USUAL),
    **dict.fromkeys(("deepseek2", "minicpm3"), _USUAL),
    "gemma4": Family(keeps_v=False),  # values are normed, head by head
    "gpt-oss": Family("post_attention_norm", is_up_linear=False),  # it is clamped, and has 1 added
    **dict.fromkeys(("qwen35", "qwen35moe"), Family("post_attention_norm")),
}

# What reads the result of a norm.
_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_q_a", "attn_kv_a_mqa")
_LINEAR_ATTENTION = ("attn_gate", "ssm_beta", "ssm_alpha")
_FFN = ("ffn_gate", "ffn_up")
_EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps")
_BESIDE = ("ffn_gate_inp", "ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp")


def folds_of(metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]) -> tuple[Fold, ...]:
    """The folds of a model, layer by layer; none of an architecture that is not known here.

    Folds that would touch what is quantized already are left out: its bits are kept.
    """
    architecture = metadata.get("general.architecture")
    name = architecture.value if architecture else ""
    if name not in FAMILIES:
        return ()
    by_name = {tensor.name: tensor for tensor in tensors if tensor.n_elements}
    model = _Model(name, metadata, by_name)
    found = [*model.output(), *(fold for layer in model.layers() for fold in layer.folds())]
    return tuple(fold for fold in found if _is_possible(fold, by_name))


def _is_possible(fold: Fold, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether the sizes fit, which a file may say anything of, and nothing is quantized."""
    n_cols = fold.n_channels * fold.n_sharing
    return (
        fold.n_channels % fold.run == 0
        and not any(tensors[name].type.is_quantized for name in fold.tensors)
        and all(tensors[part.tensor].n_cols == n_cols for part in fold.columns)
        and all(
            0 <= span.start < span.stop <= _n_scaled(tensors[span.tensor])
            and span.channel + span.stop - span.start <= fold.n_channels
            for span in (*fold.divided, *fold.multiplied)
        )
    )


def _n_scaled(tensor: TensorInfo) -> int:
    return tensor.n_elements if is_vector(tensor) else tensor.n_rows


class _Model:
    def __init__(
        self, architecture: str, metadata: Mapping[str, Value], tensors: Mapping[str, TensorInfo]
    ) -> None:
        self.architecture = architecture
        self.metadata = metadata
        self.tensors = tensors

    def number(self, key: str, default: int, i_layer: int = 0) -> int:
        """A hyperparameter, of one layer where each has its own."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        value = default if found is None else found.value
        if isinstance(value, Array):
            value = value[i_layer] if i_layer < len(value) else default
        return value if isinstance(value, int) else default

    def output(self) -> Iterator[Fold]:
        """The last norm; layers that predict further tokens would read it too."""
        if "output.weight" in self.tensors and not any(".nextn." in name for name in self.tensors):
            yield from _Layer(self, "", 0, self.tensors).norm("output_norm", ("output",))

    def layers(self) -> Iterator[_Layer]:
        layers: dict[int, dict[str, TensorInfo]] = defaultdict(dict)
        for name, tensor in self.tensors.items():
            if match := re.fullmatch(r"blk\.(\d{1,4})\.(.+)", name):
                layers[int(match[1])][match[2]] = tensor
        n_layers = self.number("block_count", 0) - self.number("nextn_predict_layers", 0)
        for i in sorted(i for i in layers if i < n_layers):
            yield _Layer(self, f"blk.{i}.", i, layers[i])


class _Layer:
    """The tensors of a layer by the rest of their name, which begins with `prefix`."""

    def __init__(
        self, model: _Model, prefix: str, index: int, tensors: Mapping[str, TensorInfo]
    ) -> None:
        self.model = model
        self.prefix = prefix
        self.index = index
        self.tensors = tensors

    def folds(self) -> Iterator[Fold]:
        family = FAMILIES[self.model.architecture]
        readers = (*_ATTENTION, *_LINEAR_ATTENTION)
        has_own_norm = f"{family.ffn_norm}.weight" in self.tensors
        yield from self.norm("attn_norm", readers if has_own_norm else (*readers, *_FFN))
        yield from self.norm("attn_q_a_norm", ("attn_q_b",))
        yield from self.latent()
        if family.keeps_v:
            yield from self.values()
        yield from self.gated_norm()
        if "pre_ffw_norm_2.weight" in self.tensors:  # Gemma 4 norms for its experts once more
            yield from self.norm(family.ffn_norm, _FFN)
            yield from self.norm("pre_ffw_norm_2", _EXPERTS)
        else:
            yield from self.norm(family.ffn_norm, (*_FFN, *_EXPERTS, *_BESIDE))
        if family.is_up_linear:
            yield from self.up("")
            yield from self.up("_shexp")
            yield from self.experts()

    def norm(self, norm: str, readers: Iterable[str]) -> Iterator[Fold]:
        """A norm gives its scales to all that read it."""
        columns = self._columns(readers)
        weight = self._weight(norm)
        if weight and columns:
            spans = self._spans(norm, 0, weight.n_cols)
            yield Fold(f"{self.prefix}{norm}", weight.n_cols, columns, spans)

    def latent(self) -> Iterator[Fold]:
        """Compressed keys and values: unpacked, or met by queries that went through k_b."""
        norm = self._weight("attn_kv_a_norm")
        columns = self._columns(("attn_kv_b", "attn_v_b"))
        if not norm or not columns:
            return
        n = norm.n_cols
        keys = self._weight("attn_k_b")
        starts = range(0, keys.n_rows, n) if keys else ()
        multiplied = tuple(Span(f"{self.prefix}attn_k_b.weight", i, i + n) for i in starts)
        divided = self._spans("attn_kv_a_norm", 0, n)
        yield Fold(f"{self.prefix}attn_kv_a_norm", n, columns, divided, multiplied)

    def values(self) -> Iterator[Fold]:
        """Values are mixed over tokens, channel by channel; heads in a group mix the same ones."""
        out = self._weight("attn_output")
        n_heads = self.model.number("attention.head_count", 0, self.index)
        n_kv_heads = self.model.number("attention.head_count_kv", n_heads, self.index)
        if not out or not 1 <= n_kv_heads <= n_heads or out.n_cols % n_heads:
            return
        head_dim = out.n_cols // n_heads
        if self._weight("attn_kv_b") or self._weight("attn_v_b"):  # each head has its own
            n_kv_heads = n_heads
        n = n_kv_heads * head_dim
        if divided := tuple(self._value_spans(n, n_heads, head_dim)):
            columns, n_sharing = self._columns(("attn_output",)), out.n_cols // n
            name = f"{self.prefix}attn_v"
            yield Fold(name, n, columns, divided, n_sharing=n_sharing, run=head_dim)

    def _value_spans(self, n: int, n_heads: int, head_dim: int) -> Iterator[Span]:
        """Where the `n` channels of values come from."""
        if fused := self._weight("attn_qkv"):
            if fused.n_rows == n_heads * head_dim + 2 * n:
                yield from self._spans("attn_qkv", fused.n_rows - n, fused.n_rows)
                yield from self._spans("attn_v", 0, n)  # the bias may be apart
        elif fused := self._weight("attn_kv_b"):
            n_rows = fused.n_rows // n_heads  # of a head, its keys first
            for i in range(n_heads):
                stop = (i + 1) * n_rows
                yield from self._spans("attn_kv_b", stop - head_dim, stop, i * head_dim)
        else:
            for name in ("attn_v", "attn_v_b"):
                if (weight := self._weight(name)) and weight.n_rows == n:
                    yield from self._spans(name, 0, n)

    def gated_norm(self) -> Iterator[Fold]:
        """The norm after linear attention has the same weights for each head."""
        norm, out = self._weight("ssm_norm"), self._weight("ssm_out")
        if norm and out:
            n = norm.n_cols
            spans, columns = self._spans("ssm_norm", 0, n), self._columns(("ssm_out",))
            n_sharing = out.n_cols // n
            yield Fold(f"{self.prefix}ssm_norm", n, columns, spans, n_sharing=n_sharing, run=n)

    def up(self, suffix: str) -> Iterator[Fold]:
        """The up projection, if a gate beside or before it (in the same tensor) multiplies it."""
        up, down = self._weight(f"ffn_up{suffix}"), self._weight(f"ffn_down{suffix}")
        if not up or not down:
            return
        n = down.n_cols
        if up.n_rows == (n if self._weight(f"ffn_gate{suffix}") else 2 * n):
            spans = self._spans(f"ffn_up{suffix}", up.n_rows - n, up.n_rows)
            columns = self._columns((f"ffn_down{suffix}",))
            yield Fold(f"{self.prefix}ffn_up{suffix}", n, columns, spans)

    def experts(self) -> Iterator[Fold]:
        """The same of each expert."""
        down, gate = self._weight("ffn_down_exps"), self._weight("ffn_gate_exps")
        name = "ffn_up_exps" if gate else "ffn_gate_up_exps"
        up = self._weight(name)
        if not up or not down:
            return
        n = down.n_cols
        size = n if gate else 2 * n
        for i in range(n_matrices(down) if up.n_rows == size * n_matrices(down) else 0):
            yield Fold(
                f"{self.prefix}{name}.{i}",
                n,
                (Columns(f"{self.prefix}ffn_down_exps.weight", i),),
                self._spans(name, (i + 1) * size - n, (i + 1) * size),
            )

    def _weight(self, name: str) -> TensorInfo | None:
        return self.tensors.get(f"{name}.weight")

    def _columns(self, names: Iterable[str]) -> tuple[Columns, ...]:
        full = (f"{name}.weight" for name in names)
        return tuple(Columns(f"{self.prefix}{name}") for name in full if name in self.tensors)

    def _spans(self, name: str, start: int, stop: int, channel: int = 0) -> tuple[Span, ...]:
        """Of a matrix or a norm and of its bias, what is there."""
        full = (f"{name}.weight", f"{name}.bias")
        return tuple(
            Span(f"{self.prefix}{part}", start, stop, channel)
            for part in full
            if part in self.tensors
        )
