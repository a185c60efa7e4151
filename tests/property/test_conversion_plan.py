"""Whatever recipe and profiles: a plan can run, serves whom it says, and explains the rest."""

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from converters.plan import make_plan
from converters.planned import Plan, SourceFacts
from converters.recipe import Recipe, SourceKind
from converters.schedule import Schedule
from converters.toolchain import TOOLS
from device_profiles.loader import load_profile, profile_names
from edge_runtime.contract.bundle import Format, Precision

PROFILES = {name: load_profile(name) for name in profile_names()}
VISION = {"layout": "nchw"}
TASKS: tuple[dict[str, Any], ...] = (
    {"kind": "detection", "input": VISION, "head": {"format": "yolo"}, "labels": ["a"]},
    {"kind": "classification", "input": VISION, "labels": ["a"]},
    {"kind": "embedding"},
    {"kind": "tensors"},
)


@st.composite
def conversions(draw: st.DrawFn) -> tuple[Recipe, SourceFacts]:
    task = draw(st.sampled_from(TASKS))
    vision = "input" in task
    names = draw(st.lists(st.sampled_from(sorted(PROFILES)), min_size=1, max_size=4, unique=True))
    recipe = {
        "name": "model",
        "source": {"path": "/model"},
        "task": task,
        "profiles": names,
        "samples": draw(st.sampled_from([None, {"path": "/samples"}])),
        "want": {
            "formats": draw(st.lists(st.sampled_from(Format), max_size=3, unique=True)),
            "precisions": draw(st.lists(st.sampled_from(Precision), max_size=3, unique=True)),
        },
        "fold": vision and draw(st.booleans()),
        "nms": draw(st.sampled_from(["inside", "outside"])) if task["kind"] == "detection" else "outside",
    }
    kind = draw(st.sampled_from(SourceKind))
    precision = draw(st.sampled_from([None, None, Precision.INT8])) if kind in {"onnx", "tflite"} else None
    size = draw(st.sampled_from([0, 10_000_000, 3_000_000_000]))
    facts = SourceFacts(kind, {"source": Path("/model")}, size, size, precision, Path("/tokenizer.json"))
    return Recipe.model_validate(recipe), facts


def make(conversion: tuple[Recipe, SourceFacts]) -> Plan:
    recipe, facts = conversion
    return make_plan(recipe, [PROFILES[name] for name in recipe.profiles], facts)


@settings(max_examples=50)
@given(conversions())
def test_its_steps_are_a_graph_that_can_run(conversion: tuple[Recipe, SourceFacts]) -> None:
    plan = make(conversion)
    Schedule(plan.steps)
    seen: set[str] = set()
    for step in plan.steps:
        assert set(step.needs.values()) <= seen
        assert step.tool in TOOLS
        seen.add(step.id)


@settings(max_examples=50)
@given(conversions())
def test_it_is_the_same_each_time(conversion: tuple[Recipe, SourceFacts]) -> None:
    assert make(conversion) == make(conversion)


@settings(max_examples=50)
@given(conversions())
def test_every_variant_is_for_somebody_who_takes_it(conversion: tuple[Recipe, SourceFacts]) -> None:
    recipe, _ = conversion
    plan = make(conversion)
    for variant in plan.variants:
        assert variant.profiles
        assert not recipe.want.formats or variant.format in recipe.want.formats
        for name in variant.profiles:
            assert any(variant.format in engine.formats for engine in PROFILES[name].engines)
        assert plan.chain(variant.step)[-1] == variant.step


@settings(max_examples=50)
@given(conversions())
def test_every_choice_has_a_reason_and_a_variant(conversion: tuple[Recipe, SourceFacts]) -> None:
    plan = make(conversion)
    known = {variant.id for variant in plan.variants}
    assert {choice.variant for choice in plan.choices} == known
    assert all(choice.why for choice in plan.choices)
    assert all(refusal.why for refusal in plan.refusals)


@settings(max_examples=50)
@given(conversions())
def test_every_profile_is_served_or_told_why_not(conversion: tuple[Recipe, SourceFacts]) -> None:
    recipe, _ = conversion
    plan = make(conversion)
    heard = {choice.profile for choice in plan.choices} | {refusal.profile for refusal in plan.refusals}
    assert heard == set(recipe.profiles)


@settings(max_examples=50)
@given(conversions())
def test_nothing_is_calibrated_without_samples(conversion: tuple[Recipe, SourceFacts]) -> None:
    recipe, facts = conversion
    plan = make(conversion)
    if recipe.samples is None and facts.precision is None:
        static = {Precision.INT8, Precision.MIXED, Precision.INT16X8}
        assert all(one.precision not in static or one.format is Format.COREML for one in plan.variants)
        assert all("samples" not in step.needs for step in plan.steps)


@settings(max_examples=50)
@given(conversions())
def test_a_quantized_variant_has_a_float_twin_in_its_format(conversion: tuple[Recipe, SourceFacts]) -> None:
    _, facts = conversion
    plan = make(conversion)
    steps = {step.id for step in plan.steps}
    for variant in plan.variants:
        if variant.twin is not None:
            assert variant.twin in steps
            assert variant.twin != variant.step
        else:
            own = facts.precision or (Precision.FP16 if variant.format is Format.COREML else Precision.FP32)
            assert variant.precision is own
