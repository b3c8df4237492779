"""Where the starter lies: the toy model that comes with Snug, to try chat and shrinking with.

How it is made: packaging/starter/.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "starter"

MODEL = _FOLDER / "starter.gguf"
# Help and stories as the model knows them, for measuring what shrinking cost.
TEXT = _FOLDER / "text.txt"
SAMPLE_QUESTION = "What is Snug?"
