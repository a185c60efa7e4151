"""The ranking's decision table, line by line, and its explanation."""

import pytest

from edge_runtime.contract.bundle import Format, Latency, Precision, Receipt, Variant
from edge_runtime.contract.device import Accelerator, Cpu, DeviceProfile, EngineSupport, Fact
from edge_runtime.engines.select import Available, explain, rank

GIB = 2**30
CPU = {"onnxruntime": ("CPUExecutionProvider",), "litert": ("XNNPACK", "CPU"), "openvino": ("CPU",)}


def variant(name: str, kind: Format, precision: Precision = Precision.FP32, **more: object) -> Variant:
    return Variant(
        id=name, format=kind, precision=precision, path="model.bin", sha256="0" * 64, size_bytes=10, **more
    )  # type: ignore[arg-type]


def receipt(variant: str, engine: str, p50_ms: float, machine: str = "Lab", **more: object) -> Receipt:
    latency = Latency(p50_ms=p50_ms, p95_ms=p50_ms, threads=1, runs=10)
    fields = {"profile": "shop", "measured_at": "2026-01-01T00:00:00Z", "latency": latency} | more
    return Receipt(variant=variant, engine=engine, machine=machine, **fields)  # type: ignore[arg-type]


def support(engine: str, *precisions: Precision, providers: tuple[str, ...] = ()) -> EngineSupport:
    formats = {"onnxruntime": Format.ONNX, "litert": Format.TFLITE, "openvino": Format.OPENVINO}
    return EngineSupport(
        engine=engine, formats=(formats[engine],), precisions=precisions, providers=providers
    )


def device(*engines: EngineSupport, accelerators: tuple[str, ...] = ()) -> DeviceProfile:
    return DeviceProfile(
        name="shop",
        title="A shop",
        cpu=Cpu(name="This CPU", arch="x86_64", cores=2, threads=2),
        memory_bytes=2 * GIB,
        memory_budget_bytes=GIB,
        accelerators=tuple(Accelerator(kind="gpu", name=name) for name in accelerators),
        engines=engines,
        target_latency_ms=100,
        facts=(Fact(says="made up", source="this test"),),
    )


ONNX, LITE, IR = (
    variant("onnx", Format.ONNX),
    variant("lite", Format.TFLITE),
    variant("ir", Format.OPENVINO, Precision.INT8),
)
ONNX8 = variant("onnx8", Format.ONNX, Precision.INT8)
FP32, INT8 = Precision.FP32, Precision.INT8
GPU = "CUDAExecutionProvider"
WITH_GPU = device(
    support("onnxruntime", FP32, providers=(GPU, "CPUExecutionProvider")), accelerators=("RTX",)
)

TABLE = [
    # what decides, variants, receipts, profile, available, wanted order of the variants
    ("the default order of engines", [IR, LITE, ONNX], [], device(), CPU, "onnx lite ir"),
    ("the profile's engines come first", [ONNX, LITE], [], device(support("litert", FP32)), CPU, "lite onnx"),
    (
        "the profile's precisions",
        [ONNX, ONNX8],
        [],
        device(support("onnxruntime", INT8, FP32)),
        CPU,
        "onnx8 onnx",
    ),
    ("the default precisions", [ONNX8, ONNX], [], device(), CPU, "onnx onnx8"),
    (
        "a precision the profile does not name comes last, and can be used",
        [ONNX, LITE],
        [],
        device(support("onnxruntime", INT8), support("litert", FP32)),
        CPU,
        "lite onnx",
    ),
    (
        "measured beats declared",
        [ONNX, LITE],
        [receipt("lite", "litert", 50.0)],
        device(support("onnxruntime", FP32), support("litert", FP32)),
        CPU,
        "lite onnx",
    ),
    (
        "the faster one",
        [ONNX, LITE],
        [receipt("lite", "litert", 50.0), receipt("onnx", "onnxruntime", 49.0)],
        device(),
        CPU,
        "onnx lite",
    ),
    (
        "this machine's receipt beats the profile's",
        [ONNX, LITE],
        [
            receipt("lite", "litert", 10.0),
            receipt("lite", "litert", 90.0, "This CPU", profile=None, measured_at="2025-01-01T00:00:00Z"),
            receipt("onnx", "onnxruntime", 50.0),
        ],
        device(),
        CPU,
        "onnx lite",
    ),
    (
        "the newer receipt",
        [ONNX, LITE],
        [
            receipt("lite", "litert", 10.0),
            receipt("lite", "litert", 90.0, measured_at="2026-02-01T00:00:00Z"),
            receipt("onnx", "onnxruntime", 50.0),
        ],
        device(),
        CPU,
        "onnx lite",
    ),
    (
        "a newer receipt without a latency takes nothing back",
        [ONNX, LITE],
        [
            receipt("lite", "litert", 10.0),
            receipt("lite", "litert", 1.0, latency=None, measured_at="2026-02-01T00:00:00Z"),
        ],
        device(),
        CPU,
        "lite onnx",
    ),
    (
        "another device's receipt says nothing",
        [ONNX, LITE],
        [receipt("lite", "litert", 1.0, profile="elsewhere")],
        device(),
        CPU,
        "onnx lite",
    ),
    (
        "a receipt without a latency says nothing",
        [ONNX, LITE],
        [receipt("lite", "litert", 1.0, latency=None)],
        device(),
        CPU,
        "onnx lite",
    ),
]


