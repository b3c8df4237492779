"""Small weights, packed by the real libraries, with the digest of what they unpack them to.

`python -m tests.engine.packed_cases AUTO_GPTQ AUTO_AWQ` writes data/packed.zip. It needs torch,
transformers, bitsandbytes, compressed-tensors, hqq and nvidia-modelopt, and checkouts of AutoGPTQ
and AutoAWQ, which are hard to install now: single files of them are run. Each file in it has the
packed tensors of one weight and, as metadata, its quantization_config, its shape and the SHA-256 of
its values in float32.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
import types
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "data" / "packed.zip"
NAME = "model.layers.0.mlp.up_proj"


def record(case: str, config: dict[str, Any], tensors: dict[str, Any], values: Any) -> None:
    """Write one case; `values` are what the library unpacks, a float32 tensor [out, in]."""
    save = import_module("safetensors.torch").save
    assert str(values.dtype) == "torch.float32"
    metadata = {
        "quantization_config": json.dumps(config),
        "shape": json.dumps(list(values.shape)),
        # Some give a zero a sign, others do not: + 0.0 takes it away.
        "sha256": hashlib.sha256((values.contiguous().numpy() + 0.0).tobytes()).hexdigest(),
    }
    named = {f"{NAME}.{end}": tensor.contiguous() for end, tensor in tensors.items()}
    with zipfile.ZipFile(RECORDED, "a", zipfile.ZIP_DEFLATED) as cases:
        entry = zipfile.ZipInfo(f"{case}.safetensors")  # without the time of day
        cases.writestr(entry, save(named, metadata), zipfile.ZIP_DEFLATED)


def weight(torch: Any, n_out: int = 64, n_in: int = 128) -> Any:
    torch.manual_seed(n_out * n_in)
    return torch.randn(n_out, n_in) * 0.05


def record_gptq(torch: Any, source: Path) -> None:
    path = source / "auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py"
    linear_class = runpy.run_path(str(path))["QuantLinear"]
    for n_bits, is_symmetric in ((2, True), (3, True), (4, True), (8, True), (4, False)):
        group_size, top = 64, 2**n_bits - 1
        w = weight(torch)
        groups = w.reshape(64, -1, group_size)
        if is_symmetric:
            scales = groups.abs().amax(-1) * 2 / top
            zeros = torch.full_like(scales, (top + 1) // 2)
        else:
            scales = (groups.amax(-1) - groups.amin(-1)) / top
            zeros = torch.round(-groups.amin(-1) / scales).clamp(1, top)
        scales = scales.half().float()
        codes = torch.round(groups / scales[..., None] + zeros[..., None]).clamp(0, top)
        linear = torch.nn.Linear(128, 64, bias=False)
        linear.weight.data = ((codes - zeros[..., None]) * scales[..., None]).reshape(64, 128)
        packed = linear_class(n_bits, group_size, 128, 64, bias=False, weight_dtype=torch.float32)
        g_idx = (torch.arange(128) // group_size).int()
        packed.pack(linear, scales, zeros, g_idx)
        packed.half()
        packed.use_cuda_fp16 = False
        # x = 1 in one place after the other reads the columns of the weight.
        packed.scales = packed.scales.float()
        values = packed(torch.eye(128)).T
        tensors = {
            "qweight": packed.qweight,
            "qzeros": packed.qzeros,
            "scales": packed.scales.half(),
            "g_idx": g_idx,
        }
        config = {"quant_method": "gptq", "bits": n_bits, "group_size": group_size}
        config |= {"desc_act": False, "sym": is_symmetric, "checkpoint_format": "gptq"}
        name = f"gptq_{n_bits}" + ("" if is_symmetric else "_asymmetric")
        record(name, config, tensors, values)


def record_awq(torch: Any, source: Path) -> None:
    packing = runpy.run_path(str(source / "awq/utils/packing_utils.py"))
    for name, content in (
        ("awq", {}),
        ("awq.utils", {}),
        ("awq.utils.module", {"try_import": lambda _: (None, "")}),
        ("awq.utils.utils", {"get_best_device": lambda: "cpu"}),
        ("awq.utils.packing_utils", packing),
    ):
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    linear_class = runpy.run_path(str(source / "awq/modules/linear/gemm.py"))["WQLinear_GEMM"]
    w = weight(torch).reshape(64, 4, 32)
    scales = ((w.amax(-1) - w.amin(-1)) / 15).half()
    zeros = torch.round(-w.amin(-1) / scales.float()).clamp(0, 15)
    codes = torch.round(w / scales.float()[..., None] + zeros[..., None]).clamp(0, 15)
    linear = torch.nn.Linear(128, 64, bias=False, dtype=torch.float16)
    linear.weight.data = ((codes - zeros[..., None]) * scales[..., None]).half().reshape(64, 128)
    packed = linear_class.from_linear(
        linear, w_bit=4, group_size=32, scales=scales.T.contiguous(), zeros=zeros.T.contiguous()
    )
    tensors = {"qweight": packed.qweight, "qzeros": packed.qzeros, "scales": packed.scales}
    values = packing["dequantize_gemm"](
        packed.qweight, packed.qzeros, packed.scales.float(), 4, 32
    ).T
    config = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}
    record("awq", {**config, "version": "gemm"}, tensors, values)


def record_bitsandbytes(torch: Any) -> None:
    functional = import_module("bitsandbytes.functional")
    # 60 columns: the blocks of 64 know nothing of rows, and the last one is short.
    for kind in ("nf4", "fp4"):
        for is_double in (False, True):
            w = weight(torch, 33, 60)
            packed, state = functional.quantize_4bit(
                w, quant_type=kind, compress_statistics=is_double, blocksize=64
            )
            values = functional.dequantize_4bit(packed, state)
            tensors = {"weight": packed}
            tensors |= {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
            config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
            record(f"{kind}_double" if is_double else kind, config, tensors, values)
    w = weight(torch)
    packed, scales, _ = functional.int8_vectorwise_quant(w.half())
    values = functional.int8_vectorwise_dequant(packed, scales)
    tensors = {"weight": packed, "SCB": scales, "weight_format": torch.tensor(0).to(torch.uint8)}
    record("int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, tensors, values)


def record_hqq(torch: Any) -> None:
    quantize = import_module("hqq.core.quantize")
    for n_bits, axis in ((4, 1), (4, 0), (8, 1), (8, 0), (2, 1)):
        linear = torch.nn.Linear(128, 64, bias=False)
        linear.weight.data = weight(torch)
        config = quantize.BaseQuantizeConfig(nbits=n_bits, group_size=64, axis=axis)
        layer = quantize.HQQLinear(
            linear, config, compute_dtype=torch.float16, device="cpu", del_orig=False
        )
        tensors = {k: torch.as_tensor(v) for k, v in layer.state_dict().items() if v is not None}
        meta = {k: v.float() if k in ("scale", "zero") else v for k, v in layer.meta.items()}
        values = quantize.Quantizer.dequantize(
            layer.W_q.data, {**meta, "compute_dtype": torch.float32}
        )
        told = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": n_bits}}}
        record(f"hqq_{n_bits}_axis{axis}", told, tensors, values)


def record_compressed_tensors(torch: Any) -> None:
    base = import_module("compressed_tensors.compressors.base").BaseCompressor
    import_module("compressed_tensors.compressors")
    quantization = import_module("compressed_tensors.quantization")
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "ct_pack_4": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32}),
        "ct_pack_3": ("pack-quantized", {"num_bits": 3, "strategy": "group", "group_size": 32}),
        "ct_pack_8": ("pack-quantized", {"num_bits": 8, "strategy": "channel"}),
        "ct_pack_4_asymmetric": (
            "pack-quantized",
            {"num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False},
        ),
        "ct_int_8": ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
        "ct_float_8": ("float-quantized", {"num_bits": 8, "strategy": "channel", "type": "float"}),
        "ct_float_8_block": (
            "float-quantized",
            {"num_bits": 8, "strategy": "block", "type": "float", "block_structure": [32, 48]},
        ),
        "ct_mxfp4": (
            "mxfp4-pack-quantized",
            {"num_bits": 4, "strategy": "group", "group_size": 32, "type": "float"},
        ),
        "ct_nvfp4": (
            "nvfp4-pack-quantized",
            {"num_bits": 4, "strategy": "tensor_group", "group_size": 16, "type": "float"},
        ),
    }
    for case, (kind, weights) in cases.items():
        w = weight(torch)
        args = quantization.QuantizationArgs(**weights)
        scheme = quantization.QuantizationScheme(targets=["Linear"], weights=args)
        compressor = base.get_value_from_registry(kind)
        state = {"weight": w, **_scales(torch, w, args)}
        packed = compressor.compress(state, scheme)
        # Scales are 16 bits in real checkpoints; the values are those of float32 arithmetic.
        exact = {
            k: v.float() if v.dtype in (torch.bfloat16, torch.float16) else v
            for k, v in packed.items()
        }
        if case == "ct_nvfp4":  # decompress() computes in bfloat16
            values = _nvfp4_values(torch, exact, args)
        else:
            values = compressor.decompress(exact, scheme)["weight"].float()
        groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
        config = {"quant_method": "compressed-tensors", "format": kind, "config_groups": groups}
        record(case, config, packed, values)


def _nvfp4_values(torch: Any, packed: dict[str, Any], args: Any) -> Any:
    helpers = import_module("compressed_tensors.compressors.nvfp4.helpers")
    forward = import_module("compressed_tensors.quantization.lifecycle.forward")
    n_rows, n_bytes = packed["weight_packed"].shape
    codes = helpers.unpack_fp4_from_uint8(
        packed["weight_packed"], n_rows, n_bytes * 2, dtype=torch.float32
    )
    return forward.dequantize(
        x_q=codes,
        scale=packed["weight_scale"].float(),
        args=args,
        global_scale=packed["weight_global_scale"],
    )


def _scales(torch: Any, w: Any, args: Any) -> dict[str, Any]:
    """Scales in bfloat16 (MXFP4: powers of two) and zero points for one weight."""
    n_out, n_in = w.shape
    strategy = str(getattr(args.strategy, "value", args.strategy))
    if strategy == "block":
        rows, cols = args.block_structure
        padded = torch.nn.functional.pad(w, (0, -n_in % cols, 0, -n_out % rows))
        tiles = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // cols, cols)
        return {"weight_scale": (tiles.abs().amax((1, 3)) / 448).bfloat16()}
    group = args.group_size or n_in
    groups = w.reshape(n_out, -1, group)
    if str(getattr(args.type, "value", args.type)) == "int":
        top = 2**args.num_bits - 1
        if args.symmetric:
            return {"weight_scale": (groups.abs().amax(-1) * 2 / top).bfloat16()}
        scale = ((groups.amax(-1) - groups.amin(-1)) / top).bfloat16()
        zero = torch.round(-groups.amin(-1) / scale.float()) - (top + 1) // 2
        return {"weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    if args.num_bits == 8:
        return {"weight_scale": (groups.abs().amax(-1) / 448).bfloat16()}
    if group == 32:
        return {"weight_scale": 2 ** torch.floor(torch.log2(groups.abs().amax(-1) / 4))}
    factor = (448 * 6 / w.abs().max()).reshape(1)
    scale = (groups.abs().amax(-1) / 6 * factor).to(torch.float8_e4m3fn)
    return {"weight_scale": scale.float(), "weight_global_scale": factor}


def record_modelopt(torch: Any) -> None:
    module = import_module("modelopt.torch.quantization.qtensor.nvfp4_tensor")
    w = weight(torch)
    packed, scale, factor = module.NVFP4QTensor.quantize(w, 16)
    values = packed.dequantize(
        dtype=torch.float32, scale=scale, double_scale=factor, block_sizes={-1: 16}
    )
    tensors = {
        "weight": packed._quantized_data,
        "weight_scale": scale,
        "weight_scale_2": factor,
        "input_scale": torch.tensor(0.01),
    }
    record("modelopt_nvfp4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, tensors, values)


def record_transformers(torch: Any) -> None:
    bitnet = import_module("transformers.integrations.bitnet")
    for linear_class in ("bitlinear", "autobitlinear"):
        ternary = torch.randint(-1, 2, (64, 256), generator=torch.Generator().manual_seed(1))
        packed = bitnet.pack_weights(ternary.clone().float())
        scale = torch.tensor([1.21875], dtype=torch.bfloat16)
        codes = bitnet.unpack_weights(packed, dtype=torch.float32)
        assert bool((codes == ternary).all())
        is_divisor = linear_class == "bitlinear"
        values = codes / scale.float() if is_divisor else codes * scale.float()
        config = {"quant_method": "bitnet", "linear_class": linear_class}
        config["quantization_mode"] = "offline"
        tensors = {"weight": packed, "weight_scale": scale}
        record(f"bitnet_{linear_class}", config, tensors, values)
    fp8 = import_module("transformers.integrations.finegrained_fp8")
    w = weight(torch)
    scale = (w.reshape(2, 32, 2, 64).abs().amax((1, 3)) / 448).float()
    spread = scale.repeat_interleave(32, 0).repeat_interleave(64, 1)
    packed = (w / spread).to(torch.float8_e4m3fn)
    values = fp8.Fp8Dequantize(None)._dequantize_one(packed, scale)
    told = {"quant_method": "fp8", "weight_block_size": [32, 64]}
    record("fp8_block", told, {"weight": packed, "weight_scale_inv": scale}, values.float())


def main() -> None:
    torch = import_module("torch")
    RECORDED.unlink(missing_ok=True)
    record_gptq(torch, Path(sys.argv[1]))
    record_awq(torch, Path(sys.argv[2]))
    record_bitsandbytes(torch)
    record_hqq(torch)
    record_compressed_tensors(torch)
    record_modelopt(torch)
    record_transformers(torch)


if __name__ == "__main__":
    main()
