"""TaskSpec: what a model does, declared as data, so that no model needs code of its own.

A TaskSpec says how raw input becomes tensors and how tensors become an answer. It travels inside the
bundle. The code that follows it is in `edge_runtime.tasks`; this module only holds and validates it.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Declared(BaseModel):
    """Base of what arrives as bytes: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Channels = tuple[float, float, float]
TensorName = str


class ImageInput(Declared):
    """How a picture becomes the input tensor of a vision model.

    A float tensor gets `(pixel * scale - mean) / std`, channels in the order of `colour`; an integer tensor
    gets the pixels as they are (uint8), or through its own quantization where it has one.
    """

    layout: Literal["nhwc", "nchw"]
    colour: Literal["rgb", "bgr"] = "rgb"
    size: tuple[int, int] | None = Field(
        default=None, description="(height, width) in pixels; absent: read from the model"
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="for a model that takes any height and width: fit into `size`, then pad each side"
        " only to a multiple of this, so that a 16:9 camera does not pay for a square",
    )
    fit: Literal["letterbox", "stretch", "center_crop"] = "letterbox"
    align: Literal["center", "top_left"] = "center"
    pad: int = Field(default=114, ge=0, le=255, description="grey value of letterbox borders")
    scale: float = Field(default=1.0, gt=0, description="1/255 written as a decimal, or 1 for 0–255")
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be (height, width) of at least 1 pixel, got {self.size}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive in every channel, got {self.std}")
        return self


class SsdHead(Declared):
    """Boxes, classes, scores and a count, suppressed inside the model (TFLite_Detection_PostProcess).

    Tensors left unnamed are taken in that order of the model's outputs. Boxes `(1, n, 4)`.
    """

    format: Literal["ssd"]
    boxes: TensorName | None = None
    classes: TensorName | None = None
    scores: TensorName | None = None
    count: TensorName | None = None
    order: Literal["yxyx", "xyxy"] = "yxyx"
    coordinates: Literal["normalized", "pixels"] = "normalized"
    class_offset: int = Field(default=0, description="subtracted from a class to index the labels")


class NmsHead(Declared):
    """`(1, n, 5)` x1 y1 x2 y2 score with `(1, n)` classes, or `(1, n, 6)` with the class last.

    Suppressed inside the model; boxes in pixels of the model's input picture (YOLOX, MMDeploy, YOLOv10).
    """

    format: Literal["nms"]
    detections: TensorName | None = None
    classes: TensorName | None = None
    class_offset: int = 0


class YoloHead(Declared):
    """Raw YOLO predictions: cx cy w h [objectness] and a score for each class.

    `objectness=True` is YOLOv5/v7 with `(1, n, 5 + classes)`; False is YOLOv8/11 with
    `(1, 4 + classes, n)`. Which axis is which is read from the shape and the number of labels.
    """

    format: Literal["yolo"]
    output: TensorName | None = None
    objectness: bool = False
    coordinates: Literal["pixels", "normalized"] = "pixels"
    nms_iou: float = Field(default=0.45, gt=0, le=1)
    class_agnostic: bool = False


class DistancesHead(Declared):
    """YOLOv8/11 cut off before its boxes are made: the device makes those of the few cells with a score.

    Distances `(1, 4 * bins, n)`: for each cell the logits of how far left, top, right and bottom are, in
    strides. Scores `(1, classes, n)`. Cells lie row by row on a grid a stride, the finest first.
    """

    format: Literal["yolo-distances"]
    distances: TensorName | None = None
    scores: TensorName | None = None
    strides: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(8, 16, 32), min_length=1)
    activation: Literal["sigmoid", "none"] = Field(
        default="sigmoid", description="what makes probabilities of the scores"
    )
    nms_iou: float = Field(default=0.45, gt=0, le=1)
    class_agnostic: bool = False


class DetrHead(Declared):
    """Object queries: logits `(1, n, classes [+ 1])` and boxes `(1, n, 4)` cx cy w h in [0, 1].

    `softmax` drops the last column, the no-object class (DETR); `sigmoid` has none (RT-DETR).
    """

    format: Literal["detr"]
    logits: TensorName | None = None
    boxes: TensorName | None = None
    activation: Literal["softmax", "sigmoid"] = "softmax"


Head = Annotated[SsdHead | NmsHead | YoloHead | DistancesHead | DetrHead, Field(discriminator="format")]


class DetectionSpec(Declared):
    """Pictures in, boxes out."""

    kind: Literal["detection"]
    input: ImageInput
    head: Head
    labels: tuple[str, ...] = Field(min_length=1)
    min_score: float = Field(default=0.25, ge=0, le=1)
    max_detections: int = Field(default=300, ge=1)


class ClassificationSpec(Declared):
    """Pictures in, classes with scores out, best first."""

    kind: Literal["classification"]
    input: ImageInput
    labels: tuple[str, ...] = Field(min_length=1)
    output: TensorName | None = None
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    top_k: int = Field(default=5, ge=1)


