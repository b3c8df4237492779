"""What most architectures share: their hyperparameters, and the keys that say them.

Source of the keys: llama.cpp conversion/base.py, TextModel.set_gguf_parameters.
"""

from __future__ import annotations

import msgspec

from engine.convert.architecture import Shapes
from engine.convert.config import Config, unsupported
from engine.convert.rope import KINDS, rope_keys
from engine.gguf_values import Value, ValueType

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
# Far beyond any model; a config that says more is damaged.
MAX_LAYERS = 1024
MAX_HEADS = MAX_EXPERTS = 4096
MAX_HEAD_DIM = 1 << 16

# GGUF's key -> the fields of config.json, the first present counts
EXPERTS = (
    ("expert_count", ("num_local_experts", "num_experts", "n_routed_experts")),
    ("expert_used_count", ("num_experts_per_tok", "num_experts_per_token", "top_k_experts")),
    ("expert_group_count", ("n_group",)),
    ("expert_group_used_count", ("topk_group",)),
)
NORMS = (
    ("attention.layer_norm_rms_epsilon", ("rms_norm_eps", "norm_eps")),
    ("attention.layer_norm_epsilon", ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")),
)
NONE = Value.u32(0)
USUAL_ROPE = {"rope.freq_base": Value.f32(10_000.0)}
GATING = {"softmax": 1, "sigmoid": 2}  # llama.cpp's LLAMA_EXPERT_GATING_FUNC_TYPE


class Transformer(msgspec.Struct, frozen=True):
    """The hyperparameters of a decoder; heads of queries share heads of keys and values."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    is_tied: bool

    @property
    def n_q(self) -> int:
        """Rows of the query projection."""
        return self.n_heads * self.head_dim

    @property
    def n_kv(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.n_kv_heads * self.head_dim


def read_transformer(
    config: Config,
    shapes: Shapes,
    *,
    tied: bool = False,
    activations: tuple[str, ...] = ("silu", "swish"),
) -> Transformer:
    """Check the config; the vocabulary is as large as the stored embedding.

    Where the config does not say, the two matrices are one if `tied`, or if only one is stored.
    Raises UnsupportedArchitecture for another activation than llama.cpp computes.
    """
    activation = config.text(config.find("hidden_activation", "hidden_act") or "hidden_act")
    if activation and activation not in activations:
        raise unsupported(f"the activation {activation[:40]!a}")
    n_embd = config.count("hidden_size")
    n_heads = config.count("num_attention_heads", largest=MAX_HEADS)
    n_kv_heads = config.count("num_key_value_heads", n_heads)
    if n_heads % n_kv_heads:
        raise config.bad(f"{n_heads} heads cannot share {n_kv_heads} key-value heads")
    if not config.has("head_dim") and n_embd % n_heads:
        raise config.bad(f"hidden_size {n_embd} is not a multiple of {n_heads} heads")
    head_dim = config.count("head_dim", n_embd // n_heads, largest=MAX_HEAD_DIM)
    if head_dim % 2:
        raise config.bad(f"head_dim {head_dim} is odd")
    is_tied = config.flag("tie_word_embeddings", tied or OUTPUT not in shapes)
    stored = shapes.get(EMBEDDING) or (shapes.get(OUTPUT) if is_tied else None)
    return Transformer(
        n_layers=config.count("num_hidden_layers", largest=MAX_LAYERS),
        n_embd=n_embd,
        n_ff=config.count("intermediate_size"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        n_vocab=stored[0] if stored else config.count("vocab_size"),
        is_tied=is_tied,
    )


def common_keys(
    config: Config,
    h: Transformer,
    *,
    ropes: tuple[str, ...] = KINDS,
    rope_theta: float = 10_000.0,
    says_usual_rope: bool = True,
) -> dict[str, Value]:
    """The keys that most architectures have.

    `ropes` are the kinds of rotary embeddings that can be done, `rope_theta` is the base of one
    that does not say. Without `says_usual_rope` what llama.cpp takes for granted is left out.
    """
    sizes = {
        "block_count": h.n_layers,
        "context_length": config.count("max_position_embeddings", 2048),
        "embedding_length": h.n_embd,
        "feed_forward_length": h.n_ff,
        "attention.head_count": h.n_heads,
        "attention.head_count_kv": h.n_kv_heads,
    }
    if config.has("head_dim"):  # llama.cpp takes the embedding's share of a head otherwise
        sizes["attention.key_length"] = sizes["attention.value_length"] = h.head_dim
    for ours, theirs in EXPERTS:
        if name := config.find(*theirs):
            sizes[ours] = config.count(name, smallest=0)
    keys = {key: Value.u32(size) for key, size in sizes.items()}
    if keys.get("expert_count", NONE).value and "expert_used_count" not in keys:
        raise config.bad("num_experts_per_tok is missing")
    norms = {ours: name for ours, names in NORMS if (name := config.find(*names))}
    if not norms:
        raise config.bad("rms_norm_eps or layer_norm_eps is missing")
    keys |= {ours: Value.f32(config.number(name)) for ours, name in norms.items()}
    if name := config.find("scoring_func", "score_function", "moe_router_activation_func"):
        function = config.text(name)
        if function not in GATING:
            raise unsupported(f"experts chosen by {function[:40]!a}")
        keys["expert_gating_func"] = Value.u32(GATING[function])
    rope = rope_keys(config, ropes, rope_theta)
    if not says_usual_rope and rope == USUAL_ROPE:
        return keys
    return keys | rope


def count_experts(config: Config, key: str, default: int | None = None) -> int:
    """How many experts there are; raises CorruptFile."""
    return config.count(key, default, smallest=default or 0, largest=MAX_EXPERTS)


def within_window(config: Config) -> dict[str, Value]:
    """The context of a model that llama.cpp runs without its sliding window.

    Within one window it is the same.
    """
    n_ctx = min(config.count("max_position_embeddings", 2048), config.count("sliding_window"))
    return {"context_length": Value.u32(n_ctx)}


def moe_keys(config: Config) -> dict[str, Value]:
    """The width of the experts, and of the one that is always used, if there is one."""
    keys = {"expert_feed_forward_length": Value.u32(config.count("moe_intermediate_size"))}
    if config.has("shared_expert_intermediate_size"):
        n_ff = config.count("shared_expert_intermediate_size")
        keys["expert_shared_feed_forward_length"] = Value.u32(n_ff)
    return keys


def sliding_window_keys(config: Config, n_layers: int, period: int = 0) -> dict[str, Value]:
    """The window of the layers that attend to the last tokens only, and which these are.

    Where the config does not say, every `period`th layer attends to all.
    """
    kinds = config.texts("layer_types", n_layers) or usual_layers(n_layers, period)
    if not {*kinds} <= {"sliding_attention", "full_attention"}:
        raise config.bad("layer_types is missing or says something else")
    is_sliding = [kind == "sliding_attention" for kind in kinds]
    return {
        "attention.sliding_window": Value.u32(config.count("sliding_window")),
        "attention.sliding_window_pattern": Value.array(ValueType.BOOL, is_sliding),
    }


def usual_layers(n_layers: int, period: int) -> list[str]:
    """Every `period`th layer attends to all tokens, the others to a window."""
    if not period:
        return []
    kinds = ("full_attention", "sliding_attention")
    return [kinds[(i + 1) % period != 0] for i in range(n_layers)]


def require_usual_layers(config: Config, n_layers: int, period: int) -> None:
    """Raise UnsupportedArchitecture for windows in other layers than llama.cpp has built in."""
    kinds = config.texts("layer_types", n_layers)
    pattern = config.count("sliding_window_pattern", period)
    if (kinds and kinds != usual_layers(n_layers, period)) or pattern != period:
        raise unsupported("sliding windows in other layers than usual")
