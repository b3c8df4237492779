"""LoRA adapters of PEFT: merged into a checkpoint as it is read, or written as a GGUF of their own.

Methods: LoRA, arXiv 2106.09685; rsLoRA, arXiv 2312.03732; DoRA, arXiv 2402.09353.
"""
