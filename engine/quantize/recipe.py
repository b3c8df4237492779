"""The stock recipes: which quantization type each tensor gets.

The same types as `llama-quantize` gives, from llama.cpp's src/llama-quant.cpp
(`tensor_allows_quantization`, `llama_tensor_get_type_impl`, `tensor_type_fallback`), for the
recipes that need no importance matrix. Pure: knows shapes and metadata, touches no data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto

import msgspec

from engine.errors import UnsupportedTensor
from engine.ggml_types import FileType, GgmlType
from engine.gguf_values import TensorInfo, Value


class Mix(msgspec.Struct, frozen=True):
    """The types of one role through the layers: the `first` few, the `important` ones, the rest."""

    rest: GgmlType
    important: GgmlType | None = None
    first: GgmlType | None = None

    def pick(self, i_layer: int, n_layers: int, n_first: int) -> GgmlType:
        if self.first is not None and i_layer < n_first:
            return self.first
        if self.important is not None and _is_important(i_layer, n_layers):
            return self.important
        return self.rest


class Recipe(msgspec.Struct, frozen=True):
    """A named choice of types; a role that is None gets `base`."""

    name: str
    file_type: FileType
    base: GgmlType
    attention_v: Mix | None = None
    attention_v_shared: Mix | None = None  # when 4 or more heads share one K and V
    attention_output: GgmlType | None = None
    attention_output_of_8_experts: GgmlType | None = None
    ffn_down: Mix | None = None
    ffn_down_of_falcon: Mix | None = None


_T = GgmlType
# From the widest to the narrowest.
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("Q8_0", FileType.Q8_0, _T.Q8_0),
        Recipe("Q6_K", FileType.Q6_K, _T.Q6_K),
        Recipe(
            "Q5_K_M",
            FileType.Q5_K_M,
            _T.Q5_K,
            attention_v=Mix(_T.Q5_K, important=_T.Q6_K),
            ffn_down=Mix(_T.Q5_K, important=_T.Q6_K),
        ),
        Recipe(
            "Q4_K_M",
            FileType.Q4_K_M,
            _T.Q4_K,
            attention_v=Mix(_T.Q4_K, important=_T.Q6_K),
            attention_output_of_8_experts=_T.Q5_K,
            ffn_down=Mix(_T.Q4_K, important=_T.Q6_K),
            ffn_down_of_falcon=Mix(_T.Q4_K, important=_T.Q5_K, first=_T.Q6_K),
        ),
        Recipe(
            "Q3_K_M",
            FileType.Q3_K_M,
            _T.Q3_K,
            attention_v=Mix(_T.Q4_K, first=_T.Q5_K),
            attention_output=_T.Q4_K,
            attention_output_of_8_experts=_T.Q5_K,
            ffn_down=Mix(_T.Q4_K, first=_T.Q5_K),
            ffn_down_of_falcon=Mix(_T.Q3_K, important=_T.Q4_K, first=_T.Q5_K),
        ),
        Recipe(
            "Q2_K",
            FileType.Q2_K,
            _T.Q2_K,
            attention_v=Mix(_T.Q3_K),
            attention_v_shared=Mix(_T.Q4_K),
            attention_output=_T.Q3_K,
            attention_output_of_8_experts=_T.Q5_K,
            ffn_down=Mix(_T.Q3_K),
        ),
    )
}

# A row that is no multiple of 256 holds no k-quant: the nearest type with blocks of 32.
_SMALL_BLOCKS = {
    _T.Q2_K: _T.Q4_0,
    _T.Q3_K: _T.Q4_0,
    _T.Q4_K: _T.Q5_0,
    _T.Q5_K: _T.Q5_1,
    _T.Q6_K: _T.Q8_0,
    _T.IQ4_XS: _T.IQ4_NL,
}

# Layer counts at which llama.cpp takes a model for a "70B", whose V is small and gets more bits.
_N_LAYERS_OF_70B = {
    "llama": 80,
    "llama-embed": 80,
    "qwen2": 80,
    "deci": 80,
    "olmo": 80,
    "jais2": 68,
}

# Small or delicate matrices that llama.cpp never quantizes: a name that holds one of these.
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    *(f"time_mix_{name}.weight" for name in ("first", "w0", "w1", "w2", "v0", "v1", "v2")),
    *(f"time_mix_{name}.weight" for name in ("a0", "a1", "a2", "g1", "g2")),
    *(f"time_mix_{name}.weight" for name in ("decay_w1", "decay_w2", "lerp_fused")),
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
_KEPT_EXACT = ("position_embd.weight", "token_types.weight")
_KEPT_IN_GLM5_NEXT = (
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
)
_Q8_IN_GLM5_NEXT = ("attn_q_a", "attn_q_b", "nextn.eh_proj")


class _Role(Enum):
    OUTPUT = auto()
    TOKEN_EMBD = auto()
    ATTENTION_V = auto()  # also the fused ones that contain V
    ATTENTION_K = auto()
    ATTENTION_OUTPUT = auto()
    FFN_DOWN = auto()
    OTHER = auto()


_ROLE_OF_NAME = {
    "output.weight": _Role.OUTPUT,
    "token_embd.weight": _Role.TOKEN_EMBD,
    "per_layer_token_embd.weight": _Role.TOKEN_EMBD,
}
# The first of these that a name holds decides.
_ROLE_OF_PART = {
    "attn_qkv.weight": _Role.ATTENTION_V,
    "attn_kv_b.weight": _Role.ATTENTION_V,
    "attn_v.weight": _Role.ATTENTION_V,
    "attn_k.weight": _Role.ATTENTION_K,
    "attn_q.weight": _Role.OTHER,
    "attn_output.weight": _Role.ATTENTION_OUTPUT,
    "ffn_up": _Role.OTHER,
    "ffn_gate": _Role.OTHER,
    "ffn_down": _Role.FFN_DOWN,
}


class _Model(msgspec.Struct, frozen=True):
    """What the rules ask of a model."""

    architecture: str
    n_layers: int
    n_experts: int
    n_gqa: int
    n_attention_v: int
    is_tied: bool
    is_70b: bool

    @staticmethod
    def describe(tensors: Sequence[TensorInfo], metadata: Mapping[str, Value]) -> _Model:
        architecture = str(_number_or_text(metadata, "general.architecture", ""))

        def number(key: str, default: int) -> int:
            return int(_number_or_text(metadata, f"{architecture}.{key}", default))

        n_layers = number("block_count", 0)
        n_heads = number("attention.head_count", 0)
        n_kv_heads = number("attention.head_count_kv", n_heads)
        n_layers_used = n_layers - number("nextn_predict_layers", 0)
        roles = [_role(tensor.name) for tensor in tensors]
        is_llama = architecture in ("llama", "llama-embed")
        return _Model(
            architecture,
            n_layers,
            n_experts=number("expert_count", 0),
            n_gqa=n_heads // n_kv_heads if n_kv_heads else 0,
            n_attention_v=roles.count(_Role.ATTENTION_V),
            is_tied=_Role.OUTPUT not in roles,
            is_70b=_N_LAYERS_OF_70B.get(architecture) == n_layers_used
            and not (is_llama and n_heads == n_kv_heads),
        )


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, in upper or lower case."""
    if name.upper() not in RECIPES:
        raise UnsupportedTensor(
            f"There is no recipe named {name}.", hint=f"Choose one of {', '.join(RECIPES)}."
        )
    return RECIPES[name.upper()]