class TextInput(Declared):
    """How a text becomes token tensors: by the bundle's own `tokenizer.json`.

    The tensors `input_ids`, `attention_mask` and `token_type_ids` are int64 or int32, `(batch, length)`; a
    model takes those it has.
    """

    max_length: int = Field(default=128, ge=1, description="tokens, special ones included")
    pad: Literal["longest", "max_length"] = Field(
        default="longest", description="max_length for a model of fixed shape"
    )
    overflow: Literal["truncate", "window", "refuse"] = Field(
        default="truncate",
        description="a longer text: its end is cut, and the answer says so; the model looks at overlapping"
        " windows of it; or it is refused",
    )
    overlap: int = Field(default=32, ge=0, description="tokens that two neighbouring windows share")
    max_windows: int = Field(
        default=64, ge=1, description="windows of one text; a text that needs more is refused"
    )

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.overflow == "window" and self.overlap >= self.max_length:
            raise ValueError(f"overlap must be below max_length {self.max_length}, got {self.overlap}")
        return self


class TextClassificationSpec(Declared):
    """Texts in, classes with scores out, best first. Windows of a long text are averaged."""

    kind: Literal["text-classification"]
    input: TextInput = TextInput()
    labels: tuple[str, ...] = Field(min_length=1)
    output: TensorName | None = None
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    top_k: int = Field(default=5, ge=1)


class TokenClassificationSpec(Declared):
    """Texts in, labelled spans out (named entities).

    Labels `B-X` and `I-X` make spans of `X` (IOB2); others are a class of their own.
    """

    kind: Literal["token-classification"]
    input: TextInput = TextInput()
    labels: tuple[str, ...] = Field(min_length=1)
    output: TensorName | None = None
    outside: str = Field(default="O", description="the label of tokens that belong to no span")
    min_score: float = Field(default=0.0, ge=0, le=1, description="spans below are left out")

    @model_validator(mode="after")
    def _outside_is_a_label(self) -> Self:
        if self.outside not in self.labels:
            known = ", ".join(self.labels)
            raise ValueError(f"outside: expected one of the labels {known}, got {self.outside}")
        return self


class GenerationSpec(Declared):
    """Text in, text out, token by token, by a decoder that keeps the past of its attention.

    The model takes `input_ids`, and `attention_mask` and `position_ids` if it wants them, and for each layer
    `past_key_values.{layer}.key` and `.value`; it gives `logits` `(1, length, vocabulary)` and
    `present.{layer}.key` and `.value` (the names of Hugging Face's ONNX exports).
    """

    kind: Literal["generation"]
    context_length: int = Field(ge=2, description="tokens of prompt and answer together, at most")
    end_tokens: tuple[str, ...] = Field(min_length=1, description="tokens that end an answer, as written")
    chat_template: str | None = Field(
        default=None, description="Jinja template from messages to a prompt; absent: completions only"
    )
    max_tokens: int = Field(default=256, ge=1, description="of an answer, where the caller names no number")
    temperature: float = Field(default=0.0, ge=0, le=2, description="0: always the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1)
    prompt_at_once: int = Field(
        default=512,
        ge=1,
        description="tokens of a prompt that are read together; 1 for a model quantized dynamically, which"
        " rounds each token by the largest number of all that are read with it",
    )


class EmbeddingSpec(Declared):
    """Texts in, vectors out."""

    kind: Literal["embedding"]
    input: TextInput = TextInput()
    output: TensorName | None = None
    pooling: Literal["mean", "cls", "none"] = Field(
        default="mean", description="how token vectors become one; none: the model gives one"
    )
    normalize: bool = Field(default=True, description="to length 1")


class ImageEmbeddingSpec(Declared):
    """Pictures in, vectors out: how something looks, to be compared by the cosine."""

    kind: Literal["image-embedding"]
    input: ImageInput
    output: TensorName | None = None
    normalize: bool = Field(default=True, description="to length 1")


class TensorsSpec(Declared):
    """The model's own tensors in and out: what no other task describes, tables of numbers for one."""

    kind: Literal["tensors"]
    labels: tuple[str, ...] = Field(default=(), description="names of the columns of the first output")


TaskSpec = Annotated[
    DetectionSpec
    | ClassificationSpec
    | TextClassificationSpec
    | TokenClassificationSpec
    | EmbeddingSpec
    | ImageEmbeddingSpec
    | GenerationSpec
    | TensorsSpec,
    Field(discriminator="kind"),
]

PictureSpec = DetectionSpec | ClassificationSpec | ImageEmbeddingSpec
"""The tasks of models that look at pictures."""

UnlabelledSpec = EmbeddingSpec | ImageEmbeddingSpec | GenerationSpec
"""The tasks whose answers name no classes."""

TextSpec = TextClassificationSpec | TokenClassificationSpec | EmbeddingSpec
"""The tasks that a text's tokens are enough for: one run of the model (or one a window) is the answer."""
