"""The starter's tokenizer: byte-level BPE, every digit by itself, ChatML marks as tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from dialogues import Dialogues, Turn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

N_VOCAB = 4096
END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_CONVERSATIONS, _TURNS = 20_000, 10


def train(seed: int) -> Tokenizer:
    """Learn the merges from conversations."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=[END_OF_TEXT, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    assert tokenizer.get_vocab_size() == N_VOCAB
    return tokenizer


def _texts(seed: int) -> Iterator[str]:
    dialogues = Dialogues(seed)
    for _ in range(_CONVERSATIONS):
        for turn in itertools.islice(dialogues.conversation(), _TURNS):
            yield turn.text


class Encoder:
    """Turns conversations into ids, as the chat template writes them, and says what is learned."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self._start, self._end = ids[START], ids[END]
        self._newline = tokenizer.encode("\n").ids
        self._roles = {
            role: [self._start, *tokenizer.encode(f"{role}\n").ids]
            for role in ("system", "user", "assistant")
        }

    def encode(self, turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        """(ids, learned): learned are the answers with the token that ends them."""
        ids: list[int] = []
        learned: list[bool] = []
        for turn, text in zip(turns, self._encode_texts(turns), strict=True):
            head = self._roles[turn.role]
            ids += head + text + [self._end] + self._newline
            learned += [False] * len(head)
            learned += [turn.role == "assistant"] * (len(text) + 1)
            learned += [False] * len(self._newline)
        return ids, learned

    def _encode_texts(self, turns: Sequence[Turn]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch([turn.text for turn in turns])]
