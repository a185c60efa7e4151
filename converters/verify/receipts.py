"""Receipts: measures one variant on this host against its source, and writes it down. Judges nothing.

A step (see `converters.step`), `converters.verify.receipts:measure`. Its inputs, folders unless it says
otherwise:

    source_model  the model that variants are compared with, `MODEL_FILES[source_format]`
    model         the variant, `MODEL_FILES[format]`
    samples       of `converters.verify.samples:prepare`
    fp32          the variant's fp32 twin that the same engines run; absent: it is fp32, or there is none
    tokenizer     the file `tokenizer.json` (a `Step.files` entry); a task of texts needs it

Its options, JSON; those without a default are needed:

    variant        the variant's id, for the receipts
    task           TaskSpec as the source model has it
    variant_task   TaskSpec as this variant has it; absent: as `task`
    format         of the variant
    source_format  of the source model; absent: `onnx`
    fp32_format    of the twin; absent: as `format`
    fp32_task      TaskSpec as the twin has it; absent: as `variant_task`
    engines        engines of the registry that may be measured; absent or empty: all that take the format
    inputs         {"name in the source": "name in this model"}, the export step's fact; for tasks of tensors
    outputs        the same for outputs
    export_rel     the export step's `parity.rel`, where the source model stands for a framework's model
    verification   how many rows, from the end of the samples, are compared; absent: 64
    profile        the device profile this host stands for; absent: none
    cosine         the budget of that name; where an output is below, there is a trace to the first layer
                   that is; absent: 0.99
    agreement      likewise, of top-1 or boxes; absent: 0.95
    seconds        how long each model is timed; absent: 1
    browser_seconds  how long each engine of browsers may be busy; then it is left with fewer samples, and
                   without a speed; absent: as long as it takes

It leaves `receipt.json`, a list of `contract.bundle.Receipt`: one for each engine that ran the variant, an
empty list where nothing on this host could. `read_receipts` reads it. Its facts:

    receipts      how many
    not_verified  one line for each engine that is not here; `gate` says the rest
    failed        {engine: why} of engines that are here and do not open it
    labelled      whether accuracy was measured
    outputs       {engine: {output: {"cosine", "max_abs", "sqnr_db"}}}
    rows          [{"sample": …, "cosine.NAME": …, "boxes": …, "found": …}] of the first engine, one a sample
    trace         {"layers": […], "first_diverging": …, "note": …} where one was made
    warnings      one line each
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter

from converters.step import SAMPLES_FILE, Facts, Options, Tell
from converters.verify.accuracy import with_source
from converters.verify.allowance import Allowance
from converters.verify.gate import AGREEMENT, COSINE, EXPORT, SOURCE
from converters.verify.labelled import measured
from converters.verify.latency import measure as measure_cost
from converters.verify.options import integer, names, number, task_of, text, texts
from converters.verify.parity import LENIENT, Parity, Reading, name_outputs, read
from converters.verify.reference import open_source
from converters.verify.runners import NOT_VERIFIED, Runner, Subject, open_subject, runners
from converters.verify.trace import trace
from edge_runtime.contract.bundle import Receipt
from edge_runtime.contract.errors import BundleError, ConversionError, EdgeRuntimeError, EngineError
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    TaskSpec,
)
from edge_runtime.contract.tensors import Array
from edge_runtime.tasks.rows import LABELS, PAIRS, raw_inputs, read_rows

RECEIPTS = "receipt.json"
_LIST: TypeAdapter[tuple[Receipt, ...]] = TypeAdapter(tuple[Receipt, ...])
_LOW_SCORE = 0.001
"""Down to it average precision wants detections."""


@dataclass(slots=True)
class _Trial:
    """One engine with the variant, and what it has shown so far."""

    subject: Subject
    parity: Parity
    allowance: Allowance
    answers: list[Any] = field(default_factory=list[Any])
    rows: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    problem: str = ""

    @property
    def engine(self) -> str:
        return self.subject.runner.engine


@dataclass(frozen=True, slots=True)
class _Job:
    """What the options and the samples say."""

    task: TaskSpec
    variant_task: TaskSpec
    raws: Sequence[Any]
    labels: Sequence[Array]
    pairs: Sequence[Array]
    renamed: Mapping[str, str]

    @property
    def labelled(self) -> bool:
        return bool(self.labels or self.pairs)

    def raw_for_variant(self, at: int) -> Any:
        """The sample as the variant takes it: the names of its tensors may be others."""
        raw = self.raws[at]
        if not self.renamed or not isinstance(raw, Mapping):
            return raw
        tensors = cast("Mapping[str, Array]", raw)
        return {self.renamed.get(name, name): array for name, array in tensors.items()}


def measure(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Measure a variant; see the module.

    Raises:
        ConversionError: An option is wrong, or nothing here runs the source model.
        EdgeRuntimeError: The source model does not run, or the variant runs nowhere it should.
    """
    job = _job(inputs, options)
    format_ = text(options, "format")
    found, absent = runners(format_, texts(options, "engines"))
    problems = [f"{line}: {NOT_VERIFIED}" for line in absent]
    if not found:
        problems = problems or [f"no engine here takes {format_}: {NOT_VERIFIED}"]
        return _finish(out, (), job, problems, {})
    with ExitStack() as opened:
        source = open_source(
            inputs, text(options, "source_format", "onnx"), job.task, min_score=_low(job.task, job.labelled)
        )
        opened.callback(source.session.close)
        trials, failed = _trials(found, source, inputs, options, job)
        problems += [f"{why}: {NOT_VERIFIED}" for why in failed.values()] if not trials else []
        for trial in trials:
            opened.callback(trial.subject.session.close)
        answers = _compare(source, trials, job, tell)
        receipts = [_receipt(trial, answers, inputs, options, job) for trial in trials]
        traced = _trace(source, trials, options, job, format_)
    problems += [trial.problem for trial in trials if trial.problem]
    facts: Facts = {
        "failed": failed,
        "outputs": {trial.engine: _by_output(trial.parity.numbers()) for trial in trials},
        "rows": [{"sample": at, **row} for at, row in enumerate(trials[0].rows)] if trials else [],
        **({} if traced is None else {"trace": traced}),
    }
    short = [_used_up(trial, job) for trial in trials if trial.allowance.used_up]
    return _finish(out, receipts, job, problems, facts, short)


