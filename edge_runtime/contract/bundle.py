"""ModelBundle: one model, its variants, its task and its receipts, as `bundle.json` says it.

Reads no disk and checks no digest: `edge_runtime.bundle` opens a bundle, the converters write it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from edge_runtime.contract.task import Declared, Head, ImageInput, TaskSpec


class Format(StrEnum):
    """A model file format; a folder where the format is one (openvino, coreml, genai)."""

    ONNX = "onnx"
    ORT = "ort"
    TFLITE = "tflite"
    OPENVINO = "openvino"
    COREML = "coreml"
    AIMODEL = "aimodel"
    TFJS = "tfjs"
    GENAI = "genai"


class Precision(StrEnum):
    """The number type most weights and activations of a variant have."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_DYNAMIC = "int8-dynamic"
    INT16X8 = "int16x8"
    INT4 = "int4"
    PALETTIZED = "palettized"
    """Weights are numbers of a small table; Core ML's own way to fewer bits."""
    MIXED = "mixed"


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
        raise ValueError(f"must be a relative path inside the bundle, got {path!r}")
    return path


InsidePath = Annotated[str, AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class FileRef(Declared):
    """A file of the bundle that is no variant: a tokenizer, golden inputs."""

    path: InsidePath
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Variant(Declared):
    """One file (or folder) of the model, for the profiles it serves.

    A converter may turn the layout, fold the normalisation into the graph or rename outputs: `input`, `head`
    and `output` say so where this variant differs from the bundle's task.
    """

    id: Name
    format: Format
    precision: Precision
    path: InsidePath
    sha256: Sha256 = Field(description="of the file; of a folder: of its sorted 'sha256  path' lines")
    size_bytes: int = Field(ge=0)
    profiles: tuple[str, ...] = Field(default=(), description="device profiles served; empty: all")
    half_precision: bool = Field(
        default=False,
        description="what is float in it may be calculated in 16 bits, where the hardware can",
    )
    input: ImageInput | None = Field(default=None, description="replaces the task's input")
    head: Head | None = Field(default=None, description="replaces the head of a detection task")
    output: str | None = Field(default=None, description="replaces the output's name of any other task")


class Latency(Declared):
    """Time of one inference, batch 1, on the machine of the receipt."""

    p50_ms: float = Field(ge=0)
    p95_ms: float = Field(ge=0)
    threads: int = Field(ge=1)
    runs: int = Field(ge=1)
    times_fp32: float | None = Field(
        default=None, gt=0, description="p50 by that of the model's fp32 variant in the same engine, in turns"
    )


class Receipt(Declared):
    """What was measured of one variant, and where. A number nobody measured is absent."""

    variant: Name
    engine: str
    machine: str = Field(description="CPU or accelerator as the machine names itself")
    profile: str | None = None
    measured_at: str = Field(description="ISO 8601, UTC")
    parity: Mapping[str, float] = Field(default_factory=dict)
    accuracy: Mapping[str, float] = Field(default_factory=dict)
    latency: Latency | None = None
    peak_memory_bytes: int | None = Field(default=None, ge=0)


class Golden(Declared):
    """Inputs with the outputs the source model gave for them; a device tries a new version on them.

    Both are `.npz` files with as many rows in every array. `inputs` has what the task takes: pictures
    `(n, height, width, 3)` uint8 BGR under `pictures`, texts `(n,)` of Unicode under `texts`, or one array
    `(n, …)` for each tensor's name, a row of which the model gets with a batch axis of 1 before it. `outputs`
    has one array for each output of the source model, a row of which is what the model gave, its batch axis
    included.

    Where the rows of an array differ in shape (pictures of several sizes, the boxes a detector found), each
    is an array of its own: `pictures#0000`, `pictures#0001`, … `edge_runtime.tasks.rows` reads and writes
    both.
    """

    inputs: FileRef
    outputs: FileRef


class Omission(Declared):
    """A variant that was asked for and is not in the bundle, and why."""

    id: Name
    profiles: tuple[str, ...]
    why: str


class Provenance(Declared):
    """Where the variants come from: enough to make them again."""

    source_sha256: Sha256
    recipe: Mapping[str, JsonValue] = Field(description="the recipe as it was read, defaults filled in")
    tools: Mapping[str, str] = Field(description="library -> version")


class BundleManifest(Declared):
    """`bundle.json`: everything about a model except its bytes."""

    schema_version: Literal[1] = 1
    name: Name
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")]
    licence: str
    source: str = Field(description="where the model came from, for a person")
    task: TaskSpec
    variants: tuple[Variant, ...] = Field(min_length=1)
    receipts: tuple[Receipt, ...] = ()
    tokenizer: FileRef | None = None
    golden: Golden | None = None
    omitted: tuple[Omission, ...] = ()
    provenance: Provenance | None = None

    def task_of(self, variant: Variant) -> TaskSpec:
        """Give the task as one variant has it.

        Args:
            variant: One of this bundle's.
        """
        told = {"input": variant.input, "head": variant.head, "output": variant.output}
        changes = {key: value for key, value in told.items() if value is not None}
        return self.task.model_copy(update=changes)

    def receipts_of(self, variant: str, engine: str) -> Sequence[Receipt]:
        """Give the receipts of a variant, those of an engine first.

        Args:
            variant: Its id.
            engine: The one that shall run it.
        """
        own = [one for one in self.receipts if one.variant == variant]
        return sorted(own, key=lambda one: one.engine != engine)

    def peak_bytes(self, variant: str, engine: str) -> int:
        """Give the memory that a variant needs at its peak.

        As the receipt measured it, of this engine before any other's; the size of its files where none did.

        Args:
            variant: Its id.
            engine: The one that shall run it.
        """
        peaks = [one.peak_memory_bytes for one in self.receipts_of(variant, engine)]
        measured = [peak for peak in peaks if peak is not None]
        return measured[0] if measured else next(v.size_bytes for v in self.variants if v.id == variant)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [variant.id for variant in self.variants]
        if len(set(ids)) != len(ids):
            raise ValueError(f"variant ids must be unique, got {', '.join(ids)}")
        for variant in self.variants:
            told = {"input": variant.input, "head": variant.head, "output": variant.output}
            unknown = [
                key for key, value in told.items() if value is not None and not hasattr(self.task, key)
            ]
            if unknown:
                raise ValueError(f"variant '{variant.id}': a {self.task.kind} task has no {unknown[0]}")
        strangers = sorted({r.variant for r in self.receipts} - set(ids))
        if strangers:
            raise ValueError(f"receipts for variants that do not exist: {', '.join(strangers)}")
        return self
