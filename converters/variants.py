"""From the facts of steps to what a bundle says of a variant: its input, head and output names. Pure.

A chain of steps may turn the layout, fold the normalisation into the graph and rename tensors; each step says
what it did, relative to the model it was given, and this module adds that up. Reads no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter

from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    Head,
    ImageInput,
    TaskSpec,
    TextSpec,
)

Facts = Mapping[str, JsonValue]
_HEAD: TypeAdapter[Head] = TypeAdapter(Head)
ROLES: Mapping[str, tuple[str, ...]] = {
    "ssd": ("boxes", "classes", "scores", "count"),
    "nms": ("detections", "classes"),
    "yolo": ("output",),
    "yolo-distances": ("distances", "scores"),
    "detr": ("logits", "boxes"),
}
"""Fields of each head that hold a tensor's name, in the order in which unnamed ones take outputs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model became on its way from the source.

    Args:
        inputs: Name in the source -> name in this model.
        outputs: The same for outputs; empty: no step said so, the names stayed.
        input: How a picture goes into this model; None: as the task says.
        head: Replaces the task's head; None: as the task says, but for names.
        export_rel: Largest relative difference from the source's own framework, where it was measured.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    input: ImageInput | None = None
    head: Head | None = None
    export_rel: float | None = None


def shape(chain: Sequence[Facts]) -> Shape:
    """Add up what the steps of a chain said.

    Args:
        chain: Facts of each step, the one that read the source first.
    """
    inputs: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {}
    image: ImageInput | None = None
    head: Head | None = None
    rel: float | None = None
    for facts in chain:
        inputs = _follow(inputs, _names(facts.get("inputs")))
        outputs = _follow(outputs, _names(facts.get("outputs")))
        if facts.get("input") is not None:
            image = ImageInput.model_validate(facts["input"])
        if facts.get("head") is not None:
            head = _HEAD.validate_python(facts["head"])
        elif head is not None:
            head = renamed(head, _names(facts.get("outputs")))
        parity = facts.get("parity")
        if isinstance(parity, Mapping) and isinstance(parity.get("rel"), int | float):
            rel = max(float(cast(float, parity["rel"])), rel or 0.0)
    return Shape(inputs, outputs, image, head, rel)


def between(reference: Mapping[str, str], variant: Mapping[str, str]) -> dict[str, str]:
    """Map names of one model to those of another that came from the same source."""
    return {name: variant[origin] for origin, name in reference.items() if origin in variant}


def task_of(task: TaskSpec, became: Shape) -> TaskSpec:
    """Give the task as a model has it.

    Args:
        task: As the source has it.
        became: What the model became.
    """
    if isinstance(task, DetectionSpec):
        head = became.head or renamed(task.head, became.outputs)
        return task.model_copy(update={"input": became.input or task.input, "head": head})
    if isinstance(task, ClassificationSpec):
        output = _renamed(task.output, became.outputs)
        return task.model_copy(update={"input": became.input or task.input, "output": output})
    if isinstance(task, TextSpec):
        return task.model_copy(update={"output": _renamed(task.output, became.outputs)})
    return task


def differences(task: TaskSpec, own: TaskSpec) -> dict[str, Any]:
    """Say what a variant's manifest entry must replace: `input`, `head`, `output`, where they differ."""
    told: dict[str, Any] = {}
    for key in ("input", "head", "output"):
        if key == "input" and isinstance(task, TextSpec):
            continue
        mine, bundles = getattr(own, key, None), getattr(task, key, None)
        if mine is not None and mine != bundles:
            told[key] = mine
    return told


def renamed(head: Head, outputs: Mapping[str, str]) -> Head:
    """Give a head with the names of another model's outputs.

    Where the source has several outputs and the head names none, it means their order there. Another format
    may have another order, so the names are written out.

    Args:
        head: As the source has it.
        outputs: Name in the source -> name in the model, in the source's order.
    """
    roles = ROLES[head.format]
    told = {role: getattr(head, role) for role in roles}
    left = iter([name for name in outputs if name not in told.values()])
    named = {
        role: next(left, None) if name is None and len(outputs) > 1 else name for role, name in told.items()
    }
    changes = {role: _renamed(name, outputs) for role, name in named.items()}
    if all(name == new for name, new in zip(outputs, outputs.values(), strict=True)):
        changes = {role: name for role, name in changes.items() if told[role] is not None}
    return head.model_copy(update=changes)


def _renamed(name: str | None, outputs: Mapping[str, str]) -> str | None:
    return name if name is None else outputs.get(name, name)


def _names(value: JsonValue) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): str(name) for key, name in cast("Mapping[str, JsonValue]", value).items()}


def _follow(so_far: Mapping[str, str], step: Mapping[str, str]) -> Mapping[str, str]:
    """Compose two renamings: a step that says nothing renames nothing; what it leaves out is gone."""
    if not step:
        return so_far
    if not so_far:
        return step
    return {origin: step[name] for origin, name in so_far.items() if name in step}