def read_receipts(folder: Path) -> tuple[Receipt, ...]:
    """Read what `measure` left.

    Args:
        folder: Of the step.

    Raises:
        OSError: There is nothing.
        ValueError: It is something else.
    """
    return _LIST.validate_json((folder / RECEIPTS).read_bytes())


def _job(inputs: Mapping[str, Path], options: Options) -> _Job:
    task = _ranked(task_of(options))
    variant = _ranked(task_of(options, "variant_task")) if options.get("variant_task") else task
    rows = read_rows(inputs["samples"] / SAMPLES_FILE)
    pairs = rows.get(PAIRS, [])
    count = 0 if pairs else integer(options, "verification", 64)
    labels = rows.get(LABELS, [])
    return _Job(
        task,
        variant,
        raw_inputs({name: some[-count:] for name, some in rows.items() if name != PAIRS}, task),
        labels[-count:],
        pairs,
        names(options, "inputs"),
    )


def _ranked(spec: TaskSpec) -> TaskSpec:
    """Let a classifier name five classes at least, for top-5."""
    return (
        spec.model_copy(update={"top_k": max(5, spec.top_k)})
        if isinstance(spec, ClassificationSpec)
        else spec
    )


def _low(spec: TaskSpec, labelled: bool) -> float | None:
    """The score down to which boxes are wanted; None: as declared."""
    if not isinstance(spec, DetectionSpec):
        return None
    return min(_LOW_SCORE, spec.min_score) if labelled else spec.min_score * LENIENT


def _trials(
    found: Sequence[Runner], source: Subject, inputs: Mapping[str, Path], options: Options, job: _Job
) -> tuple[list[_Trial], dict[str, JsonValue]]:
    """Open the variant with every engine; an engine that refuses it costs the others nothing.

    What stands in for an engine may know less than the engine: that it refuses a model says nothing of it.
    """
    trials: list[_Trial] = []
    failed: dict[str, JsonValue] = {}
    errors: list[EdgeRuntimeError] = []
    for runner in found:
        try:
            trials.append(_trial(runner, source, inputs, options, job))
        except EdgeRuntimeError as error:
            failed[runner.engine] = f"{runner.engine}: {error}"
            if runner.timed or not isinstance(error, ConversionError | EngineError):
                errors.append(error)
    if not trials and errors:
        raise errors[0]
    return trials, failed


def _trial(
    runner: Runner, source: Subject, inputs: Mapping[str, Path], options: Options, job: _Job
) -> _Trial:
    limit = number(options, "browser_seconds") if runner.in_browser else None
    allowance = Allowance() if limit is None else Allowance(limit)
    with allowance.counted():
        subject = open_subject(
            runner,
            inputs["model"],
            text(options, "format"),
            job.variant_task,
            inputs.get("tokenizer"),
            min_score=_low(job.variant_task, job.labelled),
        )
    told = name_outputs(source, subject, names(options, "outputs"))
    return _Trial(subject, Parity(job.task, job.variant_task, told), allowance)


def _compare(source: Subject, trials: Sequence[_Trial], job: _Job, tell: Tell) -> list[Any]:
    """Ask the source and every trial, sample by sample; give the source's answers."""
    answers: list[Any] = []
    for at, raw in enumerate(job.raws):
        tell(0.8 * at / len(job.raws), f"sample {at + 1} of {len(job.raws)}")
        mine = read(source, raw)
        answers.append(mine.answer)
        for trial in trials:
            if trial.rows and trial.allowance.used_up:
                continue
            with trial.allowance.counted():
                theirs = _read_or_none(trial, job, at)
            trial.answers.append(None if theirs is None else theirs.answer)
            trial.rows.append(trial.parity.add(mine, theirs))
    return answers


