"""Candidate: a version of a model on trial, from opened to closed. Judges nothing and swaps nothing."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from edge_runtime.agent.adoption import Incumbent
from edge_runtime.agent.plans import LOW_SCORE, shown_score
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError
from edge_runtime.contract.fleet import Trial as Needs
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, GenerationSpec
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.engines.base import Session
from edge_runtime.engines.measure import peak_memory
from edge_runtime.local_model import AnyModel, open_any_model
from edge_runtime.protocol.answers import result_of
from edge_runtime.routing.agreement import agree
from edge_runtime.settings import ModelSettings
from edge_runtime.tasks.rows import raw_inputs, read_rows
from edge_runtime.tasks.sample_input import sample_input
from edge_runtime.update.health import Evidence, judge
from edge_runtime.update.trial_likeness import same_objects
from edge_runtime.update.trial_run import Mirror, ModelTrial
from edge_runtime.update.trial_side import Side, side_of
from edge_runtime.update.trial_tally import Tally

_POLL_S = 0.2


class Candidate:
    """One version of a model on trial.

    Args:
        bundle: The version.
        settings: Of a model that would use it: engine and scores.
        profile: This device.
        incumbent: What answers now; None: nothing does.
        needs: What the deployment asks for.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        settings: ModelSettings,
        profile: DeviceProfile,
        incumbent: Incumbent | None,
        needs: Needs,
    ) -> None:
        self._bundle = bundle
        self._profile = profile
        self._incumbent = incumbent
        self._needs = needs
        self._engine = settings.engine.name
        # A new version was not measured here: no `tuned` is of it.
        self._options = settings.engine.options(None)
        task = bundle.manifest.task
        self._shown = shown_score(settings, task)
        self._score = LOW_SCORE if isinstance(task, DetectionSpec | ClassificationSpec) else None

    def evidence(self, live: Mirror, stop: Callable[[], bool]) -> Evidence | None:
        """Open it, try it, and close it.

        Args:
            live: Where live inputs come from.
            stop: Asked several times a second.

        Returns:
            What was measured; None: it was stopped.

        Raises:
            UpdateFailedError: It does not open.
            ConfigError: No engine has the name that the settings give.
        """
        try:
            model = open_any_model(
                self._bundle, self._profile, self._options, engine=self._engine, min_score=self._score
            )
            with closing(model.predictor):
                tally = (
                    self._generated(model, live, stop)
                    if _generates(model)
                    else self._tried(model, live, stop)
                )
        except (ConfigError, UpdateFailedError):
            raise
        except EdgeRuntimeError as error:
            raise UpdateFailedError(Failure.OPEN_FAILED, str(error)) from error
        return None if stop() else tally.evidence()

    def _tried(self, model: AnyModel, live: Mirror, stop: Callable[[], bool]) -> Tally:
        old = self._incumbent
        new = self._side(model.bundle, model.choice.variant, model.session)
        theirs = None if old is None else self._side(old.bundle, old.variant, old.session)
        trial = ModelTrial(new, theirs, live, needs=self._needs, same=self._same, stop=stop)
        trial.run()
        tally = trial.tally
        if (
            old is not None
            and theirs is not None
            and not stop()
            and judge(tally.evidence(), self._needs) is None
        ):
            # In processes of their own, so that both are measured alike and whole.
            raw = new.samples()[0]
            tally.memory_bytes = self._peak(new, model.choice.engine, raw)
            tally.old_memory_bytes = self._peak(theirs, old.engine, raw)
        return tally

    def _side(self, bundle: ModelBundle, variant: str, session: Session) -> Side:
        return side_of(bundle, variant, session, min_score=self._score)

    def _peak(self, side: Side, engine: str, raw: Any) -> int | None:
        tensors, _ = side.tensors(raw)
        return peak_memory(engine, side.bundle.path(side.variant), self._options, tensors)

    def _same(self, one: Any, other: Any) -> bool:
        if isinstance(one, Detections) and isinstance(other, Detections):
            return same_objects(one, other, self._shown)
        return agree(result_of(one), result_of(other))

    def _generated(self, model: AnyModel, live: Mirror, stop: Callable[[], bool]) -> Tally:
        """Let a model that generates answer its golden prompts, then live ones; its engine refuses NaN."""
        golden = self._bundle.manifest.golden
        prompts = (
            [sample_input(model.spec, model.session.inputs)]
            if golden is None
            else raw_inputs(read_rows(self._bundle.root / golden.inputs.path), model.spec)
        )
        for prompt in prompts:
            if not stop():
                model.predictor.predict(prompt)
        tally, until_s = Tally(), time.monotonic() + self._needs.shadow_s
        while (left_s := until_s - time.monotonic()) > 0 and not stop():
            prompt = live.take(min(left_s, _POLL_S))
            if prompt is None:
                continue
            tally.calls += 1
            try:
                model.predictor.predict(prompt)
            except EdgeRuntimeError:
                tally.errors += 1
        return tally


def _generates(model: AnyModel) -> bool:
    return isinstance(model.spec, GenerationSpec)
