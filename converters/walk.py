"""Walk: runs a plan's steps wave by wave, for what a model is like, only the step that made it can say.

A wave has the steps that are equally far from the source; before it runs, their option `task` is filled in
from the facts of the steps before. Then the variants are measured. The runner does the work, `judged` judges.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from converters.assembly import SAMPLES
from converters.browser.packages import PACKAGES
from converters.browser.page import find_chromium
from converters.planned import Plan, PlannedVariant
from converters.recipe import Recipe
from converters.runner import Done, Failed, Outcome, Skipped, Watcher, run
from converters.sample_names import check_names
from converters.step import SAMPLES_FILE, Facts, Step
from converters.store import StepStore
from converters.variants import Shape, between, shape, task_of
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.task import TaskSpec

GOLDEN = "golden"
"""Id of the step that makes golden inputs and outputs."""
_VERIFY = "verify-"
_EVALUATED = 16
"""So many samples where the evaluator stands in for Core ML: it takes seconds for each."""
_ENGINES = "engines"
_RUNNERS: Mapping[Format, str] = {Format.AIMODEL: "coreai"}
"""Formats that are measured in the environment of a tool: it brings what runs them."""
_FOLD = "converters.export.fold:fold"


@dataclass(slots=True)
class Walk:
    """One walk through a plan.

    Args:
        recipe: What is wanted.
        plan: What is planned.
        store: Where results are kept.
        tokenizer: `tokenizer.json` as a file of steps; empty where there is none.
        tell: Told the progress of steps.
        jobs: Steps at the same time.
        outcomes: What became of each step so far.
        warnings: What is odd about the samples and the source together.
    """

    recipe: Recipe
    plan: Plan
    store: StepStore
    tokenizer: Mapping[str, Path]
    tell: Watcher
    jobs: int = 1
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    warnings: list[str] = field(default_factory=list[str])
    _ran: dict[str, Step] = field(default_factory=dict[str, Step])

    def through(self) -> None:
        """Run all steps of the plan, then golden outputs and the measuring of each variant.

        Raises:
            StorageError: The store cannot be used.
            ConversionError: The samples are for inputs that the source does not have.
        """
        waves: dict[int, list[Step]] = {}
        for step in self.plan.steps:
            waves.setdefault(len(self.plan.chain(step.id)), []).append(step)
        for depth in sorted(waves):
            self._run([self._filled(step) for step in waves[depth] if self._ready(step)])
            if self.plan.reference in {step.id for step in waves[depth]}:
                self._check_samples()
        last = [self._golden(), *(self._measure(variant) for variant in self.plan.variants)]
        self._run([step for step in last if self._ready(step)])

    def facts(self, step: str) -> Facts:
        """Give what a step said; empty where it has no result."""
        outcome = self.outcomes.get(step)
        return outcome.facts if isinstance(outcome, Done) else {}

    def measured(self, variant: PlannedVariant) -> Outcome:
        """Give what became of the measuring of a variant."""
        return self.outcomes[f"{_VERIFY}{variant.id}"]

    def shape(self, step: str) -> Shape:
        """Say what a step's model became on its way from the source."""
        return shape([self.facts(name) for name in self.plan.chain(step)])

    def failure(self, outcome: Outcome) -> Failed | None:
        """Give what went wrong with a step, or with the one a skipped step needed; None: nothing did."""
        while isinstance(outcome, Skipped):
            outcome = self.outcomes[outcome.because]
        return outcome if isinstance(outcome, Failed) else None

    def _check_samples(self) -> None:
        """Compare the names of samples and of inputs before anything is made of either."""
        samples, read = self.recipe.samples, self.outcomes.get(SAMPLES)
        if self.recipe.task.kind != "tensors" or samples is None or samples.path.suffix.lower() != ".npz":
            return
        inputs = self.facts(self.plan.reference).get("inputs")
        if not isinstance(read, Done) or not isinstance(inputs, Mapping):
            return
        doubt = check_names(samples.path, read.path / SAMPLES_FILE, list(inputs))
        if doubt is not None:
            self.warnings.append(doubt)

    def _run(self, steps: Sequence[Step]) -> None:
        """Run steps; what they stand on has results already, which are only looked up."""
        if not steps:
            return
        names = {step.id for step in steps}

        def tell(name: str, share: float, doing: str) -> None:
            if name in names:
                self.tell(name, share, doing)

        found = run([*self._below(steps), *steps], self.store, tell=tell, jobs=self.jobs)
        self.outcomes |= {name: found[name] for name in names}
        self._ran |= {step.id: step for step in steps}

    def _below(self, steps: Sequence[Step]) -> Iterator[Step]:
        """The steps that some steps stand on, in the order they ran in."""
        wanted = {name for step in steps for name in step.needs.values()}
        for step in reversed(self._ran.values()):
            if step.id in wanted:
                wanted |= set(step.needs.values())
        yield from (step for step in self._ran.values() if step.id in wanted)

    def _ready(self, step: Step) -> bool:
        """Tell whether a step can run; note which step it lacks where it cannot."""
        lacking = next(
            (name for name in step.needs.values() if not isinstance(self.outcomes.get(name), Done)), None
        )
        if lacking is not None:
            self.outcomes[step.id] = Skipped(lacking)
        return lacking is None

    def _filled(self, step: Step) -> Step:
        """Give a step with the task as the model it takes has it."""
        before = step.needs.get("model")
        if step.id == SAMPLES:
            return step
        task = self.recipe.task if before is None else task_of(self.recipe.task, self.shape(before))
        told = _json(task)
        options: dict[str, JsonValue] = {**step.options, "task": told}
        if step.function == _FOLD and isinstance(told, dict):
            options["input"] = told["input"]
        return replace(step, options=options)

    def _golden(self) -> Step:
        reference = self.plan.reference
        options: dict[str, JsonValue] = {
            "task": _json(task_of(self.recipe.task, self.shape(reference))),
            "source_format": self.plan.reference_format.value,
        }
        needs = {"source_model": reference, "samples": SAMPLES}
        return self._verifying(GOLDEN, "converters.verify.golden:make", _ENGINES, options, needs)

    def _measure(self, variant: PlannedVariant) -> Step:
        reference, own = self.shape(self.plan.reference), self.shape(variant.step)
        budgets, samples = self.recipe.budgets, self.recipe.samples
        options: dict[str, JsonValue] = {
            "variant": variant.id,
            "task": _json(task_of(self.recipe.task, reference)),
            "variant_task": _json(task_of(self.recipe.task, own)),
            "format": variant.format.value,
            "source_format": self.plan.reference_format.value,
            "inputs": cast("dict[str, JsonValue]", between(reference.inputs, own.inputs)),
            "outputs": cast("dict[str, JsonValue]", between(reference.outputs, own.outputs)),
            "engines": list(variant.engines),
            "cosine": budgets.cosine,
            "agreement": budgets.agreement,
            **({"verification": _rows(variant, samples.verification)} if samples else {}),
            **({"export_rel": own.export_rel} if own.export_rel is not None else {}),
            # What was not verified for want of a browser is measured once there is one.
            **(
                {"browser": find_chromium(), "browser_seconds": self.recipe.browser_seconds}
                if PACKAGES.keys() & set(variant.engines)
                else {}
            ),
        }
        needs = {"source_model": self.plan.reference, "model": variant.step, "samples": SAMPLES}
        if variant.twin is not None and isinstance(self.outcomes.get(variant.twin), Done):
            needs["fp32"] = variant.twin
            options["fp32_task"] = _json(task_of(self.recipe.task, self.shape(variant.twin)))
        tool = _RUNNERS.get(variant.format, _ENGINES)
        return self._verifying(
            f"{_VERIFY}{variant.id}", "converters.verify.receipts:measure", tool, options, needs
        )

    def _verifying(
        self, name: str, function: str, tool: str, options: Mapping[str, JsonValue], needs: Mapping[str, str]
    ) -> Step:
        limits = self.recipe.step_minutes * 60
        return Step(name, function, tool, options, needs, self.tokenizer, timeout_s=limits)


def _rows(variant: PlannedVariant, wanted: int) -> int:
    """Say how many samples a variant is measured on."""
    evaluated = variant.format is Format.COREML and sys.platform != "darwin"
    return min(wanted, _EVALUATED) if evaluated else wanted


def _json(task: TaskSpec) -> JsonValue:
    return cast(JsonValue, task.model_dump(mode="json"))
