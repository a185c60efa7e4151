"""Torch modules for published weights whose own package does not load here. Loads no weights."""

import sys
from pathlib import Path

from torch import Tensor, nn

LITE = (
    Path(__file__).resolve().parent.parent
    / ".cache"
    / "bench"
    / "quantize"
    / "efficientnet-lite-pytorch-0.1.0"
)


def _unit(inside: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, out, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(),
    )


class _Block(nn.Module):
    """An inverted residual; Sandler et al., MobileNetV2, 2018."""

    def __init__(self, inside: int, out: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inside * widen
        layers: list[nn.Module] = [_unit(inside, wide, 1)] if widen != 1 else []
        layers += [
            _unit(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """With torchvision's names of layers, so that its weights fit."""

    def __init__(self) -> None:
        super().__init__()
        rows = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        inside = 32
        for widen, out, count, stride in rows:
            for number in range(count):
                layers.append(_Block(inside, out, 1 if number else stride, widen))
                inside = out
        self.features = nn.Sequential(*layers, _unit(inside, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 of width 1: (n, 3, 224, 224) float32 to (n, 1000) logits."""
    return MobileNetV2()


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0: (n, 3, 224, 224) float32 to (n, 1000) logits."""
    sys.path.append(str(LITE))
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")
