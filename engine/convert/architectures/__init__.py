"""The architectures Snug converts. A new one is a module beside llama.py and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.convert.architecture import Architecture
from engine.convert.architectures.cohere import COHERE2, COMMAND_R
from engine.convert.architectures.deepseek import DEEPSEEK2
from engine.convert.architectures.gemma import GEMMA, GEMMA2, GEMMA3
from engine.convert.architectures.gemma4 import GEMMA4
from engine.convert.architectures.glm import GLM, GLM4
from engine.convert.architectures.gpt_oss import GPT_OSS
from engine.convert.architectures.granite import GRANITE, GRANITE_MOE
from engine.convert.architectures.llama import LLAMA
from engine.convert.architectures.minicpm import MINICPM, MINICPM3
from engine.convert.architectures.olmo import OLMO2, OLMOE
from engine.convert.architectures.phi import PHI2, PHI3
from engine.convert.architectures.qwen import QWEN2, QWEN2MOE, QWEN3, QWEN3MOE
from engine.convert.architectures.qwen35 import QWEN35, QWEN35MOE
from engine.convert.architectures.smollm3 import SMOLLM3
from engine.convert.architectures.stablelm import STABLELM
from engine.convert.architectures.starcoder2 import STARCODER2
from engine.errors import CorruptFile, UnsupportedArchitecture

ARCHITECTURES: tuple[Architecture, ...] = (
    LLAMA,
    COHERE2,
    COMMAND_R,
    DEEPSEEK2,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GEMMA4,
    GLM,
    GLM4,
    GPT_OSS,
    GRANITE,
    GRANITE_MOE,
    MINICPM,
    MINICPM3,
    OLMO2,
    OLMOE,
    PHI2,
    PHI3,
    QWEN2,
    QWEN2MOE,
    QWEN3,
    QWEN35,
    QWEN35MOE,
    QWEN3MOE,
    SMOLLM3,
    STABLELM,
    STARCODER2,
)


def find_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that `config` names; raises UnsupportedArchitecture with its name."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptFile(
            "config.json is damaged: its architectures are not a list of names.",
            hint="Download config.json again from where the checkpoint came from.",
        )
    model_type = config.get("model_type")
    for architecture in ARCHITECTURES:
        if any(name in architecture.hf_names for name in names):
            return architecture
        if not names and model_type in architecture.model_types:
            return architecture
    if not names and not isinstance(model_type, str):
        raise UnsupportedArchitecture(
            "config.json does not say which architecture the model has.",
            hint="Choose a checkpoint of a language model, such as one of the Llama family.",
        )
    known = ", ".join(name for a in ARCHITECTURES for name in a.hf_names)
    raise UnsupportedArchitecture(
        f"Snug cannot convert the architecture {', '.join(names or [str(model_type)])[:80]} yet.",
        hint="Look for a GGUF of this model: Snug runs many more architectures than it converts.",
        details=f"Known: {known}",
    )
