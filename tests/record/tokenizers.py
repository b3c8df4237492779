"""The tokenizers of the families, with the files that they have on the hub and tiny vocabularies.

llama.cpp's converter knows pre-tokenizers by a hash of what the real tokenizer makes of a text, so
each byte-level tokenizer comes with the name that its family has there.
"""

from __future__ import annotations

from tests.helpers.checkpoints import CHATML
from tests.helpers.tiny_tokenizers import CONTROL, SPACE, UNKNOWN, USER_DEFINED
from tests.record.tokenizer import GPT2, NFC, byte_level, names, sentencepiece

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = QWEN2.replace(r"\p{L}+|\p{N}|", r"[\p{L}\p{M}]+|\p{N}|").replace(
    r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    (
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
        "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
)
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295"
    "-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-"
    "\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
    "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00"
    "-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f"
    "-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6"
    "-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119"
    "-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680"
    "-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_LLM = (
    "[\r\n]",
    r"\s?[" + _DEEPSEEK_LETTERS + "]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    "[一-龥ࠀ-一가-\ud7ff]+",
    "Digits",
)
_AT = {
    "__type": "AddedToken",
    "lstrip": False,
    "normalized": False,
    "rstrip": False,
    "single_word": False,
}
LLAMA_3 = byte_level(
    "llama-bpe",
    (LLAMA3,),
    ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
     "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
    names("<|begin_of_text|>", "<|eot_id|>", None, "PreTrainedTokenizerFast"),
    begin=("<|begin_of_text|>",),
    ignore_merges=True,
)  # fmt: skip
LLAMA_2 = sentencepiece(
    {
        **names(None, "</s>", None, "LlamaTokenizer", add_bos_token=True, add_eos_token=False),
        "bos_token": {**_AT, "content": "<s>"},
        "eos_token": {**_AT, "content": "</s>"},
        "unk_token": {**_AT, "content": "<unk>"},
        "legacy": False,
        "sp_model_kwargs": {},
    },
    begin=("<s>",),
    says_added=False,
)
LLAMA_WITHOUT_MODEL = sentencepiece(
    names("<s>", "</s>", "</s>", "LlamaTokenizer", unk_token="<unk>", legacy=False),
    added=(("<|im_start|>", True), ("<|im_end|>", True), ("<think>", False)),
    begin=("<s>",),
    has_model=False,
)
MISTRAL = sentencepiece(
    names("<s>", "</s>", None, "LlamaTokenizer", unk_token="<unk>", legacy=False,
          add_bos_token=True, add_eos_token=False),
    front=(("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("[INST]", CONTROL),
           ("[/INST]", CONTROL), ("[TOOL_CALLS]", CONTROL)),
    begin=("<s>",),
)  # fmt: skip
YI = sentencepiece(
    names("<|startoftext|>", "<|im_end|>", "<unk>", "LlamaTokenizer", unk_token="<unk>",
          add_bos_token=False, add_eos_token=False, legacy=True, sp_model_kwargs={}),
    front=(("<unk>", UNKNOWN), ("<|startoftext|>", CONTROL), ("<|endoftext|>", CONTROL),
           *((f"<|{name}|>", USER_DEFINED) for name in (
               "Human", "Assistant", "System", "im_start", "im_end"))),
    dummy_prefix=False,
    has_json=False,
)  # fmt: skip
TEKKEN = byte_level(
    "tekken",
    (O200K.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}"),),
    ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<pad>"),
    names("<s>", "</s>", None, "PreTrainedTokenizerFast", unk_token="<unk>", add_bos_token=True,
          add_eos_token=False, add_prefix_space=False),
    in_front=True,
    begin=("<s>",),
    ignore_merges=True,
)  # fmt: skip
QWEN_2 = byte_level(
    "qwen2",
    (QWEN2,),
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    names(None, "<|im_end|>", "<|endoftext|>", "Qwen2Tokenizer", add_bos_token=False,
          add_prefix_space=False, errors="replace", split_special_tokens=False, unk_token=None),
    plain=("<tool_call>", "</tool_call>", "<|fim_prefix|>"),
    normalizer=NFC,
)  # fmt: skip
QWEN_35 = byte_level(
    "qwen35",
    (QWEN35,),
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    names(None, "<|im_end|>", "<|endoftext|>", "Qwen2Tokenizer", add_bos_token=False,
          add_prefix_space=False, errors="replace", split_special_tokens=False, unk_token=None),
    plain=("<tool_call>", "</tool_call>", "<think>", "</think>"),
    normalizer=NFC,
    files={"chat_template.jinja": CHATML},
)  # fmt: skip
_GEMMA_FRONT = (
    ("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", UNKNOWN),
    ("<mask>", USER_DEFINED), ("<2mass>", USER_DEFINED), ("[@BOS@]", USER_DEFINED),
    *((f"<unused{i}>", USER_DEFINED) for i in range(3)), ("<start_of_turn>", USER_DEFINED),
    ("<end_of_turn>", USER_DEFINED), ("\n\n", USER_DEFINED), (SPACE * 2, USER_DEFINED),
)  # fmt: skip
GEMMA = sentencepiece(
    names("<bos>", "<eos>", "<pad>", "GemmaTokenizer", unk_token="<unk>", add_bos_token=True,
          add_eos_token=False, sp_model_kwargs={}, spaces_between_special_tokens=False,
          use_default_system_prompt=False),
    front=_GEMMA_FRONT,
    ids=(3, 2, 1, 0),
    dummy_prefix=False,
    begin=("<bos>",),
)  # fmt: skip
GEMMA_3 = sentencepiece(
    {**GEMMA["config"], "boi_token": "<start_of_image>", "extra_special_tokens": {}},
    front=_GEMMA_FRONT,
    ids=(3, 2, 1, 0),
    added=(("<start_of_image>", True), ("<end_of_image>", True), ("<image_soft_token>", True)),
    dummy_prefix=False,
    begin=("<bos>",),
)
GEMMA_4 = sentencepiece(
    names("<bos>", "<eos>", "<pad>", "GemmaTokenizer", unk_token="<unk>", mask_token="<mask>",
          padding_side="left", image_token="<|image|>"),
    front=(("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", UNKNOWN),
           ("<mask>", CONTROL), ("[multimodal]", USER_DEFINED),
           *((f"<unused{i}>", USER_DEFINED) for i in range(4)), ("<|tool_call>", USER_DEFINED),
           ("<turn|>", CONTROL), ("<|turn>", CONTROL), ("<|channel>", CONTROL),
           ("\n\n", USER_DEFINED), (SPACE * 2, USER_DEFINED)),
    added=(("<|image>", True), ("<|image|>", True), ("<image|>", True)),
    dummy_prefix=False,
    begin=("<bos>",),
    has_model=False,
    says_added=False,
    files={"chat_template.jinja": CHATML},
)  # fmt: skip
del GEMMA_4["config"]["chat_template"]
PHI_3 = sentencepiece(
    names("<s>", "<|endoftext|>", "<|endoftext|>", "LlamaTokenizer", unk_token="<unk>",
          add_bos_token=False, add_eos_token=False, legacy=False, sp_model_kwargs={},
          use_default_system_prompt=False, padding_side="left"),
    added=tuple((f"<|{name}|>", True) for name in (
        "endoftext", "assistant", "placeholder1", "system", "end", "user")),
    begin=("<s>",),
)  # fmt: skip
PHI_3["files"] = {
    "added_tokens.json": {text: i for i, text, _ in PHI_3["added"] if text.startswith("<|")}
}
GPT_OSS = byte_level(
    "gpt-4o",
    (O200K,),
    tuple(f"<|{name}|>" for name in ("startoftext", "endoftext", "return", "constrain", "channel",
                                      "start", "end", "message", "call")),
    names("<|startoftext|>", "<|return|>", "<|endoftext|>", "PreTrainedTokenizerFast"),
    files={"chat_template.jinja": CHATML},
)  # fmt: skip
del GPT_OSS["config"]["chat_template"]
PHI_2 = byte_level(
    "phi-2",
    (GPT2,),
    ("<|endoftext|>",),
    names("<|endoftext|>", "<|endoftext|>", None, "CodeGenTokenizer", unk_token="<|endoftext|>",
          add_prefix_space=False, return_token_type_ids=False),
    plain=("  ", "    ", "\t\t"),
)  # fmt: skip
PHI_4 = byte_level(
    "dbrx",
    (LLAMA3,),
    ("<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    names("<|endoftext|>", "<|im_end|>", "<|endoftext|>", "GPT2Tokenizer", add_prefix_space=False),
)
PHI_4_MINI = byte_level(
    "gpt-4o",
    (O200K,),
    ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"),
    names("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "GPT2Tokenizer", add_eos_token=False,
          add_prefix_space=False, unk_token="<|endoftext|>"),
    plain=("<|tool|>", "<|/tool|>", "<|tool_call|>"),
)  # fmt: skip
GRANITE = byte_level(
    "refact",
    ("Digits", GPT2),
    ("<|end_of_text|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<reponame>"),
    names("<|end_of_text|>", "<|end_of_text|>", "<|end_of_text|>", "GPT2Tokenizer",
          add_bos_token=False, unk_token="<|end_of_text|>", vocab_size=49152, errors="replace"),
    in_front=True,
)  # fmt: skip
OLMO_2 = byte_level(
    "dbrx",
    (LLAMA3,),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"),
    names(None, "<|endoftext|>", "<|pad|>", "GPT2Tokenizer", add_prefix_space=False,
          unk_token="<|endoftext|>"),
)  # fmt: skip
OLMOE = byte_level(
    "olmo",
    (GPT2,),
    ("|||IP_ADDRESS|||", "<|padding|>", "<|endoftext|>"),
    names("<|endoftext|>", "<|endoftext|>", "<|padding|>", "GPTNeoXTokenizer", add_bos_token=False,
          add_eos_token=False, add_prefix_space=False, unk_token=None),
    plain=("        ", "    "),
    in_front=True,
    normalizer=NFC,
)  # fmt: skip
SMOLLM_3 = byte_level(
    "llama-bpe",
    (LLAMA3,),
    ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
    names(None, "<|im_end|>", "<|im_end|>", "PreTrainedTokenizerFast", fast=False),
    plain=("<think>", "</think>"),
    ignore_merges=True,
)
_GLM_SPECIAL = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>",
                "<|user|>", "<|assistant|>", "<|observation|>")  # fmt: skip
_GLM_NAMES = names(None, "<|endoftext|>", "<|endoftext|>", "PreTrainedTokenizer",
                   additional_special_tokens=list(_GLM_SPECIAL), do_lower_case=False,
                   padding_side="left", remove_space=False)  # fmt: skip
GLM = byte_level("glm4", (LLAMA3,), _GLM_SPECIAL, _GLM_NAMES, begin=("[gMASK]", "<sop>"))
GLM_4 = byte_level("glm4", (LLAMA3,), _GLM_SPECIAL, _GLM_NAMES)
STARCODER_2 = byte_level(
    "starcoder",
    ("Digits", GPT2),
    ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<repo_name>", "<file_sep>"),
    names("<|endoftext|>", "<|endoftext|>", None, "GPT2Tokenizer", unk_token="<|endoftext|>",
          vocab_size=49152, add_prefix_space=False),
    in_front=True,
)  # fmt: skip
STABLELM_2 = byte_level(
    "stablelm2",
    (QWEN2,),
    ("<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_end|>", "<|reg_extra|>"),
    names("<|endoftext|>", "<|endoftext|>", "<|endoftext|>", "GPT2Tokenizer",
          add_prefix_space=False, unk_token="<|endoftext|>"),
    normalizer=NFC,
)  # fmt: skip
COHERE = byte_level(
    "command-r",
    ("Digits", GPT2),
    ("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>",
     "<EOP_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    names("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<PAD>", "CohereTokenizer", add_bos_token=True,
          add_eos_token=False, add_prefix_space=False, legacy=True, merges_file=None,
          sp_model_kwargs={}, unk_token=None, use_default_system_prompt=False,
          spaces_between_special_tokens=False),
    in_front=True,
    begin=("<BOS_TOKEN>",),
    normalizer=NFC,
)  # fmt: skip
_DEEPSEEK_SPECIAL = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
_DEEPSEEK_PLAIN = ("<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<｜▁pad▁｜>")
_DEEPSEEK_NAMES = {
    **names(None, "", None, "LlamaTokenizerFast", add_bos_token=True, add_eos_token=False,
            legacy=True, sp_model_kwargs={}, unk_token=None, use_default_system_prompt=False),
    **{f"{role}_token": {**_AT, "content": _DEEPSEEK_SPECIAL[i], "normalized": True}
       for role, i in (("bos", 0), ("eos", 1), ("pad", 1))},
}  # fmt: skip
DEEPSEEK_2 = byte_level(
    "deepseek-llm",
    DEEPSEEK_LLM,
    _DEEPSEEK_SPECIAL,
    _DEEPSEEK_NAMES,
    plain=_DEEPSEEK_PLAIN,
    begin=_DEEPSEEK_SPECIAL[:1],
)
DEEPSEEK_3 = byte_level(
    "deepseek-v3",
    DEEPSEEK_V3,
    _DEEPSEEK_SPECIAL,
    _DEEPSEEK_NAMES,
    plain=_DEEPSEEK_PLAIN,
    begin=_DEEPSEEK_SPECIAL[:1],
)
for _spec in (DEEPSEEK_2, DEEPSEEK_3):
    del _spec["config"]["added_tokens_decoder"]
MINICPM = sentencepiece(
    names("<s>", "</s>", None, "LlamaTokenizer", unk_token="<unk>", add_bos_token=True,
          add_eos_token=False, legacy=True, spaces_between_special_tokens=False),
    begin=("<s>",),
)  # fmt: skip
