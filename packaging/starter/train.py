"""Trains the starter model from its dialogues and writes a Hugging Face checkpoint.

    python packaging/starter/train.py build/starter --tokens 25e6

Needs the optional packages (`pip install .[starter]`). Two processor cores read about 6,000 tokens
a second. A run that was stopped goes on from its last state.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import vocabulary
from dialogues import Dialogues, Turn
from model import Config, Llama
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

SEED = 1


@dataclass(frozen=True)
class Phase:
    """A part of the training: `share` of all tokens in rows of `row` tokens, `rows` a step."""

    share: float
    row: int
    rows: int


# Short rows first, since most questions are the first of a conversation; long ones at the end
# teach the far positions.
PHASES = (Phase(0.94, 192, 24), Phase(0.06, 1024, 6))
LEARNING_RATE, LAST_RATE, WARM_UP = 2e-3, 2e-5, 0.02
IGNORED = -100  # the target of a token that is not learned, as cross_entropy has it


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the starter model.")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--tokens", type=float, default=25e6)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer_path = args.out / "tokenizer.json"
    if not tokenizer_path.exists():
        vocabulary.train(SEED).save(str(tokenizer_path))
    torch.manual_seed(SEED)
    model = Llama(Config())
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    train(model, Tokenizer.from_file(str(tokenizer_path)), args.tokens, args.out / "state.pt")
    write_checkpoint(model, args.out)


def train(model: Llama, tokenizer: Tokenizer, n_tokens: float, state_path: Path) -> None:
    """Train in place on about `n_tokens` tokens; the state is saved every five minutes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.95),
    )
    steps = [phase for phase in PHASES for _ in range(n_steps(phase, n_tokens))]
    first = restore(state_path, model, optimizer)
    compiled = torch.compile(model)
    started = saved = time.monotonic()
    read = 0
    # Another seed for every start, so that a run that goes on reads what it has not read.
    stream = Rows(Dialogues(SEED + 1 + first), vocabulary.Encoder(tokenizer))
    for step in range(first, len(steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step / len(steps))
        ids, targets = (t.to(device) for t in stream.batch(steps[step]))
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(model, compiled(ids[:, :-1]), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        read += ids.numel()
        if step % 100 == 0 or step == len(steps) - 1:
            pace = read / (time.monotonic() - started)
            print(f"step {step}/{len(steps)} loss {loss.item():.4f} {pace:.0f} tok/s", flush=True)
        if time.monotonic() - saved > 300:
            saved = time.monotonic()
            torch.save((step + 1, model.state_dict(), optimizer.state_dict()), state_path)
    state_path.unlink(missing_ok=True)


def n_steps(phase: Phase, n_tokens: float) -> int:
    return round(phase.share * n_tokens / (phase.row * phase.rows))


def learning_rate(done: float) -> float:
    """Up in a line, down in a cosine."""
    if done < WARM_UP:
        return LEARNING_RATE * done / WARM_UP
    left = (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    return LAST_RATE + (LEARNING_RATE - LAST_RATE) * left


def restore(path: Path, model: Llama, optimizer: torch.optim.Optimizer) -> int:
    """Load the saved state if there is one; returns the step to go on with."""
    if not path.exists():
        return 0
    step, weights, moments = torch.load(path, weights_only=True)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return int(step)


def loss_of(model: Llama, hidden: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the learned tokens; logits are computed for those alone."""
    learned = targets != IGNORED
    return cross_entropy(model.logits(hidden[learned]).float(), targets[learned])


class Rows:
    """Conversations as rows of ids, each row one conversation."""

    def __init__(self, dialogues: Dialogues, encoder: vocabulary.Encoder) -> None:
        self._dialogues = dialogues
        self._encoder = encoder

    def batch(self, phase: Phase) -> tuple[Tensor, Tensor]:
        """(ids (rows, row + 1), targets (rows, row)): a target is the next id, or IGNORED."""
        rows = [self._row(phase.row + 1) for _ in range(phase.rows)]
        ids = torch.tensor([ids for ids, _ in rows])
        learned = torch.tensor([learned for _, learned in rows])[:, 1:]
        return ids, torch.where(learned, ids[:, 1:], IGNORED)

    def _row(self, n: int) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        learned: list[bool] = []
        for turns in chunks(self._dialogues.conversation(), 8):
            more_ids, more_learned = self._encoder.encode(turns)
            ids += more_ids
            learned += more_learned
            if len(ids) >= n:
                break
        return ids[:n], learned[:n]


def chunks(items: Iterator[Turn], n: int) -> Iterator[list[Turn]]:
    while chunk := list(itertools.islice(items, n)):
        yield chunk


def write_checkpoint(model: Llama, folder: Path) -> None:
    """Write weights in BF16, config and template as Hugging Face lays them out."""
    weights = {
        f"model.{name}": tensor.to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.END_OF_TEXT,
        "eos_token": vocabulary.END,
        "pad_token": vocabulary.END_OF_TEXT,
        "add_bos_token": False,
        "model_max_length": model.config.max_position_embeddings,
        "chat_template": vocabulary.CHAT_TEMPLATE,
    }
    for name, content in (
        ("config.json", model.config.as_json()),
        ("tokenizer_config.json", tokenizer_config),
        ("generation_config.json", {"eos_token_id": 2, "pad_token_id": 0}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
