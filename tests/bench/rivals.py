"""One other quantizer on one checkpoint: runs in an environment that has its library.

    python tests/bench/rivals.py NAME MODEL CALIBRATION OUT

Leaves in OUT what the library saves, and made.json: library, version, settings. What Snug cannot
read lies in OUT/decoded once more, decoded by the library itself. Ends with 3 where it is missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

N_CTX = 512
MISSING = 3


class Job(NamedTuple):
    """What to quantize, with what to calibrate, and the folder for the result."""

    model: Path
    calibration: Path
    out: Path

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model)

    def plain(self, dtype: str, **options: Any) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        kind = getattr(torch, dtype)
        return AutoModelForCausalLM.from_pretrained(self.model, dtype=kind, **options)

    def chunks(self) -> list[list[int]]:
        """The whole calibration text, in chunks as Snug reads it."""
        text = self.calibration.read_text(encoding="utf-8")
        tokens = self.tokenizer()(text, add_special_tokens=False)["input_ids"]
        return [tokens[i : i + N_CTX] for i in range(0, len(tokens) - N_CTX + 1, N_CTX)]


def nf4(job: Job) -> str:
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = job.plain("bfloat16", quantization_config=settings, device_map="cpu")
    model.save_pretrained(job.out)
    return "NF4, double quantized"


def hqq(job: Job, n_bits: int) -> str:
    import torch
    from hqq.core.quantize import BaseQuantizeConfig
    from hqq.models.hf.base import AutoHQQHFModel
    from safetensors.torch import save_model

    model = job.plain("float16")
    settings = BaseQuantizeConfig(nbits=n_bits, group_size=64, axis=1)
    AutoHQQHFModel.quantize_model(
        model, quant_config=settings, compute_dtype=torch.float16, device="cpu"
    )
    # HQQ's own way to save fails with tied embeddings.
    save_model(model, str(job.out / "model.safetensors"))
    config = json.loads((job.model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "hqq", "quant_config": settings}
    (job.out / "config.json").write_text(json.dumps(config, default=str))
    if n_bits == 3:
        _decode_hqq(job, model)
    return f"{n_bits} bits, groups of 64, axis 1"


def _decode_hqq(job: Job, model: Any) -> None:
    """Decode in float32: HQQ itself would round each value to a half once more."""
    from hqq.core.quantize import HQQLinear, Quantizer
    from safetensors.torch import save_file

    tensors = {}
    for name, tensor in job.plain("float32").state_dict().items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        if isinstance(layer, HQQLinear):
            meta = dict(layer.meta, compute_dtype=None)
            meta |= {part: layer.meta[part].float() for part in ("scale", "zero")}
            codes = Quantizer.unpack[meta["packing"]](layer.W_q).float()
            codes = codes[: meta["scale"].shape[0]]
            tensors[name] = ((codes - meta["zero"]) * meta["scale"]).reshape(tensor.shape)
        else:
            tensors[name] = tensor
    tensors.pop("lm_head.weight", None)  # tied
    (job.out / "decoded").mkdir()
    shutil.copy(job.model / "config.json", job.out / "decoded")
    save_file(
        {n: t.contiguous() for n, t in tensors.items()}, job.out / "decoded/model.safetensors"
    )


def gptq(job: Job, n_bits: int) -> str:
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its default fails on two cores
    from gptqmodel import GPTQModel, QuantizeConfig

    settings = QuantizeConfig(bits=n_bits, group_size=128)
    model = GPTQModel.load(str(job.model), settings, device="cpu")
    model.quantize(job.chunks(), batch_size=1)
    model.save(str(job.out))
    return f"{n_bits} bits, groups of 128, defaults"


def gguf(name: str) -> tuple[str, str]:
    """AutoRound's names of a scheme and of a format."""
    return f"GGUF:{name}", f"gguf:{name.lower()}"


def autoround(job: Job, scheme: str, form: str, iterations: int) -> str:
    """As its guide advises: no iterations for GGUF, but for 3 bits."""
    import torch
    from auto_round import AutoRound

    chunks = torch.tensor(job.chunks())
    rounding = AutoRound(
        str(job.model),
        scheme=scheme,
        dataset=[chunk[None] for chunk in chunks],
        nsamples=len(chunks),
        seqlen=N_CTX,
        iters=iterations,
        device_map="cpu",
        enable_torch_compile=False,
    )
    rounding.quantize_and_save(str(job.out), format=form)
    return f"{scheme}, {iterations} iterations, as {form}"


RIVALS: Mapping[str, tuple[str, Callable[[Job], str]]] = {
    "bitsandbytes NF4": ("bitsandbytes", nf4),
    "HQQ 4": ("hqq", lambda job: hqq(job, 4)),
    "HQQ 3": ("hqq", lambda job: hqq(job, 3)),
    "GPTQModel 4": ("gptqmodel", lambda job: gptq(job, 4)),
    "AutoRound W4": ("auto-round", lambda job: autoround(job, "W4A16", "auto_gptq", 200)),
    "AutoRound Q4_K_M": ("auto-round", lambda job: autoround(job, *gguf("Q4_K_M"), 0)),
    "AutoRound Q4_K_S": ("auto-round", lambda job: autoround(job, *gguf("Q4_K_S"), 0)),
    "AutoRound Q2_K_S": ("auto-round", lambda job: autoround(job, *gguf("Q2_K_S"), 0)),
}
"""By name: the package, and what makes the rival's files and tells its settings."""


def main() -> int:
    name, *paths = sys.argv[1:]
    library, make = RIVALS[name]
    job = Job(*map(Path, paths))
    try:
        version = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        print(f"{library} is not installed")
        return MISSING
    settings = make(job)
    made = {"library": library, "version": version, "settings": settings}
    (job.out / "made.json").write_text(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
