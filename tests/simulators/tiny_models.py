"""Small torch modules that a user could hand over: a classifier, a detector, a text encoder, and odd ones.

Tests name them as a recipe does: `tests.simulators.tiny_models:Classifier`. A call gives the same weights
each time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """(n, 3, h, w) float32 -> (n, classes) logits."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.Hardswish(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU6(),
        )
        self.head = nn.Linear(16, classes)

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(self.features(picture).mean((2, 3)))


@dataclass
class Found:
    boxes: Tensor
    scores: dict[str, Tensor]


class Detector(nn.Module):
    """(n, 3, h, w) float32 -> boxes (n, h * w / 4, 4) in [0, 1] and two kinds of scores, in a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.box = nn.Conv2d(8, 4, 1)
        self.scores = nn.Conv2d(8, 3, 1)

    def forward(self, picture: Tensor) -> Found:
        seen = torch.relu(self.stem(picture))
        boxes = self.box(seen).flatten(2).transpose(1, 2).sigmoid()
        scores = self.scores(seen).flatten(2).transpose(1, 2).sigmoid()
        return Found(boxes, {"classes": scores[..., 1:], "objectness": scores[..., :1]})


class Encoder(nn.Module):
    """ids and mask (n, length) int64 -> (n, length, 16) float32."""

    def __init__(self, vocabulary: int = 50) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embed = nn.Embedding(vocabulary, 16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.feed = nn.Linear(16, 16)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embed(input_ids)
        bias = (1.0 - attention_mask[:, None, :].to(x.dtype)) * -10000.0
        bias = bias.expand(-1, input_ids.shape[1], -1).repeat_interleave(2, dim=0)
        seen, _ = self.attend(x, x, x, attn_mask=bias, need_weights=False)
        x = self.norm(x + seen)
        return x + nn.functional.gelu(self.feed(x))


class Moody(nn.Module):
    """Decides by the values it sees, which no exporter can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x)


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Exotic(nn.Module):
    """Has one layer that few targets know."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 4, 1)
        self.odd = Odd()

    def forward(self, picture: Tensor) -> Tensor:
        return self.odd(self.first(picture))


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Rare(nn.Module):
    """Uses operators that coremltools does not know, and torch can write with others."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.5) + x.new_ones((1, 3))


class Chatty(nn.Module):
    """Gives a word beside its tensors."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"y": x, "note": "fine"}


class Echo(nn.Module):
    """Gives one tensor twice and its input as it came, and has no use for its second input."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = torch.relu(x)
        return seen, seen, x


class Dice(nn.Module):
    """Answers differently each time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)