def _used_up(trial: _Trial, job: _Job) -> str:
    return (
        f"{trial.engine}: its {trial.allowance.limit_s:g} s are used up: {len(trial.rows)} of {len(job.raws)}"
        " samples were compared, and its speed was not measured. Give it more (`browser_seconds` of the"
        " recipe), or close other programs"
    )


def _read_or_none(trial: _Trial, job: _Job, at: int) -> Reading | None:
    """Ask a variant; None where it has no answer: NaN, or an output that is not what its task says."""
    try:
        return read(trial.subject, job.raw_for_variant(at))
    except (EngineError, BundleError) as error:
        trial.problem = trial.problem or f"{trial.engine}: no answer to sample {at}: {error}"
        return None


def _receipt(
    trial: _Trial, answers: Sequence[Any], inputs: Mapping[str, Path], options: Options, job: _Job
) -> Receipt:
    parity = trial.parity.numbers()
    rel = number(options, "export_rel")
    if rel is not None:
        parity[EXPORT] = rel
    cut = len(trial.answers) < len(answers)
    # Without an answer to some samples accuracy says nothing; `agreement.answered` fails it already.
    found, source = (
        ({}, {})
        if trial.problem or (cut and job.pairs)
        else (
            measured(job.task, job.labels, job.pairs, some[: len(trial.answers)])
            for some in (trial.answers, answers)
        )
    )
    cost = None
    if trial.subject.runner.timed and not trial.allowance.used_up:
        with ExitStack() as opened:
            twin = _twin(trial, inputs, options, job)
            if twin is not None:
                opened.callback(twin.session.close)
            seconds = number(options, "seconds", 1.0) or 1.0
            cost = measure_cost(trial.subject, twin, job.raw_for_variant(0), seconds)
    return Receipt(
        variant=text(options, "variant"),
        engine=trial.engine,
        machine=trial.subject.runner.machine,
        profile=text(options, "profile") if options.get("profile") else None,
        measured_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        parity=parity,
        accuracy=with_source(found, source, SOURCE) if found else {},
        latency=None if cost is None else cost.latency,
        peak_memory_bytes=None if cost is None else cost.peak_memory_bytes,
    )


def _twin(trial: _Trial, inputs: Mapping[str, Path], options: Options, job: _Job) -> Subject | None:
    if "fp32" not in inputs:
        return None
    format_ = text(options, "fp32_format", text(options, "format"))
    if not trial.subject.runner.takes(format_):
        return None
    spec = task_of(options, "fp32_task") if options.get("fp32_task") else job.variant_task
    return open_subject(trial.subject.runner, inputs["fp32"], format_, spec, inputs.get("tokenizer"))


def _trace(
    source: Subject, trials: Sequence[_Trial], options: Options, job: _Job, format_: str
) -> dict[str, JsonValue] | None:
    """Look into the first trial that has lost its likeness; None where none has."""
    least = number(options, "cosine", 0.99) or 0.0
    agreement = number(options, "agreement", 0.95) or 0.0
    for trial in trials:
        numbers = trial.parity.numbers()
        limits = {key: least if key.startswith(COSINE) else agreement for key in numbers}
        if not any(numbers[key] < limits[key] for key in numbers if key.startswith((COSINE, AGREEMENT))):
            continue
        worst = min(range(len(trial.rows)), key=lambda at: _likeness(trial.rows[at]))
        mine = source.task.preprocess(job.raws[worst])[0]
        theirs = trial.subject.task.preprocess(job.raw_for_variant(worst))[0]
        found = trace(
            (text(options, "source_format", "onnx"), source.model, mine),
            (format_, trial.subject.model, theirs),
            least,
        )
        return {"engine": trial.engine, "sample": worst, **found.facts()}
    return None


def _likeness(row: Mapping[str, float]) -> float:
    if "answered" in row:
        return -1.0
    cosines = [value for key, value in row.items() if key.startswith(COSINE)]
    shares = [row["found"] / row["boxes"]] if row.get("boxes") else []
    return min(cosines + shares, default=1.0)


def _by_output(numbers: Mapping[str, float]) -> dict[str, JsonValue]:
    found: dict[str, dict[str, JsonValue]] = {}
    for key, value in numbers.items():
        kind, _, name = key.partition(".")
        if kind in {"cosine", "max_abs", "sqnr_db"}:
            found.setdefault(name, {})[kind] = value
    return dict(found)


def _finish(
    out: Path,
    receipts: Sequence[Receipt],
    job: _Job,
    problems: Sequence[str],
    facts: Facts,
    short: Sequence[str] = (),
) -> Facts:
    document = [one.model_dump(mode="json", exclude_none=True) for one in receipts]
    (out / RECEIPTS).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    warnings = [*short] + [
        f"{one.engine}: no box was found in any sample, by neither model; give samples with objects"
        for one in receipts
        if isinstance(job.task, DetectionSpec) and not any(key.startswith(AGREEMENT) for key in one.parity)
    ]
    return {
        "receipts": len(receipts),
        "not_verified": [*problems],
        "labelled": job.labelled,
        "warnings": [*warnings],
        **facts,
    }