def in_file_order(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Sort tensors as `llama-quantize` writes them: by layer, those of no layer first, by name."""
    return sorted(tensors, key=lambda t: (_layer(t.name, missing=-1), t.name.encode()))


def tensor_types(
    recipe: Recipe, tensors: Sequence[TensorInfo], metadata: Mapping[str, Value]
) -> dict[str, GgmlType]:
    """Return the type of every tensor after `recipe`, in the order of the file to be written."""
    model = _Model.describe(tensors, metadata)
    n_seen = {_Role.ATTENTION_V: 0, _Role.FFN_DOWN: 0}
    types = {}
    for tensor in in_file_order(tensors):
        if not is_quantizable(tensor, model.architecture):
            types[tensor.name] = tensor.type
            continue
        role = _role(tensor.name)
        wanted = _type_for(recipe, model, tensor, role, n_seen)
        types[tensor.name] = _type_that_fits(wanted, tensor.n_cols)
        # llama.cpp counts what it quantizes, which need not be the number of the layer.
        if role in n_seen:
            n_seen[role] += 1
    return types


def is_quantizable(tensor: TensorInfo, architecture: str) -> bool:
    """Tell whether llama.cpp quantizes `tensor` at all: a matrix of weights, not a delicate one."""
    n_dims = max((i + 1 for i, size in enumerate(tensor.shape) if size > 1), default=1)
    kept = _KEPT + _KEPT_IN_GLM5_NEXT if architecture == "glm5-next" else _KEPT
    return (
        n_dims >= 2
        and tensor.name.endswith("weight")
        and tensor.name not in _KEPT_EXACT
        and not any(part in tensor.name for part in kept)
    )


def _type_for(
    recipe: Recipe, model: _Model, tensor: TensorInfo, role: _Role, n_seen: dict[_Role, int]
) -> GgmlType:
    """The type that the rules want, whether or not the rows are long enough for it."""
    if model.architecture == "glm5-next" and any(p in tensor.name for p in _Q8_IN_GLM5_NEXT):
        return GgmlType.Q8_0
    if role is _Role.OUTPUT or (role is _Role.TOKEN_EMBD and model.is_tied):
        if model.architecture == "falcon" or tensor.n_cols % recipe.base.block_size:
            return GgmlType.Q8_0
        return GgmlType.Q8_0 if recipe.base is GgmlType.Q8_0 else GgmlType.Q6_K
    if role is _Role.ATTENTION_V:
        return _type_of_attention_v(recipe, model, n_seen[role])
    if role is _Role.ATTENTION_K and model.n_experts == 8:
        return GgmlType.Q8_0
    if role is _Role.FFN_DOWN:
        return _type_of_ffn_down(recipe, model, tensor.name, n_seen[role])
    if role is _Role.ATTENTION_OUTPUT and model.architecture != "falcon":
        if model.n_experts == 8:
            return recipe.attention_output_of_8_experts or recipe.base
        return recipe.attention_output or recipe.base
    return recipe.base


def _type_of_attention_v(recipe: Recipe, model: _Model, i_layer: int) -> GgmlType:
    if model.n_experts == 8:
        return GgmlType.Q8_0
    mix = recipe.attention_v
    if recipe.attention_v_shared is not None and model.n_gqa >= 4:
        mix = recipe.attention_v_shared
    wanted = mix.pick(i_layer, model.n_attention_v, n_first=2) if mix else recipe.base
    if model.is_70b and wanted in (GgmlType.Q3_K, GgmlType.Q4_K):
        return GgmlType.Q5_K
    return wanted


def _type_of_ffn_down(recipe: Recipe, model: _Model, name: str, n_seen: int) -> GgmlType:
    mix = recipe.ffn_down
    if model.architecture == "falcon":
        mix = recipe.ffn_down_of_falcon or mix
    if mix is None:
        return recipe.base
    # With experts a layer has several ffn_down, so only the name tells the layer.
    i_layer = _layer(name, missing=model.n_layers) if model.n_experts > 1 else n_seen
    if model.n_experts > 1 and i_layer >= model.n_layers:
        raise UnsupportedTensor(
            f"The tensor {name} belongs to none of the model's {model.n_layers} layers.",
            hint="The file may be damaged, or of an architecture this version does not know.",
        )
    return mix.pick(i_layer, model.n_layers, n_first=model.n_layers // 16)


def _type_that_fits(wanted: GgmlType, n_cols: int) -> GgmlType:
    for candidate in (wanted, _SMALL_BLOCKS.get(wanted, wanted)):
        if n_cols % candidate.block_size == 0:
            return candidate
    return GgmlType.F16


def _is_important(i_layer: int, n_layers: int) -> bool:
    """The first and the last eighth, and every third in between (`use_more_bits`)."""
    n_eighth = n_layers // 8
    return i_layer < n_eighth or i_layer >= 7 * n_layers // 8 or (i_layer - n_eighth) % 3 == 2


def _role(name: str) -> _Role:
    if name in _ROLE_OF_NAME:
        return _ROLE_OF_NAME[name]
    return next((role for part, role in _ROLE_OF_PART.items() if part in name), _Role.OTHER)


def _layer(name: str, missing: int) -> int:
    match = re.match(r"blk\.(\d+)", name)
    return int(match[1]) if match else missing


def _number_or_text(metadata: Mapping[str, Value], key: str, default: int | str) -> int | str:
    """A scalar; of a value per layer the first, as llama.cpp's n_head(0)."""
    found = metadata.get(key)
    value = default if found is None else found.value
    if isinstance(value, int | str):
        return value
    first = next(iter(value), default)
    return first if isinstance(first, int) else default