@pytest.mark.parametrize(("variants", "receipts", "profile", "available", "order"), [r[1:] for r in TABLE],
                         ids=[row[0] for row in TABLE])  # fmt: skip
def test_order(
    variants: list[Variant], receipts: list[Receipt], profile: DeviceProfile, available: Available, order: str
) -> None:
    choices = rank(variants, receipts, profile, available)
    assert all(choice.usable for choice in choices)
    assert list(dict.fromkeys(choice.variant for choice in choices)) == order.split()


def test_a_variant_for_other_profiles_is_used_only_where_there_is_none_for_this_one() -> None:
    phone = variant("v", Format.ONNX, profiles=("phone",))
    own = variant("own", Format.ONNX, profiles=(device().name,))
    choice = rank([phone], [], device(), CPU)[0]
    assert choice.usable
    assert "made for phone, the bundle has none for" in choice.why
    both = rank([phone, own], [], device(), CPU)
    assert {choice.variant for choice in both if choice.usable} == {"own"}
    assert all("made for phone" in choice.why for choice in both if choice.variant == "v")


UNUSABLE = [
    ("not installed", ONNX, [], device(), {"onnxruntime": "pip install it"}, "pip install it"),
    ("not asked for", ONNX, [], device(), {"litert": ("XNNPACK",)}, "takes onnx"),
    ("too large", ONNX.model_copy(update={"size_bytes": 2 * GIB}), [], device(), CPU, "memory budget"),
    (
        "needed too much memory when measured",
        LITE,
        [receipt("lite", "litert", 1.0, peak_memory_bytes=2 * GIB)],
        device(),
        CPU,
        "needed 2147483648 bytes",
    ),
    (
        "its provider is not here",
        ONNX,
        [],
        device(support("onnxruntime", FP32, providers=(GPU,))),
        {"onnxruntime": ("CPUExecutionProvider",)},
        f"{GPU} is not here; there is CPUExecutionProvider",
    ),
]


@pytest.mark.parametrize(("one", "receipts", "profile", "available", "why"), [r[1:] for r in UNUSABLE],
                         ids=[row[0] for row in UNUSABLE])  # fmt: skip
def test_unusable(
    one: Variant, receipts: list[Receipt], profile: DeviceProfile, available: Available, why: str
) -> None:
    (choice, *_) = rank([one], receipts, profile, available)
    assert not choice.usable
    assert why in choice.why
    assert explain([choice]).startswith("Nothing here can run this model.")


def test_equals_stand_in_the_order_of_their_names() -> None:
    twins = [variant("b", Format.ONNX), variant("a", Format.ONNX)]
    for variants in (twins, twins[::-1]):
        choices = rank(variants, [], device(), {"onnxruntime": ("CPUExecutionProvider",)})
        assert [choice.variant for choice in choices] == ["a", "b"]


def test_receipts_of_one_moment_do_not_depend_on_their_order() -> None:
    twins = [receipt("lite", "litert", 10.0), receipt("lite", "litert", 90.0)]
    assert rank([LITE], twins, device(), CPU) == rank([LITE], twins[::-1], device(), CPU)


def test_a_gpu_comes_before_the_cpu_and_the_cpu_stays() -> None:
    here = {"onnxruntime": (GPU, "CPUExecutionProvider")}
    assert [choice.provider for choice in rank([ONNX], [], WITH_GPU, here)] == [GPU, "CPUExecutionProvider"]


def test_without_the_gpu_the_cpu_is_chosen_and_the_reason_is_told() -> None:
    best, other = rank([ONNX], [], WITH_GPU, {"onnxruntime": ("CPUExecutionProvider",)})
    assert (best.provider, best.usable) == ("CPUExecutionProvider", True)
    assert (other.provider, other.usable) == (GPU, False)


def test_a_receipt_of_the_accelerator_speaks_for_the_accelerator_only() -> None:
    here = {"onnxruntime": (GPU, "CPUExecutionProvider")}
    first, second = rank([ONNX], [receipt("onnx", "onnxruntime", 2.0, "RTX")], WITH_GPU, here)
    assert (first.provider, first.why[:13]) == (GPU, "measured 2 ms")
    assert "not measured" in second.why
    first, second = rank([ONNX], [receipt("onnx", "onnxruntime", 2.0, "This CPU")], WITH_GPU, here)
    assert first.provider == "CPUExecutionProvider"


def test_the_explanation() -> None:
    choices = rank([ONNX, LITE], [receipt("lite", "litert", 12.5)], device(), CPU | {"openvino": "not here"})
    assert explain(choices) == (
        "1. lite on litert (XNNPACK): measured 12.5 ms at 1 thread(s) on Lab\n"
        "2. onnx on onnxruntime (CPUExecutionProvider): "
        "not measured; in the default order, as profile shop names no engines\n"
        "Not usable:\n"
        "   onnx on openvino (CPU): not here"
    )


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        (device(), "not measured; in the default order, as profile shop names no engines"),
        (device(support("litert", INT8)), "not measured; profile shop does not name this engine"),
        (
            device(support("onnxruntime", INT8)),
            "not measured; profile shop names no fp32 onnx for this engine",
        ),
        (device(support("onnxruntime", FP32)), "not measured; in the order of profile shop"),
    ],
)
def test_the_reason_says_what_the_profile_says(profile: DeviceProfile, why: str) -> None:
    here = {"onnxruntime": CPU["onnxruntime"]}
    assert [choice.why for choice in rank([ONNX], [], profile, here)] == [why]
