"""Rotary embeddings: what config.json says of them, in the keys and tensors of a GGUF.

transformers 5 has one object, `rope_parameters`; before, `rope_scaling` was beside `rope_theta`.
Source: llama.cpp conversion/base.py and llama.py; transformers modeling_rope_utils.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.convert.architecture import MadeTensor
from engine.convert.config import Config, unsupported
from engine.gguf_values import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MSCALES = ("mscale", "mscale_all_dim")
KINDS = ("default", "linear", "yarn")
"""What every architecture of llama.cpp with rotary embeddings can do, by its keys alone."""


def rope_of(config: Config, layer_type: str = "full_attention") -> Config:
    """What holds for the layers of `layer_type`, with `rope_type` always there."""
    key = "rope_parameters" if config.has("rope_parameters") else "rope_scaling"
    rope = config.section(key)
    if rope.has(layer_type):
        rope = rope.section(layer_type)
    thetas = ("rope_theta", "global_rope_theta", "rotary_emb_base")
    factors = ("partial_rotary_factor", "rope_pct", "rotary_pct")
    defaults = {
        "rope_theta": config.raw(config.find(*thetas) or thetas[0]),
        "partial_rotary_factor": config.raw(config.find(*factors) or factors[0]),
        "original_max_position_embeddings": config.raw("original_max_position_embeddings"),
        "rope_type": rope.raw("type") or "default",
    }
    return rope.under(**defaults)


def rope_kind(rope: Config) -> str:
    kind = rope.text("rope_type").lower()
    # Up to the context length that the model has, dynamic scaling stretches nothing.
    return {"su": "longrope", "dynamic": "default"}.get(kind, kind)


def rope_keys(
    config: Config, kinds: tuple[str, ...] = KINDS, theta: float = 10_000.0
) -> dict[str, Value]:
    """The keys of the rotary embedding, whose base is `theta` where the config does not say.

    Raises UnsupportedArchitecture for one that is not of `kinds`.
    """
    rope = rope_of(config)
    kind = rope_kind(rope)
    if kind not in kinds:
        raise unsupported(f"the rope scaling {kind[:40]!a}")
    keys = {}
    if kind in ("linear", "yarn"):
        keys["rope.scaling.type"] = Value.string(kind)
        keys["rope.scaling.factor"] = Value.f32(rope.number("factor"))
    if kind == "longrope":
        keys["rope.scaling.type"] = Value.string(kind)
    if kind == "yarn":
        keys |= _yarn_keys(config, rope)
    keys["rope.freq_base"] = Value.f32(rope.number("rope_theta", theta))
    return keys


def _yarn_keys(config: Config, rope: Config) -> dict[str, Value]:
    """The keys of YaRN; llama.cpp multiplies attention with 1 + 0.1 ln(factor) by itself."""
    n_ctx = rope.find("original_max_position_embeddings")
    n_ctx_trained = rope.count(n_ctx) if n_ctx else config.count("max_position_embeddings")
    keys = {"rope.scaling.original_context_length": Value.u32(n_ctx_trained)}
    attention = rope.find("attention_factor", "attn_factor")
    for name, theirs in (
        ("yarn_ext_factor", "extrapolation_factor"),
        ("yarn_attn_factor", attention),
        ("yarn_beta_fast", "beta_fast"),
        ("yarn_beta_slow", "beta_slow"),
    ):
        if theirs and rope.has(theirs):
            keys[f"rope.scaling.{name}"] = Value.f32(rope.number(theirs))
    own = yarn_sharpness(rope.number("factor"))
    wanted = rope.number(attention) if attention else own
    if not attention and rope.has("mscale") and rope.has("mscale_all_dim"):
        sharpness = [yarn_sharpness(rope.number("factor"), rope.number(m)) for m in MSCALES]
        wanted = sharpness[0] / sharpness[1]
    if not math.isclose(wanted, own, rel_tol=1e-6):
        keys["rope.scaling.attn_factor"] = Value.f32(wanted / own)
    return keys


def yarn_sharpness(factor: float, scale: float = 1.0) -> float:
    """What attention is multiplied with where positions are stretched by `factor`."""
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def n_rotated(config: Config, share: float, size: int, over: int = 1) -> int:
    """How many numbers of a head turn: `share` of `size`, over all heads together of `over`."""
    n = int(share * size) // over if share <= 1 else 0
    if n < 2 or n % 2:
        raise config.bad(f"a share of {share:g} of each head cannot be rotated")
    return n


def require_full_rotation(config: Config) -> None:
    """Raise UnsupportedArchitecture if only a part of each head is rotated."""
    if rope_of(config).number("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported("a partly rotary attention")


def rope_tensors(config: Config, n_rot: int) -> tuple[MadeTensor, ...]:
    """The factors that Llama 3's scaling asks for, [n_rot / 2], if it is that one."""
    rope = rope_of(config)
    if rope_kind(rope) != "llama3":
        return ()
    low, high = rope.number("low_freq_factor", 1.0), rope.number("high_freq_factor", 4.0)
    if high <= low:
        raise config.bad("high_freq_factor is not above low_freq_factor")
    theta, factor = rope.number("rope_theta", 10_000.0), rope.number("factor", 8.0)
    original = rope.count("original_max_position_embeddings", 8192)

    def values() -> NDArray[np.float32]:
        return llama3_factors(n_rot, theta, factor, low, high, original)

    return (MadeTensor("rope_freqs.weight", n_rot // 2, values),)


def longrope_tensors(config: Config, n_rot: int) -> tuple[MadeTensor, ...]:
    """The factors for long and for short contexts, [n_rot / 2] each, if there are any."""
    import numpy as np

    rope = rope_of(config)
    if not (rope.has("long_factor") or rope.has("short_factor")):
        return ()
    made = []
    for ours, theirs in (("long", "long_factor"), ("short", "short_factor")):
        factors = rope.numbers(theirs, n_rot // 2)
        if not factors:
            raise config.bad(f"{theirs} is missing")
        made.append(
            MadeTensor(
                f"rope_factors_{ours}.weight",
                n_rot // 2,
                lambda factors=factors: np.array(factors, np.float32),  # type: ignore[misc]
            )
        )
    return tuple(made)


def llama3_factors(
    n_rot: int, theta: float, factor: float, low: float, high: float, original_n_ctx: int
) -> NDArray[np.float32]:
    """What each rotary frequency is divided by, [n_rot / 2]: 1 for the high, `factor` for the low.

    In float32 throughout, as transformers' _compute_llama3_parameters and llama.cpp's converter do.
    """
    import numpy as np

    one = np.float32(1)
    exponents = np.arange(0, n_rot, 2, dtype=np.float32) / np.float32(n_rot)
    # numpy's float32 power is off in the last bit where torch's is not.
    powers = np.power(theta, exponents.astype(np.float64)).astype(np.float32)
    wavelengths = np.float32(2 * math.pi) / (one / powers)
    lowest, highest = np.float32(low), np.float32(high)
    original, stretch = np.float32(original_n_ctx), np.float32(factor)
    smooth = (original / wavelengths - lowest) / (highest - lowest)
    factors = one / ((one - smooth) / stretch + smooth)
    factors = np.where(wavelengths < original / highest, one, factors)
    return np.where(wavelengths > original / lowest, stretch, factors).astype(np.float32)
