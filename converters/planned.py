"""What a plan is made of, and of what. Holds only: `plan` chooses, `assembly` makes the steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converters.recipe import SourceKind
from converters.step import Step
from edge_runtime.contract.bundle import Format, Precision


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source before anything loads it.

    Args:
        kind: What it is.
        files: What steps read, by the name they know it under: `source`, `module`; and what only counts for
            the digest: `source-…` data beside the model, `code` of a package's module.
        size_bytes: Of all of it.
        float_bytes: What its parameters take as float32, for expected sizes.
        precision: What it is already; None: float32, as far as can be told.
        tokenizer: Its own `tokenizer.json`; None where it has none.
        opset: Of an ONNX model; 0: it is another.
        wide: Whether its activations are (`quantize.wide`); False where that cannot be told unloaded.
    """

    kind: SourceKind
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    size_bytes: int = 0
    float_bytes: int = 0
    precision: Precision | None = None
    tokenizer: Path | None = None
    opset: int = 0
    wide: bool = False


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """A model file to be made, for all profiles that want it.

    Args:
        id: Unique in the plan, readable: `onnx-int8`.
        format: Its format.
        precision: What is tried; a step may say it became another.
        step: Id of the step whose folder has the model.
        twin: Id of the step with the float model of the same format, to compare speed with; None: it is that.
        engines: Engines of these profiles that take it: those that measure it.
        profiles: Names of the profiles it serves, in the recipe's order.
        expected_bytes: Its expected size; 0 where nothing is known of the source's.
        kernels: What kind of onnxruntime's kernels it is made for; empty where that makes no difference.
        serving: Each profile with each of its engines that runs it: a profile is judged by its own engines.
    """

    id: str
    format: Format
    precision: Precision
    step: str
    twin: str | None
    engines: tuple[str, ...]
    profiles: tuple[str, ...]
    expected_bytes: int
    kernels: str = ""
    serving: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Why a profile gets a variant."""

    profile: str
    engine: str
    variant: str
    why: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a profile would take and does not get.

    Args:
        profile: Its name.
        engine: The engine that would take it; empty: any.
        what: Format, or format and precision, as variants' ids are written.
        why: One sentence.
    """

    profile: str
    engine: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, and for whom.

    Args:
        steps: Each after those it needs; the samples step among them. The option `task` of a step that takes
            a model is filled in when it runs: what the model is like, the steps before it say.
        variants: What they make.
        choices: Who gets which, by profile.
        refusals: Who does not get what.
        reference: Id of the step with the model that variants are compared with.
        reference_format: Its format.
    """

    steps: tuple[Step, ...]
    variants: tuple[PlannedVariant, ...]
    choices: tuple[Choice, ...]
    refusals: tuple[Refusal, ...]
    reference: str
    reference_format: Format

    def chain(self, step: str) -> tuple[str, ...]:
        """Give the ids of the steps that lead from the source to a step's model, itself last."""
        before = next(one for one in self.steps if one.id == step).needs.get("model")
        return (*(self.chain(before) if before is not None else ()), step)
