"""What `tests.record.general` asks upstream: names of models, model cards, sizes.

The names are of models that were published, and of folders as people name them; the cards are
written here in the shapes that real ones have.
"""

from __future__ import annotations

from typing import Any

# Each with its count of parameters. One with an owner is told by config.json.
NAMES = """
0.6e9 Qwen3-0.6B
30.5e9 Qwen3-30B-A3B-Instruct-2507
235e9 Qwen3-235B-A22B
80e9 Qwen3-Next-80B-A3B-Thinking
30.5e9 Qwen3-Coder-30B-A3B-Instruct
7.6e9 Qwen2.5-7B-Instruct-1M
14.8e9 Qwen2.5-Coder-14B-Instruct
1.5e9 Qwen2.5-Math-1.5B
14.3e9 Qwen1.5-MoE-A2.7B-Chat
1.8e9 Qwen-1_8B-Chat
32.8e9 QwQ-32B-Preview
7.7e9 Qwen/Qwen2-7B
1.2e9 Llama-3.2-1B-Instruct
8e9 Meta-Llama-3.1-8B-Instruct
70.6e9 Llama-3.3-70B-Instruct
109e9 Llama-4-Scout-17B-16E-Instruct
6.7e9 Llama-2-7b-chat-hf
6.7e9 meta-llama/Llama-2-7b-hf
6.7e9 CodeLlama-7b-Python-hf
70e9 Llama-3.1-Nemotron-70B-Instruct-HF
8e9 Hermes-3-Llama-3.1-8B
8e9 Hermes-2-Pro-Llama-3-8B
8e9 DeepHermes-3-Llama-3-8B-Preview
8e9 dolphin-2.9.1-llama-3-8b
8e9 L3-8B-Stheno-v3.2
8e9 Llama-3-8B-Instruct-Gradient-1048k
8e9 Llama-3-8B-Instruct-262k
7.2e9 Mistral-7B-v0.1
7.2e9 Mistral-7B-Instruct-v0.3
7.2e9 OpenHermes-2.5-Mistral-7B
7.2e9 zephyr-7b-beta
12.2e9 Mistral-Nemo-Instruct-2407
23.6e9 Mistral-Small-3.2-24B-Instruct-2506
24e9 Magistral-Small-2509
123e9 Mistral-Large-Instruct-2411
8e9 Ministral-8B-Instruct-2410
22e9 Codestral-22B-v0.1
24e9 Devstral-Small-2507
46.7e9 Mixtral-8x7B-v0.1
46.7e9 Mixtral-8x7B-Instruct-v0.1
141e9 Mixtral-8x22B-Instruct-v0.1
46.7e9 Nous-Hermes-2-Mixtral-8x7B-DPO
2.5e9 gemma-2b-it
9.2e9 gemma-2-9b-it
8.5e9 gemma-1.1-7b-it
1e9 gemma-3-1b-it
4.3e9 gemma-3-4b-it-qat-q4_0-unquantized
270e6 gemma-3-270m
6.9e9 gemma-3n-E4B-it
7.5e9 codegemma-7b
9.2e9 google/gemma-2-9b
3.8e9 Phi-3-mini-4k-instruct
3.8e9 Phi-3-mini-128k-instruct
7.4e9 Phi-3-small-8k-instruct
14e9 Phi-3-medium-128k-instruct
3.8e9 Phi-3.5-mini-instruct
41.9e9 Phi-3.5-MoE-instruct
14.7e9 phi-4
3.8e9 Phi-4-mini-instruct
14.7e9 Phi-4-reasoning-plus
2.8e9 phi-2
1.4e9 microsoft/phi-1_5
684e9 DeepSeek-V3-0324
684e9 DeepSeek-R1
1.8e9 DeepSeek-R1-Distill-Qwen-1.5B
8e9 DeepSeek-R1-Distill-Llama-8B
8.2e9 DeepSeek-R1-0528-Qwen3-8B
15.7e9 DeepSeek-V2-Lite-Chat
6.7e9 deepseek-coder-6.7b-instruct
7e9 deepseek-llm-7b-chat
16.4e9 deepseek-moe-16b-base
20.9e9 gpt-oss-20b
117e9 openai/gpt-oss-120b
135e6 SmolLM2-135M-Instruct
1.7e9 SmolLM2-1.7B
3.1e9 SmolLM3-3B
6.9e9 OLMoE-1B-7B-0924
6.9e9 OLMoE-1B-7B-0924-Instruct
7.3e9 OLMo-2-1124-7B-Instruct
1.5e9 OLMo-2-0425-1B
7.3e9 Olmo-3-7B-Think
6.9e9 OLMo-7B-0724-Instruct-hf
35e9 c4ai-command-r-v01
104e9 c4ai-command-r-plus
32.3e9 c4ai-command-r-08-2024
8e9 c4ai-command-r7b-12-2024
8e9 aya-expanse-8b
1.1e9 TinyLlama-1.1B-Chat-v1.0
1.1e9 TinyLlama-1.1B-intermediate-step-1431k-3T
1.1e9 TinyLlama/TinyLlama_v1.1
8.2e9 granite-3.3-8b-instruct
1.3e9 granite-3.1-1b-a400m-instruct
3.2e9 granite-4.0-h-micro
6.9e9 granite-4.0-h-tiny
34e9 granite-34b-code-instruct-8k
7e9 falcon-7b-instruct
180e9 falcon-180B-chat
10.3e9 Falcon3-10B-Instruct
1.5e9 Falcon-H1-1.5B-Deep-Instruct
7.3e9 Falcon3-Mamba-7B-Instruct
7.1e9 bloom-7b1
560e6 bloomz-560m
176e9 bigscience/bloom
1.6e9 stablelm-2-1_6b-chat
2.8e9 stablelm-zephyr-3b
12.1e9 stablelm-2-12b
15.5e9 starcoder
3e9 starcoder2-3b
15.9e9 starcoder2-15b-instruct-v0.1
6.9e9 pythia-6.9b-deduped
1.4e9 pythia-1.4b-v0
20.6e9 gpt-neox-20b
2.7e9 EleutherAI/gpt-neo-2.7B
124e6 gpt2
355e6 gpt2-medium
774e6 gpt2-large
1.6e9 gpt2-xl
6.7e9 opt-6.7b
7e9 mpt-7b-8k-chat
30e9 mpt-30b-instruct
34.4e9 Yi-34B-200K
34.4e9 Yi-1.5-34B-Chat-16K
8.8e9 Yi-Coder-9B-Chat
7.7e9 internlm2_5-7b-chat-1m
8.8e9 internlm3-8b-instruct
20e9 internlm2-chat-20b-sft
4.1e9 MiniCPM3-4B
2.7e9 MiniCPM-2B-sft-bf16
13e9 Baichuan2-13B-Chat
9.4e9 glm-4-9b-chat-1m
32.6e9 GLM-4-32B-0414
107e9 GLM-4.5-Air
2.4e9 EXAONE-3.5-2.4B-Instruct
32e9 EXAONE-4.0-32B
8e9 Apertus-8B-Instruct-2509
3.1e9 Nemotron-Mini-4B-Instruct
9e9 NVIDIA-Nemotron-Nano-9B-v2
30e9 NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
49.9e9 Llama-3_3-Nemotron-Super-49B-v1_5
1000e9 Kimi-K2-Instruct-0905
48e9 Kimi-Linear-48B-A3B-Instruct
15.9e9 Moonlight-16B-A3B-Instruct
456e9 MiniMax-Text-01
389e9 Hunyuan-A52B-Instruct
80e9 Hunyuan-A13B-Instruct
0.5e9 Hunyuan-0.5B-Instruct
21e9 ERNIE-4.5-21B-A3B-PT
0.36e9 ERNIE-4.5-0.3B-Base-PT
16.8e9 Ling-lite-1.5
1.2e9 LFM2-1.2B
8.3e9 LFM2-8B-A1B
2.8e9 mamba-2.8b-hf
132e9 dbrx-instruct
10.7e9 SOLAR-10.7B-Instruct-v1.0
21.4e9 SOLAR-KO-21.4B-iter2
7.2e9 Starling-LM-7B-beta-iter3-v2
7.2e9 WizardLM-2-7B
13e9 vicuna-13b-v1.5-16k
13e9 Xwin-LM-13B-V0.2
7.2e9 Mistral-7B-Merge-14-v0.1
11e9 Fimbulvetr-11B-v2
656e3 TinyStories-656K
260e3 stories260K-hf
7.3e6 measure-7m
1.3e6 Tiny
7.2e9 My Fine Model v2
8e9 my_finetune
8e9 llama3-8b-lora-r16
8e9 Llama-3-8B-Instruct-chat-vision-LoRA
6.7e9 checkpoint-500
1.2e9 2024-06-01-run
1.2e9 v2
1.2e9 1.0-2.0
8e9 model.v1.2-8B-fp16
8e9 model-8B-F32-iq4_xs-q4_k_m
8e9 X-8b-8B-small-xl
3e9 sd3-medium-small
8e9 --odd---name-8B--
8e9 É-modèle-8B-été
8e9 模型-8B-对话
8e9 ALLCAPS-mini
8e9 -8B
8e9 8B
8e9 x-8_5b
8e9 x-9B2
8e9 x-8x
8e9 x-1x8T
8e9 ./my-model-8B
8e9 ../Model-8B-chat
8e9 owner/
8e9 /name-8B
8e9 home/me/Llama-3-8B
8e9 owner/A name
"""

