"""The plan of a conversion: recipe × profiles × facts of the source → steps, variants, refusals. Pure.

The rules, in their order; the tables they look into are in `targets`:

1. Every engine of a profile gets one format: the first it takes that can be made of this source, so
   OpenVINO's own before ONNX. A device with little memory gets `.ort`, which the small build of onnxruntime
   reads, not ONNX. `want.formats` replaces this rule by the formats it names; some are made by name only.
2. Each format comes as float (fp16 for Core ML, fp32 otherwise), as reference and fallback; in what the
   engine prefers to that; and in the first quantized precision it takes. `want.precisions` replaces this
   rule.
3. int8 is static where pictures go in, with ranges measured on samples; without samples there is none. A
   detector gets mixed precision instead: int8 for as many layers as the accuracy budget allows. Anything else
   gets int8 weights, its activations measured at every run; so does a classifier in TFLite that attends or
   normalizes each sample, which static int8 spoils there. Core ML's int8 is of weights alone, and needs no
   samples.
4. int4 is for texts. Where the first quantized precision does not fit the profile's memory, the next one that
   does is planned: int4 in onnxruntime, which is smaller than int8 there, and slower. Models of tables, and
   sources that are quantized already, are not quantized.
5. Equal work is done once, whoever wants it; static int8 for onnxruntime has a variant for each kind of
   kernels.

Runs nothing, reads no disk and knows no vendor. What a step's result is like, `variants` says afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from converters.assembly import Assembly, name_of
from converters.planned import Choice, Plan, PlannedVariant, Refusal, SourceFacts
from converters.recipe import Recipe, SourceKind
from converters.targets import (
    CALIBRATED,
    NO_KERNELS,
    ON_REQUEST,
    PALETTE_BITS,
    QUANTIZED,
    SHARE,
    SMALL_BYTES,
    SMALLER,
    kernels_of,
    make_first,
)
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.device import DeviceProfile, EngineSupport
from edge_runtime.contract.task import TextSpec

_TABLES = frozenset({SourceKind.SKLEARN, SourceKind.XGBOOST, SourceKind.LIGHTGBM})
_ONNX = frozenset({Format.ONNX, Format.ORT})


def make_plan(recipe: Recipe, profiles: Sequence[DeviceProfile], facts: SourceFacts) -> Plan:
    """Decide what to make.

    Args:
        recipe: What is wanted.
        profiles: Those it names, in its order.
        facts: Of its source.

    Returns:
        The plan; it has no variants where everything was refused.
    """
    planner = _Planner(recipe, facts, Assembly(recipe, facts))
    reference = planner.assembly.reference()
    for profile in profiles:
        planner.serve(profile)
    return Plan(
        tuple(planner.assembly.steps.values()),
        tuple(planner.variants.values()),
        tuple(planner.choices),
        tuple(planner.refusals),
        reference,
        planner.assembly.reference_format,
    )


@dataclass(slots=True)
class _Planner:
    recipe: Recipe
    facts: SourceFacts
    assembly: Assembly
    variants: dict[str, PlannedVariant] = field(default_factory=dict[str, PlannedVariant])
    choices: list[Choice] = field(default_factory=list[Choice])
    refusals: list[Refusal] = field(default_factory=list[Refusal])

    def serve(self, profile: DeviceProfile) -> None:
        """Decide for one profile."""
        served = {format_ for engine in profile.engines for format_ in engine.formats}
        wanted = self.recipe.want.formats
        for format_ in wanted:
            if format_ not in served:
                why = f"no engine of the profile takes it: {', '.join(sorted(served))}"
                self.refusals.append(Refusal(profile.name, "", format_.value, why))
        for engine in profile.engines:
            for format_ in self._formats(profile, engine):
                self._serve(profile, engine, format_)

    def _formats(self, profile: DeviceProfile, engine: EngineSupport) -> list[Format]:
        wanted = self.recipe.want.formats
        taken = [one for one in engine.formats if (one in wanted if wanted else one not in ON_REQUEST)]
        small = profile.memory_budget_bytes <= SMALL_BYTES and engine.engine == "onnxruntime"
        if small and Format.ORT in taken and not wanted:
            taken.sort(key=lambda format_: format_ is not Format.ORT)
        found = [format_ for format_ in taken if self._cannot(format_) is None]
        for format_ in taken if wanted else taken[: not found]:
            if (why := self._cannot(format_)) is not None:
                self.refusals.append(Refusal(profile.name, engine.engine, format_.value, why))
        return found if wanted else found[:1]

    def _cannot(self, format_: Format) -> str | None:
        make = make_first(self.facts.kind, format_)
        if make is None:
            return f"no step makes {format_} of a source of kind {self.facts.kind}"
        if self.facts.precision is not None and format_ is Format.COREML:
            return f"the source is {self.facts.precision} already: give the float32 model for Core ML"
        return None

    def _serve(self, profile: DeviceProfile, engine: EngineSupport, format_: Format) -> None:
        wanted = self.recipe.want.precisions
        base = self.assembly.float_of(format_)
        if wanted:
            for precision in wanted:
                self._offer(profile, engine, format_, precision, explicit=True)
            return
        before = engine.precisions[: engine.precisions.index(base)] if base in engine.precisions else ()
        better = [one for one in before if one not in QUANTIZED and self._resolve(engine, format_, one)[0]]
        for precision in (*better, base):
            self._offer(profile, engine, format_, precision)
        if base in QUANTIZED:
            return
        makes = Format.ONNX if format_ is Format.ORT else format_
        quantized = [one for one in engine.precisions if one in QUANTIZED and (makes, one) in SMALLER]
        usable = [one for one in quantized if self._resolve(engine, format_, one)[0]]
        if quantized and usable[:1] != quantized[:1]:
            self._offer(profile, engine, format_, quantized[0])
        if usable:
            self._offer(profile, engine, format_, usable[0])
            self._offer_smaller(profile, engine, format_, usable)

    def _offer_smaller(
        self, profile: DeviceProfile, engine: EngineSupport, format_: Format, usable: Sequence[Precision]
    ) -> None:
        """Plan fewer bits where the quantized precision that is planned does not fit the profile's memory."""
        became = [(asked, self._resolve(engine, format_, asked)[0]) for asked in usable]
        sizes = [(asked, self._size(precision)) for asked, precision in became if precision is not None]
        budget = profile.memory_budget_bytes
        if sizes[0][1] <= budget:
            return
        fitting = [asked for asked, size in sizes if size <= budget]
        if fitting:
            self._offer(profile, engine, format_, fitting[0])

    def _offer(
        self,
        profile: DeviceProfile,
        engine: EngineSupport,
        format_: Format,
        asked: Precision,
        *,
        explicit: bool = False,
    ) -> None:
        """Plan a variant for a profile, or say why not."""
        precision, why = self._resolve(engine, format_, asked, explicit=explicit)
        name = name_of(format_, precision or asked)
        if precision is not None:
            size = self._size(precision)
            if size > profile.memory_budget_bytes:
                budget = profile.memory_budget_bytes >> 20
                precision, why = None, f"about {size >> 20} MiB, the runtime may take {budget} MiB"
        if precision is None:
            self.refusals.append(Refusal(profile.name, engine.engine, name, why))
            return
        kernels, options = NO_KERNELS
        quantized = precision is not self.assembly.float_of(format_)
        if format_ in _ONNX and quantized and precision in {Precision.INT8, Precision.MIXED}:
            kernels, options = kernels_of(profile)
        step = self.assembly.model(format_, precision, kernels, options)
        variant = self._variant(profile, engine, format_, precision, kernels, step)
        self.choices.append(Choice(profile.name, engine.engine, variant, why))

    def _variant(
        self,
        profile: DeviceProfile,
        engine: EngineSupport,
        format_: Format,
        precision: Precision,
        kernels: str,
        step: str,
    ) -> str:
        """Note that a profile wants a variant."""
        name = name_of(format_, precision, kernels)
        base = self.assembly.float_of(format_)
        twin = None if precision is base else self.assembly.twin(format_)
        known = self.variants.get(name) or PlannedVariant(
            name, format_, precision, step, twin, (), (), self._size(precision), kernels
        )
        self.variants[name] = replace(
            known,
            engines=tuple(dict.fromkeys((*known.engines, engine.engine))),
            profiles=tuple(dict.fromkeys((*known.profiles, profile.name))),
            serving=tuple(dict.fromkeys((*known.serving, (profile.name, engine.engine)))),
        )
        return name

    def _resolve(
        self, engine: EngineSupport, format_: Format, asked: Precision, *, explicit: bool = False
    ) -> tuple[Precision | None, str]:
        """Say what becomes of a precision: one, and why; or None, and why not."""
        base = self.assembly.float_of(format_)
        if asked not in engine.precisions:
            return None, f"{engine.engine} takes {', '.join(engine.precisions)} there"
        if asked is base:
            return base, _why_float(engine, base)
        if self.facts.precision is not None:
            return None, f"the source is {self.facts.precision} already: give the float32 model"
        if asked in QUANTIZED and self.facts.kind in _TABLES:
            return None, "a model of tables has nothing that 8 bits make smaller"
        found, why = self._quantized(engine, format_, asked, explicit=explicit)
        makes = Format.ONNX if format_ is Format.ORT else format_
        if found is not None and (makes, found) not in SMALLER:
            return None, f"no step makes {found} of {makes}"
        return found, why

    def _quantized(
        self, engine: EngineSupport, format_: Format, asked: Precision, *, explicit: bool
    ) -> tuple[Precision | None, str]:
        kind = self.recipe.task.kind
        vision = kind in {"classification", "detection"}
        first = f"{engine.engine} takes {asked} first here" if asked is engine.precisions[0] else "smaller"
        if asked is Precision.INT4 and not isinstance(self.recipe.task, TextSpec):
            return None, "int4 is for texts: other models lose too much"
        if asked is Precision.INT8 and format_ is Format.COREML:
            return asked, "smaller: weights in 8 bits"
        if asked is Precision.INT8 and not vision and format_ is not Format.OPENVINO:
            if Precision.INT8_DYNAMIC not in engine.precisions:
                return None, f"{engine.engine} takes no int8-dynamic, and the task is not one of pictures"
            return Precision.INT8_DYNAMIC, f"{first}: weights in 8 bits, activations measured at every run"
        if asked is Precision.INT8_DYNAMIC and vision and format_ in _ONNX and not explicit:
            return None, "dynamic convolutions are 5 to 14 times slower than float in onnxruntime"
        if asked is Precision.INT8 and format_ is Format.TFLITE and self._wide and not explicit:
            return self._instead(engine, first)
        if asked in CALIBRATED and self.recipe.samples is None:
            return None, f"static {asked} needs samples: ranges of activations are measured on real inputs"
        if asked is Precision.INT8 and kind == "detection":
            return Precision.MIXED, f"{first}: int8 for as many layers as the detector's accuracy allows"
        how = {
            Precision.INT8: "static, ranges from samples",
            Precision.INT8_DYNAMIC: "weights in 8 bits, activations measured at every run",
            Precision.MIXED: "int8 for as many layers as the accuracy budget allows",
            Precision.INT16X8: "weights in 8 bits, activations in 16",
            Precision.INT4: "weights in 4 bits",
            Precision.PALETTIZED: f"each weight is one of {2**self.recipe.want.palette_bits} values",
            Precision.FP16: "half the size",
        }.get(asked, "")
        return asked, f"{first}: {how}" if how else first

    @property
    def _wide(self) -> bool:
        return self.facts.wide and self.recipe.task.kind == "classification"

    def _instead(self, engine: EngineSupport, first: str) -> tuple[Precision | None, str]:
        """What an engine gets instead of static int8 of wide activations; see `quantize.wide`."""
        why = "attention and normalizing each sample lose too much in static int8 in TFLite"
        if Precision.INT8_DYNAMIC in engine.precisions:
            how = "weights in 8 bits, activations measured at every run"
            return Precision.INT8_DYNAMIC, f"{first}: {how}, because {why}"
        if Precision.MIXED in engine.precisions and self.recipe.samples is not None:
            how = "int8 for as many layers as the accuracy budget allows"
            return Precision.MIXED, f"{first}: {how}, because {why}"
        return None, why

    def _size(self, precision: Precision) -> int:
        share = SHARE[precision]
        if precision is Precision.PALETTIZED:
            share *= self.recipe.want.palette_bits / PALETTE_BITS
        return round(self.facts.float_bytes * share)


def _why_float(engine: EngineSupport, base: Precision) -> str:
    if base in QUANTIZED:
        return "the source as it is"
    if engine.precisions[0] is base:
        return f"{engine.engine} takes {base} first here"
    return "float: reference and fallback"
