"""Build: the route of a recipe, from its plan to a signed bundle and its report.

Decides nothing about formats (`plan`) and nothing about budgets (`verify.gate`); `walk` has the work done, in
processes of their own. Imports no tool, so that a run that finds everything kept takes no time.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from converters.assembly import SAMPLES
from converters.bundle.sign import check_key, passphrase_from_environment, sign
from converters.bundle.writer import GoldenFiles, require_place, write
from converters.judged import Judged, judge, texts
from converters.plan import make_plan
from converters.planned import Plan, SourceFacts
from converters.recipe_file import LoadedRecipe
from converters.report.data import ReportData, ReportVariant
from converters.report.page import write as write_report
from converters.runner import Done, Watcher
from converters.source import examine
from converters.store import StepStore
from converters.walk import GOLDEN, Walk
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Omission, Provenance
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError, StorageError
from edge_runtime.contract.task import TextSpec
from edge_runtime.engines.hardware import read_cpu


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe, looked at and planned.

    Args:
        loaded: The recipe.
        facts: Of its source.
        plan: What will be done.
        tokenizer: `tokenizer.json` as a file of steps; empty where the task needs none.
    """

    loaded: LoadedRecipe
    facts: SourceFacts
    plan: Plan
    tokenizer: Mapping[str, Path]

    @property
    def source(self) -> str:
        """The source's name, for a person."""
        source = self.loaded.recipe.source
        return source.path.name if source.path is not None else str(source.module)


@dataclass(frozen=True, slots=True)
class Built:
    """The end of the route.

    Args:
        bundle: The bundle; None where no variant was good enough.
        report: The HTML page beside it.
        variants: All that were planned.
        warnings: Of the samples and the source.
        seconds: What the whole build took.
        cached: How many steps had their result already.
        steps: How many there were.
    """

    bundle: ModelBundle | None
    report: Path
    variants: tuple[Judged, ...]
    warnings: tuple[str, ...]
    seconds: float
    cached: int = 0
    steps: int = 0

    @property
    def failure(self) -> EdgeRuntimeError | None:
        """Why there is no bundle; None where there is one. A broken disk comes before all else."""
        if self.bundle is not None:
            return None
        broken = _broken_disk(self.variants)
        if broken is not None:
            return broken
        causes = [one.failure.error for one in self.variants if one.failure is not None]
        whys = {one.why: f"{one.planned.id} {one.outcome}: {one.why}" for one in self.variants}
        cause = next((error for error in causes if isinstance(error, ConversionError)), None)
        if cause is None or len(whys) > 1:
            return ConversionError("no variant passed", got="; ".join(whys.values()))
        return ConversionError(
            f"no variant passed: {cause.problem}",
            step=cause.step,
            operator=cause.operator,
            layer=cause.layer,
            expected=cause.expected,
            got=cause.got,
            do=cause.do,
        )


def prepare(loaded: LoadedRecipe) -> Prepared:
    """Look at the source, and plan.

    Raises:
        InputError: The source is missing or damaged.
        ConversionError: It is refused, a task of texts has no tokenizer, or no profile gets anything.
    """
    recipe = loaded.recipe
    facts = examine(recipe.source, loaded.module, recipe.task)
    tokenizer = recipe.tokenizer or facts.tokenizer
    if not isinstance(recipe.task, TextSpec):
        tokenizer = None
    elif tokenizer is None:
        raise ConversionError(
            f"recipe '{recipe.name}'",
            expected="the model's tokenizer.json",
            got="none",
            do="Give it with --tokenizer (`tokenizer` of the recipe)",
        )
    planned = make_plan(recipe, loaded.profiles, facts)
    if not planned.variants:
        reasons = "; ".join(f"{one.profile}: no {one.what}: {one.why}" for one in planned.refusals)
        raise ConversionError(
            f"recipe '{recipe.name}' leaves nothing to make",
            got=reasons or None,
            do="Widen --format and --precision (`want` of the recipe), or name another --profile",
        )
    return Prepared(loaded, facts, planned, {"tokenizer": tokenizer} if tokenizer else {})


