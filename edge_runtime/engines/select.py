"""Choosing a variant, an engine and a provider for a device: a pure ranking that explains itself.

Measured beats declared, declared beats default. Opens nothing and looks at no machine: what is installed
comes in as an argument.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edge_runtime.contract.bundle import Precision, Receipt, Variant
from edge_runtime.contract.device import DeviceProfile, EngineSupport
from edge_runtime.engines.registry import DEFAULT_PROVIDER, ENGINES, FORMATS

Available: TypeAlias = Mapping[str, tuple[str, ...] | str]
"""By engine: the providers it has here, or why it cannot run here."""

DEFAULT_PRECISIONS = (
    Precision.FP32,
    Precision.FP16,
    Precision.MIXED,
    Precision.INT8,
    Precision.INT8_DYNAMIC,
    Precision.INT16X8,
    Precision.INT4,
    Precision.PALETTIZED,
)
"""Where neither a receipt nor the profile speaks: fewer bits may be slower and less accurate."""

_Key: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a model on a device.

    Args:
        variant: The variant's id.
        engine: A name of the engine registry.
        provider: What the engine is to run it on, in its own words; empty where no engine fits.
        usable: Whether it can be tried here.
        why: Why it stands where it stands, or why it cannot be used; for a person.
    """

    variant: str
    engine: str
    provider: str
    usable: bool
    why: str


def rank(
    variants: Iterable[Variant], receipts: Iterable[Receipt], profile: DeviceProfile, available: Available
) -> tuple[Choice, ...]:
    """Order every way to run a model on a device.

    A variant made for other profiles is not used, unless the bundle has none for this one. What was measured
    on this machine or this profile comes first, by median latency; then what the profile prefers (engine,
    provider, precision); then the defaults. The arguments' own order does not matter.

    Args:
        variants: Of the bundle.
        receipts: Of the bundle, plus any measured here.
        profile: The device.
        available: What is installed; an engine that is absent was not asked for.

    Returns:
        Best first, unusable ones last; at least one entry a variant.
    """
    usable: list[tuple[_Key, Choice]] = []
    refused: list[Choice] = []
    measured, offered = tuple(receipts), tuple(variants)
    # Where nothing was made for this very profile, what was made for others may do as well.
    strict = any(not one.profiles or profile.name in one.profiles for one in offered)
    for variant in offered:
        ways = tuple(_ways(variant, measured, profile, available))
        if not ways:
            why = f"no engine asked for takes {variant.format}"
            refused.append(Choice(variant.id, "", "", False, why))
        for way in ways:
            problem = _problem(way, profile, available[way.engine], strict=strict)
            if problem:
                refused.append(Choice(variant.id, way.engine, way.provider, False, problem))
            else:
                key, why = _standing(way, profile)
                if not strict:
                    why += f"; made for {', '.join(variant.profiles)}, the bundle has none for {profile.name}"
                usable.append((key, Choice(variant.id, way.engine, way.provider, True, why)))
    usable.sort(key=lambda each: (each[0], _name(each[1])))
    return (*(choice for _, choice in usable), *sorted(refused, key=_name))


