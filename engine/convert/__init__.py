"""From a Hugging Face checkpoint to GGUF: architectures, tokenizers, and the job that writes.

A checkpoint is seen as a GGUF that is not written yet (`view.CheckpointView`), so that it can be
shrunk or judged without a 16-bit file in between.
"""
