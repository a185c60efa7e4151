"""Small text models that were really trained, in the test and in seconds, saved as users have them.

Their language has words that speak for a class and words that name somebody, so that every answer has a
reason and a margin, and a model that answers by chance is caught.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from tests.simulators.text_bundles import write_words

GOOD = tuple(f"good{number}" for number in range(8))
BAD = tuple(f"bad{number}" for number in range(8))
FIRST = tuple(f"first{number}" for number in range(6))
LAST = tuple(f"last{number}" for number in range(6))
PLAIN = tuple(f"plain{number}" for number in range(20))
WORDS = (*GOOD, *BAD, *FIRST, *LAST, *PLAIN)
SENTIMENTS = ("bad", "good")
TAGS = ("O", "B-PER", "I-PER")
LENGTH = 16
_SHIFT = 4
"""Ids of the special tokens come first; see `write_words`."""
_CLS, _SEP, _PAD = 1, 2, 3


def review(dice: np.random.Generator) -> tuple[str, int]:
    """Give a text of plain words with one to three that speak for one class, and the class."""
    label = int(dice.integers(2))
    words = [*dice.choice(PLAIN, dice.integers(3, 9)), *dice.choice((BAD, GOOD)[label], dice.integers(1, 4))]
    return " ".join(dice.permutation(words)), label


def letter(dice: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Give a text in which somebody of one or two names may stand, and a tag a word."""
    words, tags = list(dice.choice(PLAIN, dice.integers(3, 8))), []
    tags = [0] * len(words)
    if dice.random() < 0.8:
        at = int(dice.integers(len(words) + 1))
        words[at:at] = [str(dice.choice(FIRST)), str(dice.choice(LAST))]
        tags[at:at] = [1, 2]
    return " ".join(words), tuple(tags)


def save_classifier(folder: Path) -> Path:
    """Train and save a text classifier: config, safetensors, tokenizer."""
    model = _bert("ForSequenceClassification", SENTIMENTS)
    dice = np.random.default_rng(3)
    texts, labels = zip(*(review(dice) for _ in range(256)), strict=True)
    ids, mask = _tensors(texts)
    _train(model, ids, mask, torch.tensor(labels))
    return _save(model, folder)


def save_tagger(folder: Path) -> Path:
    """Train and save a tagger of names; -100 in its training keeps special tokens out."""
    model = _bert("ForTokenClassification", TAGS)
    dice = np.random.default_rng(4)
    texts, tags = zip(*(letter(dice) for _ in range(256)), strict=True)
    ids, mask = _tensors(texts)
    labels = torch.full(ids.shape, -100)
    for row, known in enumerate(tags):
        labels[row, 1 : 1 + len(known)] = torch.tensor(known)
    _train(model, ids, mask, labels)
    return _save(model, folder)


def _bert(kind: str, labels: tuple[str, ...]) -> Any:
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + _SHIFT,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
    )
    return getattr(transformers, f"Bert{kind}")(config)


def _tensors(texts: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    places = {word: at for at, word in enumerate(WORDS, _SHIFT)}
    rows = [[_CLS, *(places[word] for word in text.split()), _SEP] for text in texts]
    ids = torch.tensor([row + [_PAD] * (LENGTH - len(row)) for row in rows])
    return ids, (ids != _PAD).long()


def _train(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> None:
    guide = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(40):
        guide.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        guide.step()


def _save(model: Any, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    write_words(folder / "tokenizer.json", WORDS)
    return folder
