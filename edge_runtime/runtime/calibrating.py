"""Samples to a calibrated threshold: reads them, asks the device's model, and the cloud where it has to.

Chooses no threshold (`edge_runtime.routing.calibration` does) and writes no file.
"""

import csv
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from edge_runtime.contract.errors import ConfigError, EngineError, InputError, RefusedError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Request
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol import answers, json_document
from edge_runtime.routing.agreement import agree
from edge_runtime.routing.calibration import Calibration, Goal, Sample, calibrate
from edge_runtime.routing.contents import contents
from edge_runtime.routing.hardness import measure, rules_of, sureness
from edge_runtime.routing.outgoing import prepare
from edge_runtime.routing.policy import Policy
from edge_runtime.routing.privacy import forbidden
from edge_runtime.runtime.runtime import Runtime, ask
from edge_runtime.tasks.picture_file import read_picture

_ASKED = Decision(Route.LOCAL, Reason.POLICY)
_CLOUD_S = 30.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """One line of the samples.

    Args:
        value: The text, or the picture.
        label: What is right; None: the line does not say.
        cloud: What the cloud's model answers; None: the line does not say.
    """

    value: str | Picture
    label: str | None
    cloud: str | None


def read_samples(path: Path) -> Iterator[Labelled]:
    """Read samples.

    Args:
        path: CSV with a header, or JSON Lines; each with `text` or `image` (a path, relative to the file),
            and `label`, `cloud`, or both.

    Raises:
        InputError: The file cannot be read, or a line is none of these; names it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: Any = csv.DictReader(file) if path.suffix.lower() == ".csv" else map(json.loads, file)
            for number, row in enumerate(rows, 1):
                yield _sample(row, path, number)
    except OSError as error:
        raise InputError(f"samples {path}", expected="a readable file", got=error.strerror) from error
    except (ValueError, csv.Error) as error:
        raise InputError(
            f"samples {path}", expected="CSV or JSON Lines in UTF-8", got=str(error)[:200]
        ) from error


def calibrate_model(
    runtime: Runtime,
    model: str,
    samples: Iterator[Labelled],
    goal: Goal,
    *,
    ask_cloud: bool,
    on_progress: Callable[[int], None],
) -> tuple[Policy, Calibration]:
    """Answer every sample here, compare, and choose a threshold.

    Args:
        runtime: Has the model open.
        model: As the settings call it.
        samples: As the model will meet them.
        goal: What the threshold is for.
        ask_cloud: Whether the cloud answers the samples that do not say what it would.
        on_progress: Called with the number of samples done.

    Returns:
        The model's policy, whose rule was used, and the calibration.

    Raises:
        ConfigError: The rule cannot judge such answers, or no threshold reaches the goal.
        InputError: A sample lacks what is needed.
        EdgeRuntimeError: The model, or the cloud, failed.
    """
    policy, local = runtime.router.model(model).policy, runtime.local(model)
    if local is None or local.opened is None:
        why = "no bundle" if local is None else local.facts(None, 0.0).why_not or "does not fit the memory"
        raise EngineError(f"model '{model}'", expected="a model that is open here", got=why)
    if policy.rule not in rules_of(local.opened.kind):
        raise ConfigError(
            f"models.{model}.route.rule",
            expected=f"one of {', '.join(rules_of(local.opened.kind))} for a {local.opened.kind} model",
            got=policy.rule,
        )
    found: list[Sample] = []
    for number, sample in enumerate(samples, 1):
        request = ask(model, sample.value)
        value, confidence = local.predict(request.value)
        sure = sureness(policy.rule, policy.box_threshold, measure(value, confidence, _ASKED))
        here = json_document.read_object(json_document.write(answers.result_of(value)))
        size = len(prepare(request, runtime.router.model(model).cloud_model).body)
        there = _from_cloud(runtime, request) if ask_cloud and sample.cloud is None else None
        right = _compare(sample, here, there, number)
        found.append(replace(right, sureness=sure, request_bytes=size))
        on_progress(number)
    return policy, calibrate(found, goal)


def _sample(row: Any, path: Path, number: int) -> Labelled:
    said = cast("dict[str, Any]", row) if isinstance(row, dict) else dict[str, Any]()
    text, image = said.get("text"), said.get("image")
    label, cloud = said.get("label"), said.get("cloud")
    if not isinstance(text, str) and not isinstance(image, str):
        raise InputError(
            f"samples {path}: line {number}", expected="`text` or `image`", got=str(list(said))[:200]
        )
    value = text if isinstance(text, str) else Picture.from_bgr(read_picture(path.parent / str(image)))
    return Labelled(
        value, None if label in {None, ""} else str(label), None if cloud in {None, ""} else str(cloud)
    )


def _from_cloud(runtime: Runtime, request: Request) -> Mapping[str, Any]:
    if runtime.cloud is None:
        raise ConfigError("--ask-cloud", expected="the block `cloud` in the settings", got="none")
    routed = runtime.router.model(request.model)
    data = contents(request, None if routed.local is None else routed.local.kind)
    if kept := forbidden(routed.policy.never_leave, data, frozenset()):
        raise RefusedError(
            "--ask-cloud", expected="samples that may leave", got=f"never_leave: {', '.join(kept)}"
        )
    request = replace(request, data=data)
    outgoing = replace(prepare(request, routed.cloud_model), reason="calibration")
    answer = runtime.cloud.far.client.predict(
        request, outgoing, time.monotonic() + _CLOUD_S, retries=routed.retries, hedge_after_s=None
    )
    return json_document.read_object(json_document.write(answers.result_of(answer.value)))


def _compare(
    sample: Labelled, here: Mapping[str, Any], there: Mapping[str, Any] | None, number: int
) -> Sample:
    """Say who is right; the cloud is where nobody says better."""
    if sample.label is None and there is not None:
        same = agree(here, there)
        return Sample(0.0, local_right=same, cloud_right=True, agrees=same)
    classes: list[Mapping[str, Any]] | None = here.get("classes")
    truth = sample.label if sample.label is not None else sample.cloud
    if truth is None:
        raise InputError(f"sample {number}", expected="`label`, `cloud`, or --ask-cloud", got="none of them")
    if classes is None:
        raise InputError(
            f"sample {number}",
            expected="labels for a model that classifies",
            got=f"one of kind {here['kind']}",
            do="Leave the labels out, and use --ask-cloud",
        )
    ours = str(classes[0]["label"]) if classes else ""
    theirs = sample.cloud
    if theirs is None and there is not None:
        theirs = str(there["classes"][0]["label"]) if there.get("classes") else ""
    if theirs is None:
        theirs = truth
    return Sample(0.0, local_right=ours == truth, cloud_right=theirs == truth, agrees=ours == theirs)
