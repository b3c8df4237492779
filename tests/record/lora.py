"""Records tests/engine/data/lora.json: adapters, and what PEFT and llama.cpp make of them.

    PYTHON -m tests.record.lora LLAMA_CPP_FOLDER

PYTHON has torch, transformers, peft, safetensors, msgspec and numpy. PEFT says how an adapter of a
kind is stored; its numbers are then those of tests/helpers/adapters.py.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from tests.helpers import adapters
from tests.helpers.adapters import RECORDED, Case, Merged, Shapes
from tests.helpers.checkpoints import Tensors

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Name -> base, how the adapter is stored, and LoraConfig.
ADAPTERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lora": ("llama", "F32", {"r": 4, "lora_alpha": 6, "target_modules": [*LINEAR, "lm_head"]}),
    "bf16": ("llama", "BF16", {"r": 6, "lora_alpha": 16, "target_modules": LINEAR}),
    "rslora": ("llama", "F16", {"r": 9, "lora_alpha": 4, "target_modules": LINEAR,
                                "use_rslora": True}),
    "patterns": ("llama", "F32", {
        "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj", "down_proj"],
        "rank_pattern": {"model.layers.0.self_attn.q_proj": 2, "down_proj": 7},
        "alpha_pattern": {r".*\.1\.self_attn.q_proj": 3, "^model.layers.0.mlp.down_proj": 5}}),
    "rslora-patterns": ("llama", "F32", {
        "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True,
        "rank_pattern": {"v_proj": 3}, "alpha_pattern": {"v_proj": 2}}),
    "all-biases": ("llama", "F32", {"r": 2, "target_modules": ["q_proj", "v_proj"],
                                    "bias": "all"}),
    "own-biases": ("llama", "F32", {"r": 2, "target_modules": ["q_proj", "v_proj"],
                                    "bias": "lora_only"}),
    "modules": ("llama", "F32", {"r": 2, "target_modules": ["q_proj"], "modules_to_save": [
        "embed_tokens", "lm_head", "norm", "input_layernorm"]}),
    "embeddings": ("llama", "F32", {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}),
    "dora": ("llama", "F32", {"r": 4, "target_modules": [*LINEAR, "lm_head"], "use_dora": True}),
    "dora-rslora": ("llama", "BF16", {"r": 4, "target_modules": ["k_proj", "down_proj"],
                                      "use_dora": True, "use_rslora": True}),
    "tied-embedding": ("llama-tied", "F32", {"r": 4, "target_modules": ["embed_tokens"]}),
    "tied-output": ("llama-tied", "F32", {"r": 4, "target_modules": ["lm_head", "q_proj"]}),
    "tied-module": ("llama-tied", "F32", {"r": 4, "target_modules": ["q_proj"],
                                          "modules_to_save": ["embed_tokens"]}),
    "fused": ("phi3", "F32", {"r": 4, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj",
                                                         "down_proj"]}),
    "shared-expert": ("qwen2-moe", "F32", {"r": 3, "lora_alpha": 6, "target_modules": [
        "q_proj", "v_proj", "shared_expert.gate_proj", "shared_expert.down_proj"]}),
}  # fmt: skip
N_EXPERTS = 4


def main() -> int:
    llama_cpp = Path(sys.argv[1])
    cases = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, (base, dtype, settings) in ADAPTERS.items():
            cases[name] = recorded(Path(temporary) / name, llama_cpp, base, dtype, settings)
            print(name, len(cases[name].tensors), "tensors", cases[name].alpha, flush=True)
        cases["experts"] = experts(Path(temporary) / "experts", llama_cpp)
    entries = [f"{json.dumps(name)}: {text(case)}" for name, case in cases.items()]
    RECORDED.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
    return 0


def recorded(
    scratch: Path, llama_cpp: Path, base: str, dtype: str, settings: dict[str, Any]
) -> Case:
    folder = adapters.write_base(scratch / "base", base)
    config, shapes = stored(scratch, folder, settings)
    case = Case(base, config, dtype, shapes, {}, None, {})
    adapters.write_case(scratch, case)
    values = {name: tensor.numpy() for name, tensor in merged(scratch, folder).items()}
    changed = changes(adapters.base_tensors(adapters.BASES[base]), values)
    return msgspec.structs.replace(with_gguf(case, scratch, llama_cpp), merged=changed)


def stored(scratch: Path, folder: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], Shapes]:
    """How PEFT saves an adapter with `settings`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapter = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    adapter.save_pretrained(scratch / "adapter")
    config = json.loads((scratch / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/base"
    config["target_modules"].sort()
    with safe_open(scratch / "adapter" / "adapter_model.safetensors", "pt") as file:
        return config, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def merged(scratch: Path, folder: Path) -> dict[str, torch.Tensor]:
    """The weights with which the adapted model computes.

    Where one matrix is both ends of a model, PEFT computes with two, but merges into the one.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapter = PeftModel.from_pretrained(model, scratch / "adapter")
    ends = {
        "model.embed_tokens.weight": model.get_input_embeddings(),
        "lm_head.weight": model.get_output_embeddings(),
    }
    apart = {}
    if model.config.tie_word_embeddings:
        apart = {name: effective(module) for name, module in ends.items()}
    whole = adapter.merge_and_unload(safe_merge=True)
    return {name: w.clone() for name, w in whole.state_dict().items()} | apart


def effective(module: torch.nn.Module) -> torch.Tensor:
    """The matrix with which an embedding or an output layer computes."""
    if hasattr(module, "get_delta_weight"):
        delta = module.get_delta_weight("default")
        return (module.get_base_layer().weight + delta).detach().clone()
    return module.weight.detach().clone()


def changes(base: Tensors, values: dict[str, Any]) -> dict[str, Merged]:
    """What is recorded of the tensors that differ from those of `base`."""
    if "lm_head.weight" not in base:
        base = {**base, "lm_head.weight": base["model.embed_tokens.weight"]}
    return {
        name: adapters.measured(value)
        for name, value in values.items()
        if name in base and not np.array_equal(value, base[name])
    }


def experts(scratch: Path, llama_cpp: Path) -> Case:
    """Every expert has pairs of its own, as up to transformers 4; only llama.cpp reads it so."""
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6}
    shapes: dict[str, tuple[int, ...]] = {}
    sizes = {"gate_proj": (16, 32), "up_proj": (16, 32), "down_proj": (32, 16)}
    for layer in range(2):
        for i in range(N_EXPERTS):
            for name, (n_out, n_in) in sizes.items():
                stem = f"base_model.model.model.layers.{layer}.mlp.experts.{i}.{name}"
                shapes[f"{stem}.lora_A.weight"] = (3, n_in)
                shapes[f"{stem}.lora_B.weight"] = (n_out, 3)
    case = Case("qwen2-moe", config, "F32", shapes, {}, None, {})
    adapters.write_case(scratch, case)
    return with_gguf(case, scratch, llama_cpp)


def with_gguf(case: Case, scratch: Path, llama_cpp: Path) -> Case:
    """`case` with what llama.cpp's converter makes of it, if it can."""
    sys.path.insert(0, str(llama_cpp / "gguf-py"))
    import gguf

    readers = []
    for float_type in ("f32", "f16"):
        out = scratch / f"{float_type}.gguf"
        options = ["--base", str(scratch / "base"), "--outfile", str(out), "--outtype", float_type]
        if not run(llama_cpp / "convert_lora_to_gguf.py", str(scratch / "adapter"), *options):
            return case
        readers.append(gguf.GGUFReader(out))
    exact, half = readers
    written = {
        tensor.name: (
            tuple(int(n) for n in tensor.shape),
            digest(tensor),
            digest(next(other for other in half.tensors if other.name == tensor.name)),
        )
        for tensor in exact.tensors
    }
    alpha = float(exact.fields["adapter.lora.alpha"].contents())
    return msgspec.structs.replace(case, alpha=alpha, gguf=written)


def run(script: Path, *arguments: str) -> bool:
    """Run `script` here, which has imported torch already; whether it ended well."""
    before, sys.argv = sys.argv, [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except (SystemExit, Exception) as reason:  # noqa: BLE001 - upstream cannot do all of them
        print("   upstream:", ascii(reason)[:100])
        return False
    finally:
        sys.argv = before
    return True


def digest(tensor: Any) -> str:
    data = hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16]
    return f"{tensor.tensor_type.name} {data}"


def text(case: Case) -> str:
    """JSON with a line for each entry, so that changes can be read."""
    lines = []
    for name, value in msgspec.to_builtins(case).items():
        shown = json.dumps(value)
        if isinstance(value, dict) and value:
            entries = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            shown = f"{{\n  {entries}\n }}"
        lines.append(f' "{name}": {shown}')
    return "{\n" + ",\n".join(lines) + "}"


if __name__ == "__main__":
    sys.exit(main())