def explain(choices: Sequence[Choice]) -> str:
    """Write a ranking for a person, one line a choice."""
    usable = [choice for choice in choices if choice.usable]
    lines = [
        f"{place}. {choice.variant} on {choice.engine} ({choice.provider}): {choice.why}"
        for place, choice in enumerate(usable, 1)
    ]
    if not usable:
        lines = ["Nothing here can run this model."]
    refused = [choice for choice in choices if not choice.usable]
    if refused:
        lines.append("Not usable:")
    for choice in refused:
        where = f" on {choice.engine}" if choice.engine else ""
        provider = f" ({choice.provider})" if choice.provider else ""
        lines.append(f"   {choice.variant}{where}{provider}: {choice.why}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Way:
    """A variant on a provider of an engine, with what the profile and the receipts say of it."""

    variant: Variant
    engine: str
    provider: str
    place: int
    """Of the provider in the profile's order."""
    support: EngineSupport | None
    receipt: Receipt | None


def _name(choice: Choice) -> tuple[str, str, str]:
    return choice.variant, choice.engine, choice.provider


def _ways(
    variant: Variant, receipts: Sequence[Receipt], profile: DeviceProfile, available: Available
) -> Iterator[_Way]:
    for engine in ENGINES:
        if engine not in available or variant.format not in FORMATS[engine]:
            continue
        support = next((each for each in profile.engines if each.engine == engine), None)
        providers = (support.providers if support else ()) or (DEFAULT_PROVIDER[engine],)
        for place, provider in enumerate(providers):
            receipt = _receipt(variant, engine, provider, receipts, profile)
            yield _Way(variant, engine, provider, place, support, receipt)


def _receipt(
    variant: Variant, engine: str, provider: str, receipts: Sequence[Receipt], profile: DeviceProfile
) -> Receipt | None:
    """Find the receipt that speaks for a way: this machine's before this profile's, the newest of those.

    A receipt whose machine is an accelerator of the device speaks for the providers that are not the engine's
    default; every other receipt speaks for the default.
    """
    accelerators = {each.name for each in profile.accelerators}
    machines = {profile.cpu.name, *accelerators}
    fitting = [
        receipt
        for receipt in receipts
        if receipt.variant == variant.id
        and receipt.engine == engine
        and (receipt.profile == profile.name or receipt.machine in machines)
        and (receipt.machine in accelerators) == (provider != DEFAULT_PROVIDER[engine])
    ]
    return max(
        fitting,
        # The last item only keeps receipts of one moment in an order that is not the input's.
        key=lambda each: (
            each.latency is not None, each.machine in machines, each.measured_at, each.model_dump_json()
        ),
        default=None,
    )  # fmt: skip


def _problem(way: _Way, profile: DeviceProfile, here: tuple[str, ...] | str, *, strict: bool) -> str:
    """Say why a way cannot be used; empty when it can."""
    variant, budget = way.variant, profile.memory_budget_bytes
    if isinstance(here, str):
        return here
    if way.provider not in here:
        return f"provider {way.provider} is not here; there is {', '.join(here) or 'none'}"
    if strict and variant.profiles and profile.name not in variant.profiles:
        return f"made for {', '.join(variant.profiles)}, not for {profile.name}"
    if variant.size_bytes > budget:
        return f"its {variant.size_bytes} bytes exceed the memory budget of {budget}"
    if way.receipt and (way.receipt.peak_memory_bytes or 0) > budget:
        return f"needed {way.receipt.peak_memory_bytes} bytes when measured; the memory budget is {budget}"
    return ""


def _standing(way: _Way, profile: DeviceProfile) -> tuple[_Key, str]:
    """Give the sorting key of a usable way, and its reason."""
    variant, support, receipt = way.variant, way.support, way.receipt
    stated = [each.engine for each in profile.engines]
    precisions = [*(support.precisions if support else ()), *DEFAULT_PRECISIONS]
    taste = (
        stated.index(way.engine) if support else len(stated) + list(ENGINES).index(way.engine),
        way.place,
        precisions.index(variant.precision),
        FORMATS[way.engine].index(variant.format),
    )
    if receipt and receipt.latency:
        speed = receipt.latency
        why = f"measured {speed.p50_ms:g} ms at {speed.threads} thread(s) on {receipt.machine}"
        return (0, speed.p50_ms, *taste), why
    if support and variant.format in support.formats and variant.precision in support.precisions:
        return (1, *taste), f"not measured; in the order of profile {profile.name}"
    if not stated:
        # `auto` does not try the engines out beforehand: that takes seconds.
        return (2, *taste), f"not measured; in the default order, as profile {profile.name} names no engines"
    if not support:
        return (2, *taste), f"not measured; profile {profile.name} does not name this engine"
    return (2, *taste), (
        f"not measured; profile {profile.name} names no {variant.precision} {variant.format} for this engine"
    )
