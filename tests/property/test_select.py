"""What holds for every ranking, whatever the bundle, the receipts and the machine."""

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.bundle import Format, Latency, Precision, Receipt, Variant
from edge_runtime.contract.device import Accelerator, Cpu, DeviceProfile, EngineSupport, Fact
from edge_runtime.engines.registry import ENGINES, FORMATS
from edge_runtime.engines.select import explain, rank

IDS = ("a", "b", "c", "d")
PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider", "XNNPACK", "CPU", "GPU", "ALL")
MACHINES = ("This CPU", "This GPU", "elsewhere")
PROFILES = ("here", "there")
engines = st.sampled_from(tuple(ENGINES))


def several(of: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, max_size=3, unique=True).map(tuple)


variants = st.lists(
    st.builds(
        Variant,
        id=st.sampled_from(IDS),
        format=st.sampled_from(Format),
        precision=st.sampled_from(Precision),
        path=st.just("model.bin"),
        sha256=st.just("0" * 64),
        size_bytes=st.sampled_from((1, 2000)),
        profiles=several(st.sampled_from(PROFILES)),
    ),
    max_size=4,
    unique_by=lambda variant: variant.id,
)
latencies = st.none() | st.builds(
    lambda ms: Latency(p50_ms=ms, p95_ms=ms, threads=1, runs=1), st.sampled_from((1.0, 2.0, 3.0))
)
receipts = st.lists(
    st.builds(
        Receipt,
        variant=st.sampled_from(IDS),
        engine=engines,
        machine=st.sampled_from(MACHINES),
        profile=st.none() | st.sampled_from(PROFILES),
        measured_at=st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")),
        parity=st.just({}),
        accuracy=st.just({}),
        latency=latencies,
        peak_memory_bytes=st.none() | st.sampled_from((1, 2000)),
    ),
    max_size=6,
)
supports = st.lists(
    st.builds(
        EngineSupport,
        engine=engines,
        formats=st.lists(st.sampled_from(Format), min_size=1, max_size=3).map(tuple),
        precisions=st.lists(st.sampled_from(Precision), min_size=1, max_size=3).map(tuple),
        providers=several(st.sampled_from(PROVIDERS)),
    ),
    max_size=4,
    unique_by=lambda support: support.engine,
).map(tuple)
profiles = supports.map(
    lambda chosen: DeviceProfile(
        name="here",
        title="Here",
        cpu=Cpu(name="This CPU", arch="x86_64", cores=1, threads=1),
        memory_bytes=2000,
        memory_budget_bytes=1000,
        accelerators=(Accelerator(kind="gpu", name="This GPU"),),
        engines=chosen,
        target_latency_ms=1,
        facts=(Fact(says="made up", source="this test"),),
    )
)
available = st.dictionaries(engines, several(st.sampled_from(PROVIDERS)) | st.just("not installed"))


@given(variants, receipts, profiles, available)
def test_usable_means_usable(variants, receipts, profile, available) -> None:
    found = {variant.id: variant for variant in variants}
    served = any(not one.profiles or profile.name in one.profiles for one in variants)
    for choice in rank(variants, receipts, profile, available):
        assert choice.why
        if not choice.usable:
            continue
        variant, here = found[choice.variant], available[choice.engine]
        assert not isinstance(here, str)
        assert choice.provider in here
        assert variant.format in FORMATS[choice.engine]
        assert not served or not variant.profiles or profile.name in variant.profiles
        assert variant.size_bytes <= profile.memory_budget_bytes


@given(variants, receipts, profiles, available)
def test_total(variants, receipts, profile, available) -> None:
    choices = rank(variants, receipts, profile, available)
    assert {choice.variant for choice in choices} == {variant.id for variant in variants}
    names = [(choice.variant, choice.engine, choice.provider) for choice in choices]
    assert len(set(names)) == len(names)
    usable = [choice.usable for choice in choices]
    assert usable == sorted(usable, reverse=True)


@given(variants, receipts, profiles, available, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(variants, receipts, profile, available, dice) -> None:
    first = rank(variants, receipts, profile, available)
    for shuffled in (variants, receipts):
        dice.shuffle(shuffled)
    backwards = dict(reversed(available.items()))
    assert rank(variants, receipts, profile, backwards) == first


@given(variants, receipts, profiles, available)
def test_no_measured_way_stands_behind_an_unmeasured_one(variants, receipts, profile, available) -> None:
    usable = [choice for choice in rank(variants, receipts, profile, available) if choice.usable]
    measured = [choice.why.startswith("measured") for choice in usable]
    assert measured == sorted(measured, reverse=True)
    times = [float(choice.why.split()[1]) for choice in usable if choice.why.startswith("measured")]
    assert times == sorted(times)


@given(variants, receipts, profiles, available)
def test_without_receipts_the_ranking_still_explains_itself(variants, receipts, profile, available) -> None:
    for measured in (receipts, ()):
        choices = rank(variants, measured, profile, available)
        text = explain(choices)
        for choice in choices:
            assert choice.why in text