def build(
    prepared: Prepared,
    out: Path,
    store: StepStore,
    *,
    tell: Watcher,
    key: Path | None = None,
    jobs: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Built:
    """Build a bundle.

    Args:
        prepared: What is wanted, and planned.
        out: The bundle's folder; the report lies beside it as `<out>.report.html`.
        store: Where results of steps are kept.
        tell: Told the progress of steps.
        key: Private key to sign with; None: the bundle is not signed.
        jobs: Steps at the same time.
        clock: Gives seconds.

    Raises:
        ConversionError: The recipe stops at a failure, and there was one.
        EdgeRuntimeError: A disk is full, something else lies at `out`, or the key is wrong.
    """
    started = clock()
    if key is not None:
        check_key(key, passphrase=passphrase_from_environment())
    require_place(out)
    recipe = prepared.loaded.recipe
    walk = Walk(recipe, prepared.plan, store, prepared.tokenizer, tell, jobs)
    walk.through()
    judged = tuple(judge(variant, recipe, walk) for variant in prepared.plan.variants)
    good = [one for one in judged if one.built is not None]
    page = out.parent / f"{out.name}.report.html"
    stopped = recipe.on_failure == "stop" and len(good) < len(judged)
    provenance = _provenance(prepared, store, walk)
    seal = None if key is None else partial(sign, key=key, passphrase=passphrase_from_environment())
    bundle = _write(prepared, judged, walk, out, provenance, seal) if good and not stopped else None
    write_report(page, _report(prepared, judged, walk, provenance if bundle else None))
    if stopped:
        _stop(judged, page)
    cached = sum(isinstance(one, Done) and one.cached for one in walk.outcomes.values())
    return Built(bundle, page, judged, _warnings(walk), clock() - started, cached, len(walk.outcomes))


def _warnings(walk: Walk) -> tuple[str, ...]:
    """Give what is odd about the samples, the source, and the two together."""
    steps = (SAMPLES, walk.plan.reference)
    return (*(text for name in steps for text in texts(walk.facts(name).get("warnings"))), *walk.warnings)


def _broken_disk(judged: Sequence[Judged]) -> StorageError | None:
    """Find a full or broken disk among the failures: it says nothing of the model, and comes first."""
    errors = (one.failure.error for one in judged if one.failure is not None)
    return next((error for error in errors if isinstance(error, StorageError)), None)


def _stop(judged: Sequence[Judged], page: Path) -> None:
    broken = _broken_disk(judged)
    if broken is not None:
        raise broken
    failed = next(one for one in judged if one.built is None)
    cause = failed.failure.error if failed.failure is not None else None
    known = isinstance(cause, ConversionError)
    raise ConversionError(
        f"variant '{failed.planned.id}' {failed.outcome}: {failed.why}",
        step=cause.step if known else failed.planned.step,
        operator=cause.operator if known else None,
        layer=cause.layer if known else None,
        do=f"No bundle was made, for on_failure is `stop`; {page} has all numbers",
    )


def _write(
    prepared: Prepared,
    judged: Sequence[Judged],
    walk: Walk,
    out: Path,
    provenance: Provenance,
    seal: Callable[[Path], object] | None,
) -> ModelBundle:
    recipe, golden = prepared.loaded.recipe, walk.outcomes.get(GOLDEN)
    return write(
        out,
        name=recipe.name,
        version=recipe.version,
        licence=recipe.licence,
        source=f"{prepared.facts.kind} {prepared.source}",
        task=recipe.task,
        variants=[one.built for one in judged if one.built is not None],
        receipts=[receipt for one in judged if one.built is not None for receipt in one.receipts],
        golden=GoldenFiles(golden.path / "golden-inputs.npz", golden.path / "golden-outputs.npz")
        if isinstance(golden, Done)
        else None,
        tokenizer=prepared.tokenizer.get("tokenizer"),
        omitted=[
            Omission(id=one.planned.id, profiles=refused, why=why_omitted(one))
            for one in judged
            if (refused := _refused(one))
        ],
        provenance=provenance,
        seal=seal,
    )


def why_omitted(one: Judged) -> str:
    """Say why in words that mean something elsewhere: where a log lies on this machine does not."""
    failure = one.failure
    if failure is None or str(failure.log) not in one.why:
        return one.why
    error = failure.error
    return str(EdgeRuntimeError(error.problem, expected=error.expected, got=error.got))


def _refused(one: Judged) -> tuple[str, ...]:
    """The profiles that were to have a variant and do not."""
    served = one.built.profiles if one.built is not None else ()
    return tuple(profile for profile in one.planned.profiles if profile not in served)


def _provenance(prepared: Prepared, store: StepStore, walk: Walk) -> Provenance:
    tools: dict[str, str] = {}
    for name in walk.outcomes:
        told = walk.facts(name).get("tools")
        tools |= {str(tool): str(version) for tool, version in told.items()} if isinstance(told, dict) else {}
    return Provenance(
        source_sha256=_digest(prepared.facts.files, store),
        recipe=prepared.loaded.told,
        tools=dict(sorted(tools.items())),
    )


def _digest(files: Mapping[str, Path], store: StepStore) -> str:
    """Digest the source: one file by itself, several by their names and digests."""
    found = {name: store.digests.of(path) for name, path in sorted(files.items())}
    if len(found) == 1:
        return next(iter(found.values()))
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _report(
    prepared: Prepared, judged: Sequence[Judged], walk: Walk, provenance: Provenance | None
) -> ReportData:
    recipe, samples = prepared.loaded.recipe, walk.facts(SAMPLES)
    kind = "stand-ins" if samples.get("synthetic") else "labelled" if samples.get("labelled") else "no labels"
    return ReportData(
        name=recipe.name,
        version=recipe.version,
        task=recipe.task.kind,
        source=f"{prepared.facts.kind} {prepared.source}",
        variants=[_report_variant(one) for one in judged],
        source_size_bytes=prepared.facts.size_bytes or None,
        facts={"machine": read_cpu().name, "samples": f"{samples.get('count', 0)}, {kind}"},
        provenance=provenance,
    )


def _report_variant(one: Judged) -> ReportVariant:
    return ReportVariant(
        id=one.planned.id,
        format=one.planned.format.value,
        precision=one.precision.value,
        verdicts={profile: one.verdict(profile) for profile in one.planned.profiles},
        size_bytes=one.size_bytes,
        receipts=one.receipts,
        layers=one.layers,
        layer_unit="what it costs alone, of the task's measure",
        warnings=one.warnings,
    )