CARD = """---
license: apache-2.0
license_name: apache
license_link: https://example.org/LICENSE
language:
- en
- de
pipeline_tag: text-generation
tags:
- chat
- small
base_model: Qwen/Qwen3-0.6B-Base
datasets:
- HuggingFaceFW/fineweb-edu
library_name: transformers
model-index:
- name: x
  results: [{task: {type: text-generation}, metrics: [{type: acc, value: 0.5}]}]
---
# A model
license: not-this-one
"""

CARDS = {
    "usual": CARD,
    "no front matter": "# A model\n\nlicense: mit\n",
    "empty": "",
    "empty front matter": "---\n---\n# A model\n",
    "never closed": "---\nlicense: mit\ntags: [a]\n",
    "not the first line": "\n---\nlicense: mit\n---\n",
    "space behind the dashes": "--- \nlicense: mit\n---\n",
    "byte order mark": "\ufeff---\nlicense: mit\n---\n",
    "carriage returns": "---\r\nlicense: mit\r\ntags:\r\n- a\r\n---\r\n",
    "tabs": "---\ntags:\n-\ta\n-\tb\nlicense:\tmit\n---\n",
    "indented lists": "---\ntags:\n  - a\n  - b # with a remark\nlanguage: [en, 'no']\n---\n",
    "flow": '---\n{license: mit, "tags": [a, b], language: en}\n---\n',
    "quoted": '---\n"license": \'mit\'\n\'tags\': ["a"]\nauthor: "\\"x\\" \\u00e9"\n---\n',
    "one text for each list": "---\ntags: a\nlanguage: en\nlanguages: de\npipeline_tag: b\n---\n",
    "lists for texts": "---\nlicense: [mit, apache-2.0]\npipeline_tag: [a, b]\n---\n",
    "nulls": "---\nlicense:\nlicense_name: null\ntags: ~\nbase_model:\ndatasets: NULL\n---\n",
    "empty lists": "---\ntags: []\nlanguage: []\nbase_model: []\ndatasets: []\n---\n",
    "Norwegian in a list": "---\nlanguage:\n- en\n- no\n- sv\n---\n",
    "dicts where texts belong": "---\nbase_model: {name: x}\ntags: {a: b}\nlanguage: {a: b}\n---\n",
    "all of llama.cpp's own": (
        "---\nname: A name\nauthor: Me\nversion: v9\norganization: us\nfinetune: Chat\n"
        "basename: Base\ndescription: >\n  Two\n  lines\nsize_label: 5T\nurl: https://a.example\n"
        "doi: 10.1/2\nuuid: 6f1d\nrepo_url: https://b.example\n---\n"
    ),
    "all with model_": (
        "---\nmodel_name: A-name\nmodel_author: Me\nmodel_version: v9\nmodel_organization: us\n"
        "model_finetune: Chat\nmodel_basename: Base\nmodel_description: Words\n"
        "model_size_label: 5T\nmodel_url: https://a.example\nmodel_doi: 10.1/2\n"
        "model_uuid: 6f1d\nmodel_repo_url: https://b.example\n---\n"
    ),
    "both": "---\nmodel_name: second\nname: first\nmodel_creator: C\nmodel_type: qwen\n---\n",
    "creator": "---\nmodel_creator: C\nmodel_author: A\nmodel_type: qwen\nmodel_basename: B\n---\n",
    "bases": (
        "---\nbase_model:\n- mistralai/Mistral-7B-v0.1\n- just-a-name-7B\n- A sentence of words\n"
        "- https://huggingface.co/Qwen/Qwen3-8B\n- http://huggingface.co/a/b-v1.0\n"
        "- https://huggingface.co/a/b/tree/main\n- https://example.org/x-v2\n- ssh://git@x/y\n"
        "- name: N\n  author: A\n  version: v3\n  organization: O\n  description: D\n"
        "  url: U\n  doi: I\n  uuid: X\n  repo_url: R\n  more: M\n- {}\n- './here/x-8B'\n"
        "- a/b/c-v2\n- ''\n---\n"
    ),
    "other keys for bases": "---\nbase_models: [a/B-7B]\ndataset: c/d-v2\n---\n",
    "still other keys": "---\nbase_model_sources: a/B-7B\ndataset_sources: [c/d, {name: E}]\n---\n",
    "bases twice": "---\nbase_models: a/B-7B\nbase_model: c/D-7B\ndataset: e/f\ndatasets:\n---\n",
    "gated": (
        "---\nextra_gated_prompt: >-\n  ### TERMS\n\n  license: none\nextra_gated_fields:\n"
        "  Country: country\n  tags:\n    type: select\n    options:\n    - x\nlicense: gemma\n"
        "widget:\n- text: 'a: b'\n  example_title: \"x\"\n# license: mit\ntags:\n- y\n---\n"
    ),
    "twice": "---\nlicense: mit\ntags: [a]\nlicense: gpl\n---\n",
    "a list": "---\n- license\n- mit\n---\n",
    "a text": "---\njust words\n---\n",
    "a document within": "---\nlicense: mit\n...\ntags: [a]\n---\n",
    "numbers": "---\nversion: 1.0\nlicense: mit\n---\n",
    "a date": "---\nversion: 2024-06-01\nlicense: mit\n---\n",
    "truths": "---\nlicense: no\nname: true\n---\n",
    "Norwegian alone": "---\nlanguage: no\nlicense: mit\n---\n",
    "Norwegian in a row": "---\nlanguage: [en, no]\n---\n",
    "empty texts": "---\nname: ''\nversion: ''\nlicense: ''\ntags: ''\n---\n",
    "damaged": "---\nlicense: mit\ntags: [a\n---\n",
    "damaged elsewhere": "---\nlicense: mit\nwidget: [a: b: c\n---\n",
    "not YAML": "---\nlicense: mit\n description: a: b\n---\n",
    "not UTF-8": b"---\nlicense: mit\nauthor: \xff\n---\n".decode("utf-8", "surrogateescape"),
    "a lone surrogate": '---\nlicense: mit\nauthor: "\\ud800"\ntags: ["\\ud800"]\n---\n',
    "aliases": "---\ntags: &t [a]\nlanguage: *t\n---\n",
    "a class": "---\nlicense: !!python/object:os.system [mit]\n---\n",
    "mixed tags": "---\ntags: [a, 1, true, null, [b], {c: d}]\n---\n",
}

