"""Assembly: puts the steps together that make a model of a format and a precision; equal steps once. Pure.

Chooses nothing: `plan` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from converters.planned import SourceFacts
from converters.recipe import Recipe, SourceKind
from converters.step import Options, Step
from converters.targets import (
    APPLE_TARGETS,
    CALIBRATED,
    FLOAT,
    OLD_OPSET,
    OPSET,
    RAISED_OPSET,
    SMALLER,
    Make,
    make_first,
)
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.task import TextSpec

SAMPLES = "samples"
"""Id of the step that reads the samples."""
_OPTIONAL_SAMPLES = frozenset({Precision.FP16, Precision.INT4})
_OPSET_KINDS = frozenset({SourceKind.TORCH, SourceKind.TORCH_EXPORT, SourceKind.HUGGING_FACE})


@dataclass(slots=True)
class Assembly:
    """The steps so far; `model` adds what is missing.

    Args:
        recipe: Its paths absolute.
        facts: Of its source.
    """

    recipe: Recipe
    facts: SourceFacts
    steps: dict[str, Step] = field(default_factory=dict[str, Step])

    def __post_init__(self) -> None:
        samples = self.recipe.samples
        files = {"samples": samples.path, "labels": samples.labels} if samples else {}
        options: Options = {
            "inputs": [example.model_dump(mode="json") for example in self.recipe.source.inputs],
            "task": self.recipe.task.model_dump(mode="json"),
            **({"calibration": samples.calibration, "verification": samples.verification} if samples else {}),
        }
        self._add(
            Step(
                SAMPLES,
                "converters.verify.samples:prepare",
                "base",
                options,
                files={name: path for name, path in files.items() if path is not None},
            )
        )

    @property
    def reference_format(self) -> Format:
        """The format of the model that variants are compared with."""
        return Format.TFLITE if self.facts.kind is SourceKind.TFLITE else Format.ONNX

    @property
    def tokenizer(self) -> Mapping[str, Path]:
        """The tokenizer as a file of a step; empty for other tasks than texts."""
        file = self.recipe.tokenizer or self.facts.tokenizer
        return {"tokenizer": file} if file is not None and isinstance(self.recipe.task, TextSpec) else {}

    def float_of(self, format_: Format) -> Precision:
        """Say what the first model of a format is."""
        return self.facts.precision or FLOAT.get(format_, Precision.FP32)

    def reference(self) -> str:
        """Give the step of the model that variants are compared with: the source, unfolded."""
        return self._first(self.reference_format, fold=False)

    def model(
        self, format_: Format, precision: Precision, kernels: str = "", options: Options | None = None
    ) -> str:
        """Give the step that makes a model, adding it and those before it where they are not there yet.

        Args:
            format_: Its format; one that can be made of the source.
            precision: Its precision: the first model's, or a row of `targets.SMALLER`.
            kernels: What kind of kernels it is for; part of its name.
            options: Of the quantizing step, for those kernels.
        """
        if format_ is Format.ORT:
            before = self.model(Format.ONNX, precision, kernels, options)
            return self._next(
                before, name_of(format_, precision, kernels), make_first(self.facts.kind, format_)
            )
        found = self._first(
            format_,
            fold=self.recipe.fold,
            cut=self.recipe.boxes == "outside",
            apple=APPLE_TARGETS.get(precision, ""),
        )
        if precision is not self.float_of(format_):
            found = self._smaller(found, format_, precision, kernels, options or {})
        if format_ is Format.ONNX and self.recipe.nms == "inside":
            head = self.recipe.head
            told: Options = {"head": head.model_dump(mode="json")} if head else {}
            suppress = Make("converters.export.suppress:suppress", "onnx")
            found = self._next(found, f"{found}-nms", suppress, told)
        return found

    def twin(self, format_: Format) -> str:
        """Give the step of the float model of a format."""
        return self.model(format_, self.float_of(format_))

    def _first(self, format_: Format, *, fold: bool, cut: bool = False, apple: str = "") -> str:
        make = make_first(self.facts.kind, format_)
        if make is None:
            raise ValueError(f"no row makes {format_} of {self.facts.kind}")
        name = name_of(format_, self.float_of(format_))
        if format_ is Format.ONNX:
            found = self._of_source("onnx-source" if self._changes_source else name, make)
            if cut:
                step = "onnx-cut" if self.recipe.fold else name
                found = self._next(found, step, Make("converters.export.distances:cut", "onnx"))
            if fold:
                found = self._next(found, name, Make("converters.export.fold:fold", "onnx"))
            return found
        # A source that is taken as it is does not change.
        options = self._export_options(make, fold=fold and format_ is not self.reference_format)
        if format_ is Format.COREML and apple:
            name = f"{name}-{apple.lower()}"
            options = {**options, "minimum_target": apple}
        if make.of is None:
            return self._of_source(name, make, options)
        # What is made by way of torch folds by itself; the others take what the graph has.
        folded = fold and make.function.endswith("onnx_openvino:export")
        return self._next(self._first(make.of, fold=folded, cut=cut), name, make, options)

    @property
    def _changes_source(self) -> bool:
        return self.recipe.fold or self.recipe.boxes == "outside"

    def _of_source(self, name: str, make: Make, options: Options | None = None) -> str:
        told = self._export_options(make, fold=False) if options is None else options
        self._add(Step(name, make.function, make.tool, told, files=self.facts.files))
        return name

    def _smaller(
        self, found: str, format_: Format, precision: Precision, kernels: str, options: Options
    ) -> str:
        budget = self.recipe.budgets.accuracy_drop
        told: Options = {
            "precision": precision.value,
            **options,
            **({"accuracy_drop": budget} if precision in {Precision.MIXED, Precision.INT4} else {}),
            **({"bits": self.recipe.want.palette_bits} if precision is Precision.PALETTIZED else {}),
        }
        return self._next(found, name_of(format_, precision, kernels), SMALLER[format_, precision], told)

    def _next(self, before: str, name: str, make: Make | None, options: Options | None = None) -> str:
        """Add a step that takes the last one's model."""
        if make is None:
            raise ValueError(f"no row makes {name}")
        told: dict[str, JsonValue] = dict(options or {})
        needs = {"model": before}
        files: Mapping[str, Path] = {}
        samples = self.recipe.samples
        if samples is not None and self._sampled(make, told):
            needs["samples"] = SAMPLES
            told["calibration"] = samples.calibration
            files = self.tokenizer
        self._add(Step(name, make.function, make.tool, told, needs, files))
        return name

    def _sampled(self, make: Make, options: Options) -> bool:
        precision = options.get("precision")
        return make.tool != "coreml" and precision in {one.value for one in CALIBRATED | _OPTIONAL_SAMPLES}

    def _export_options(self, make: Make, *, fold: bool) -> Options:
        source = self.recipe.source
        vision = self.recipe.task.kind in {"classification", "detection"}
        told: dict[str, JsonValue] = {"source": _portable(self.recipe)} if make.of is None else {}
        if self.recipe.size is not None:
            told["size"] = list(self.recipe.size)
        if fold:
            told["fold"] = True
        if make.function.endswith(("torch_onnx:export", "export_onnx")) and self.facts.kind in _OPSET_KINDS:
            told["opset"] = OPSET
        if 0 < self.facts.opset < OLD_OPSET and make.of is None:
            told["opset"] = RAISED_OPSET
        if make.function.endswith("torch_onnx:export"):
            told["dynamic"] = any(example.dynamic for example in source.inputs)
        elif vision and make.of is None and self.facts.kind not in _OPSET_KINDS:
            told["dynamic"] = False
        return told

    def _add(self, step: Step) -> None:
        step = replace(
            step, timeout_s=self.recipe.step_minutes * 60, memory_bytes=self.recipe.step_memory_bytes
        )
        if self.steps.setdefault(step.id, step) != step:
            raise ValueError(f"two different steps are called '{step.id}'")


def name_of(format_: Format, precision: Precision, kernels: str = "") -> str:
    """Name a variant: `onnx-int8`, `onnx-int8-s8`."""
    return "-".join(part for part in (format_.value, precision.value, kernels) if part)


def _portable(recipe: Recipe) -> JsonValue:
    """The source as a step's option: without the folders, so that it is the same on every machine."""
    source = recipe.source
    module = source.module
    if module is not None and module.rpartition(":")[0].endswith(".py"):
        module = Path(module).name
    path = None if source.path is None else Path(source.path.name)
    return source.model_copy(update={"module": module, "path": path}).model_dump(mode="json")
