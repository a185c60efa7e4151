"""The plan: who gets which formats and precisions, and why not others; a decision table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from converters.plan import make_plan
from converters.planned import Plan, SourceFacts
from converters.recipe import Recipe, SourceKind
from device_profiles.loader import load_profile
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.task import TaskSpec

MB = 1_000_000
SOURCE = Path("/models/source")
TASKS: Mapping[str, Any] = {
    "detection": {
        "kind": "detection",
        "input": {"layout": "nchw"},
        "head": {"format": "yolo"},
        "labels": ["a", "b"],
    },
    "classification": {"kind": "classification", "input": {"layout": "nchw"}, "labels": ["a", "b"]},
    "embedding": {"kind": "embedding"},
    "text-classification": {"kind": "text-classification", "labels": ["a", "b"]},
    "token-classification": {"kind": "token-classification", "labels": ["O", "B-X"]},
    "tensors": {"kind": "tensors"},
}


def planned(
    task: str,
    profiles: str,
    *,
    kind: SourceKind = SourceKind.ONNX,
    samples: bool = True,
    precision: Precision | None = None,
    opset: int = 17,
    float_bytes: int = 20 * MB,
    wide: bool = False,
    only: str = "",
    **more: Any,
) -> Plan:
    names = tuple(profiles.split())
    recipe = Recipe.model_validate(
        {
            "name": "model",
            "source": {"path": SOURCE},
            "task": TASKS[task],
            "profiles": names,
            **({"samples": {"path": "/samples"}} if samples else {}),
            **more,
        }
    )
    facts = SourceFacts(
        kind,
        {"source": SOURCE},
        float_bytes,
        float_bytes,
        precision,
        Path("/tokenizer.json"),
        opset,
        wide,
    )
    return make_plan(recipe, [narrowed(load_profile(name), only) for name in names], facts)


def narrowed(profile: DeviceProfile, only: str) -> DeviceProfile:
    """A profile whose engines take these precisions alone; empty: as it is."""
    if not only:
        return profile
    precisions = tuple(Precision(name) for name in only.split())
    engines = tuple(engine.model_copy(update={"precisions": precisions}) for engine in profile.engines)
    return profile.model_copy(update={"engines": engines})


def ids(plan: Plan) -> str:
    return " ".join(variant.id for variant in plan.variants)


TABLE: tuple[tuple[str, str, bool, str], ...] = (
    # task, profile, samples, variants
    (
        "detection",
        "store-pc-cpu",
        True,
        "openvino-fp32 openvino-mixed onnx-fp32 onnx-mixed tflite-fp32 tflite-mixed",
    ),
    (
        "classification",
        "store-pc-cpu",
        True,
        "openvino-fp32 openvino-int8 onnx-fp32 onnx-int8 tflite-fp32 tflite-int8",
    ),
    (
        "classification",
        "store-pc-cpu",
        False,
        "openvino-fp32 onnx-fp32 tflite-fp32 tflite-int8-dynamic",
    ),
    ("classification", "raspberry-pi-5", True, "tflite-fp32 tflite-int8 onnx-fp32 onnx-int8-s8"),
    ("classification", "raspberry-pi-5", False, "tflite-fp32 tflite-int8-dynamic onnx-fp32"),
    ("classification", "iot-hub-arm64", True, "tflite-fp32 tflite-int8"),
    ("classification", "android-mid", True, "tflite-fp32 tflite-int8 ort-fp32 ort-int8-s8"),
    ("detection", "iphone-recent", True, "coreml-fp16 coreml-int8 tflite-fp16 tflite-fp32 tflite-mixed"),
    ("classification", "iphone-recent", False, "coreml-fp16 coreml-int8 tflite-fp16 tflite-fp32"
     " tflite-int8-dynamic"),
    ("detection", "jetson-orin-nano", True, "onnx-fp16 onnx-fp32 onnx-mixed-trt tflite-fp32 tflite-mixed"),
    ("classification", "browser-wasm", True, "tflite-fp32 tflite-mixed onnx-fp32 onnx-int8"),
    ("embedding", "raspberry-pi-5", True, "tflite-fp32 tflite-int8-dynamic onnx-fp32 onnx-int8-dynamic"),
    ("embedding", "iphone-recent", False, "coreml-fp16 coreml-int8 tflite-fp16 tflite-fp32"
     " tflite-int8-dynamic"),
    ("text-classification", "raspberry-pi-5", True,
     "tflite-fp32 tflite-int8-dynamic onnx-fp32 onnx-int8-dynamic"),
    ("tensors", "raspberry-pi-5", True, "tflite-fp32 tflite-int8-dynamic onnx-fp32 onnx-int8-dynamic"),
)  # fmt: skip


@pytest.mark.parametrize(("task", "profile", "samples", "expected"), TABLE)
def test_what_a_profile_gets(task: str, profile: str, *, samples: bool, expected: str) -> None:
    plan = planned(task, profile, samples=samples, float_bytes=20 * MB)
    found = set(ids(plan).split())
    assert found == set(expected.split())


def test_without_samples_static_int8_is_refused_with_the_reason() -> None:
    plan = planned("classification", "raspberry-pi-5", samples=False)
    (refused,) = [one for one in plan.refusals if one.what == "tflite-int8"]
    assert "needs samples" in refused.why
    assert refused.engine == "litert"


def test_wide_activations_are_measured_at_every_run_in_tflite() -> None:
    plan = planned("classification", "raspberry-pi-5", wide=True)
    assert ids(plan) == "tflite-fp32 tflite-int8-dynamic onnx-fp32 onnx-int8-s8"
    (choice,) = [one for one in plan.choices if one.variant == "tflite-int8-dynamic"]
    assert "lose too much in static int8 in TFLite" in choice.why


@pytest.mark.parametrize(
    ("only", "expected"),
    [("int8 fp32 mixed", "tflite-fp32 tflite-mixed"), ("int8 fp32", "tflite-fp32")],
)
def test_wide_activations_are_mixed_or_float_where_nothing_is_measured_at_run_time(
    only: str, expected: str
) -> None:
    plan = planned("classification", "iot-hub-arm64", wide=True, only=only)
    assert ids(plan) == expected
    told = [*(one.why for one in plan.choices), *(one.why for one in plan.refusals)]
    assert any("lose too much" in why for why in told)


def test_static_int8_of_wide_activations_is_made_where_it_is_asked_for() -> None:
    want = {"formats": ["tflite"], "precisions": ["int8"]}
    assert ids(planned("classification", "raspberry-pi-5", wide=True, want=want)) == "tflite-int8"


def test_profiles_share_steps() -> None:
    plan = planned("classification", "raspberry-pi-5 store-pc-cpu iot-hub-arm64")
    names = [step.id for step in plan.steps]
    assert len(names) == len(set(names))
    assert names.count("tflite-int8") == 1
    tflite = next(variant for variant in plan.variants if variant.id == "tflite-int8")
    assert tflite.profiles == ("raspberry-pi-5", "store-pc-cpu", "iot-hub-arm64")


def test_openvino_reads_its_own_format_and_no_onnx_besides() -> None:
    plan = planned("classification", "store-pc-intel")
    onnx = next(variant for variant in plan.variants if variant.id == "onnx-fp32")
    assert onnx.engines == ("onnxruntime",)


def test_a_variant_is_measured_with_the_engines_of_all_it_serves() -> None:
    plan = planned("classification", "browser-wasm raspberry-pi-5")
    engines = {variant.id: variant.engines for variant in plan.variants}
    assert engines["onnx-fp32"] == ("onnxruntime-web", "onnxruntime")
    assert engines["tflite-fp32"] == ("litertjs", "litert")
    assert engines["onnx-int8"] == ("onnxruntime-web",)


def test_want_replaces_the_choice() -> None:
    want = {"formats": ["onnx", "ort"], "precisions": ["fp16"]}
    assert ids(planned("classification", "raspberry-pi-5", want=want)) == "onnx-fp16 ort-fp16"


def test_what_is_wanted_and_nobody_takes_is_said() -> None:
    plan = planned("classification", "iot-hub-arm64", want={"formats": ["coreml"]})
    assert not plan.variants
    (refused,) = plan.refusals
    assert (refused.what, refused.why) == ("coreml", "no engine of the profile takes it: tflite")


def test_int4_is_for_texts() -> None:
    want = {"formats": ["coreml"], "precisions": ["int4"]}
    assert ids(planned("embedding", "iphone-recent", want=want)) == "coreml-int4"
    assert ids(planned("text-classification", "iphone-recent", want=want)) == "coreml-int4"
    assert planned("detection", "iphone-recent", want=want).refusals[0].why.startswith("int4 is for texts")


def test_int4_of_onnxruntime_is_made_on_request_and_where_int8_does_not_fit() -> None:
    want = {"formats": ["onnx"], "precisions": ["int4"]}
    for profile in ("store-pc-cpu", "store-pc-intel", "raspberry-pi-5", "mac-apple-silicon"):
        assert ids(planned("token-classification", profile, want=want)) == "onnx-int4"
        refused = planned("classification", profile, want=want).refusals
        assert [one.why for one in refused if one.engine == "onnxruntime"] == [
            "int4 is for texts: other models lose too much"
        ]
    plan = planned("text-classification", "raspberry-pi-5", only="int8 fp32 int8-dynamic int4")
    assert ids(plan) == "tflite-fp32 tflite-int8-dynamic onnx-fp32 onnx-int8-dynamic"
    memory = load_profile("raspberry-pi-5").memory_budget_bytes
    large = planned("text-classification", "raspberry-pi-5", float_bytes=memory * 4)
    assert ids(large) == "onnx-int4"
    assert [one.what for one in large.refusals if one.engine == "onnxruntime"] == [
        "onnx-fp32",
        "onnx-int8-dynamic",
    ]
    assert not planned("text-classification", "raspberry-pi-5", float_bytes=memory * 9).variants


def test_palettes_are_made_on_request_and_as_large_as_their_bits() -> None:
    assert "palettized" not in ids(planned("classification", "iphone-recent mac-apple-silicon"))
    for task in ("classification", "detection", "text-classification"):
        want: dict[str, Any] = {"formats": ["coreml"], "precisions": ["palettized"]}
        plan = planned(task, "iphone-recent mac-apple-silicon", want=want)
        assert ids(plan) == "coreml-palettized"
        assert plan.chain("coreml-palettized")[-2:] == ("coreml-fp16", "coreml-palettized")
        smaller = planned(task, "iphone-recent", want=want | {"palette_bits": 4})
        assert smaller.variants[0].expected_bytes < 0.7 * plan.variants[0].expected_bytes
        assert {step.id: step.options.get("bits") for step in smaller.steps}["coreml-palettized"] == 4
    refused = planned("classification", "raspberry-pi-5", want={"precisions": ["palettized"]}).refusals
    assert refused
    assert all("takes" in one.why for one in refused)


def test_core_ai_is_made_where_it_is_named() -> None:
    profiles = "iphone-recent mac-apple-silicon"
    assert "aimodel" not in ids(planned("classification", profiles))
    plan = planned("classification", profiles, want={"formats": ["aimodel"]}, kind=SourceKind.TORCH)
    assert ids(plan) == "aimodel-fp32"
    assert plan.variants[0].profiles == tuple(profiles.split())
    refused = planned("tensors", profiles, want={"formats": ["aimodel"]}, kind=SourceKind.KERAS).refusals
    assert {one.why for one in refused} == {"no step makes aimodel of a source of kind keras"}


def test_core_ml_int4_is_made_of_a_model_for_systems_that_have_it() -> None:
    plan = planned("embedding", "iphone-recent", want={"formats": ["coreml"], "precisions": ["int4"]})
    assert plan.chain("coreml-int4") == ("onnx-fp32", "coreml-fp16-ios18", "coreml-int4")


@pytest.mark.parametrize("kind", [SourceKind.SKLEARN, SourceKind.XGBOOST, SourceKind.LIGHTGBM])
def test_tables_become_onnx_and_are_not_quantized(kind: SourceKind) -> None:
    plan = planned("tensors", "raspberry-pi-5 store-pc-cpu", kind=kind)
    assert ids(plan) == "onnx-fp32 openvino-fp32"
    assert any(one.what == "tflite" and "no step makes tflite" in one.why for one in plan.refusals)


def test_a_quantized_source_stays_as_it_is() -> None:
    plan = planned(
        "detection", "raspberry-pi-5 iphone-recent", kind=SourceKind.TFLITE, precision=Precision.INT8
    )
    assert ids(plan) == "tflite-int8 onnx-int8"
    assert plan.reference == "tflite-int8"
    assert plan.reference_format is Format.TFLITE
    assert all(variant.twin is None for variant in plan.variants)
    assert any(one.what == "coreml" and "already" in one.why for one in plan.refusals)


def test_folding_leaves_the_reference_alone() -> None:
    plan = planned("classification", "store-pc-cpu iphone-recent", fold=True)
    assert plan.reference == "onnx-source"
    assert plan.chain("onnx-int8") == ("onnx-source", "onnx-fp32", "onnx-int8")
    assert plan.chain("openvino-fp32") == ("onnx-source", "onnx-fp32", "openvino-fp32")
    # These fold by themselves: what they are made of must not be folded already.
    assert plan.chain("tflite-fp32") == ("onnx-source", "tflite-fp32")
    options = {step.id: step.options for step in plan.steps}
    assert options["tflite-fp32"]["fold"] is True
    assert options["coreml-fp16"]["fold"] is True


def test_a_head_is_cut_before_anything_else_and_the_reference_is_whole() -> None:
    plan = planned("detection", "store-pc-cpu iphone-recent", boxes="outside")
    assert plan.reference == "onnx-source"
    assert plan.chain("openvino-fp32") == ("onnx-source", "onnx-fp32", "openvino-fp32")
    plan = planned("detection", "store-pc-cpu raspberry-pi-5", boxes="outside", fold=True)
    assert plan.chain("onnx-fp32") == ("onnx-source", "onnx-cut", "onnx-fp32")
    assert plan.chain("tflite-fp32") == ("onnx-source", "onnx-cut", "tflite-fp32")


def test_suppression_goes_in_after_quantization() -> None:
    plan = planned("detection", "raspberry-pi-5", nms="inside", want={"formats": ["onnx"]})
    assert plan.chain("onnx-mixed-s8-nms") == ("onnx-fp32", "onnx-mixed-s8", "onnx-mixed-s8-nms")
    assert [variant.id for variant in plan.variants] == ["onnx-fp32", "onnx-mixed-s8"]


def test_an_old_opset_is_raised() -> None:
    old, new = (planned("detection", "store-pc-cpu", opset=opset).steps[1] for opset in (11, 17))
    assert old.options["opset"] == 17
    assert "opset" not in new.options


def test_what_does_not_fit_is_refused() -> None:
    plan = planned("embedding", "iot-hub-arm64", float_bytes=3000 * MB)
    assert ids(plan) == "tflite-int8-dynamic"
    assert "about 2861 MiB, the runtime may take 1024 MiB" in plan.refusals[0].why


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("store-pc-cpu", {"activation": "uint8"}),
        ("raspberry-pi-5", {"activation": "int8"}),
        ("store-pc-nvidia", {"activation": "int8", "symmetric": True}),
    ],
)
def test_static_int8_is_what_the_kernels_like(profile: str, options: Mapping[str, Any]) -> None:
    plan = planned("classification", profile, want={"formats": ["onnx"], "precisions": ["int8"]})
    (variant,) = plan.variants
    step = next(step for step in plan.steps if step.id == variant.step)
    assert {key: step.options.get(key) for key in options} == options


def test_the_limits_of_the_recipe_reach_every_step() -> None:
    plan = planned("detection", "store-pc-cpu", step_minutes=2, step_memory_bytes=MB)
    assert {(step.timeout_s, step.memory_bytes) for step in plan.steps} == {(120.0, MB)}


@pytest.mark.parametrize("task", ["embedding", "text-classification"])
def test_steps_that_calibrate_with_texts_get_the_tokenizer(task: str) -> None:
    plan = planned(task, "store-pc-cpu")
    step = next(step for step in plan.steps if step.id == "openvino-int8")
    assert step.files == {"tokenizer": Path("/tokenizer.json")}


def test_no_option_names_a_folder_of_this_machine() -> None:
    plan = planned("classification", "raspberry-pi-5", kind=SourceKind.TORCH)
    assert all("/models" not in str(step.options) for step in plan.steps)


def test_the_tasks_here_are_tasks() -> None:
    for task in TASKS.values():
        TypeAdapter[TaskSpec](TaskSpec).validate_python(task)