GENERATIONS: dict[str, Any] = {
    "usual": {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": True, "eos_token_id": 1},
    "all": {
        "sequence": "edkypmxt", "top_k": 40, "top_p": 0.9, "min_p": 0.05, "xtc_probability": 0.5,
        "xtc_threshold": 0.1, "temperature": 1, "penalty_last_n": 64, "penalty_repeat": 1.1,
        "mirostat": 2, "mirostat_tau": 5, "mirostat_eta": 0.1,
    },
    "repetition": {"repetition_penalty": 1.05},
    "both penalties": {"repetition_penalty": 1.05, "penalty_repeat": 1.2},
    "a penalty of null": {"repetition_penalty": 1.05, "penalty_repeat": None},
    "nulls": {"temperature": None, "top_k": None},
    "none": {},
    "odd": {"temperature": -1.5, "top_k": -1, "top_p": 0, "sequence": "", "temp": 3},
    "texts": {"temperature": "0.6", "top_k": "20", "sequence": 3},
    "fractions": {"top_k": 20.0, "temperature": 0.7},
    "truths": {"top_k": True, "temperature": False},
    "huge": {"top_k": 1 << 40, "temperature": 1e300, "top_p": 10**400, "min_p": 0.1},
    "nested": {"top_k": [1], "temperature": {"a": 1}},
    "a list": [1, 2],
    "damaged": "{",
    "not a number": '{"temperature": NaN, "top_k": 5}',
}  # fmt: skip

# Tensors by name and shape, columns first.
SIZES: dict[str, list[tuple[str, list[int]]]] = {
    "none": [],
    "one": [("a", [1])],
    "hundreds": [("a", [499])],
    "half a thousand": [("a", [501])],
    "thousands": [("a", [1500])],
    "a million": [("a", [1000, 1000])],
    "more than a million": [("a", [1_000_001])],
    "rounded up": [("a", [9_960_000])],
    "nearly a billion": [("a", [999_999_999])],
    "a billion": [("a", [1_000_000_000])],
    "two billion": [("a", [2_040_000_000])],
    "a trillion and a bit": [("a", [1_000_000_000_001])],
    "Mixtral": [
        ("token_embd.weight", [4096, 32000]),
        ("blk.0.attn_q.weight", [4096, 4096]),
        ("blk.0.ffn_gate_inp.weight", [4096, 8]),
        ("blk.0.ffn_gate_exps.weight", [4096, 14336, 8]),
        ("blk.0.ffn_down_exps.weight", [14336, 4096, 8]),
    ],
    "gpt-oss": [
        ("token_embd.weight", [2880, 201088]),
        ("blk.0.ffn_gate_exps.weight", [2880, 2880, 32]),
        ("blk.0.ffn_gate_exps.bias", [2880, 32]),
        ("blk.0.ffn_up_exps.bias", [2880, 32, 2]),
    ],
    "different numbers of experts": [
        ("blk.0.ffn_gate_exps.weight", [64, 64, 8]),
        ("blk.1.ffn_gate_exps.weight", [64, 64, 5]),
        ("blk.2.ffn_gate_exps.weight", [64, 64, 5, 2]),
    ],
}
