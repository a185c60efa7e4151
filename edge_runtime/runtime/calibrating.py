"""Samples to a calibrated threshold: reads them, asks the device's model, and the cloud where it has to.

Chooses no threshold (`edge_runtime.routing.calibration` does) and writes no file. Opens no outbox: a device
that runs with the same settings goes on.
"""

import csv
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from edge_runtime.contract.errors import ConfigError, EngineError, InputError, RefusedError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol import answers, json_document
from edge_runtime.routing.agreement import agree
from edge_runtime.routing.audit_log import AuditLog
from edge_runtime.routing.calibration import Calibration, Goal, Sample, calibrate
from edge_runtime.routing.channel import Channel
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.contents import contents
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.hardness import measure, rules_of, sureness
from edge_runtime.routing.local import Local
from edge_runtime.routing.outgoing import prepare
from edge_runtime.routing.policy import Policy
from edge_runtime.routing.privacy import forbidden
from edge_runtime.runtime.asked import ask
from edge_runtime.runtime.cloud import channel_options
from edge_runtime.settings import CloudSettings, RouteSettings
from edge_runtime.tasks.picture_file import read_picture

_ASKED = Decision(Route.LOCAL, Reason.POLICY)
_CLOUD_S = 30.0

LEAST_SAMPLES = 50
"""With fewer, an accuracy is off by over 14 percentage points in one case of twenty (1.96 · √(¼ / n))."""

AskCloud = Callable[[Request], Answer[Any]]


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
    local: Local,
    policy: Policy,
    samples: Iterator[Labelled],
    goal: Goal,
    *,
    ask_cloud: AskCloud | None,
    on_progress: Callable[[int], None],
) -> Calibration:
    """Answer every sample here, compare, and choose a threshold.

    Args:
        local: The model.
        policy: Its own, whose rule is used.
        samples: As the model will meet them; at least `LEAST_SAMPLES`.
        goal: What the threshold is for.
        ask_cloud: Answers the samples that do not say what the cloud would; None: they must.
        on_progress: Called with the number of samples done.

    Raises:
        ConfigError: The rule cannot judge such answers, or no threshold reaches the goal.
        InputError: There are too few samples, or one lacks what is needed or names a label that the model
            does not know.
        EdgeRuntimeError: The model, or the cloud, failed.
    """
    if local.opened is None:
        why = local.facts(None, 0.0).why_not or "does not fit the memory"
        raise EngineError(f"model '{local.name}'", expected="a model that is open here", got=why)
    if policy.rule not in rules_of(local.opened.kind):
        raise ConfigError(
            f"models.{local.name}.route.rule",
            expected=f"one of {', '.join(rules_of(local.opened.kind))} for a {local.opened.kind} model",
            got=policy.rule,
        )
    found: list[Sample] = []
    for number, sample in enumerate(samples, 1):
        request = ask(local.name, sample.value)
        value, confidence = local.predict(request.value)
        _check_labels(sample, getattr(value, "labels", ()), number)
        sure = sureness(policy.rule, policy.box_threshold, measure(value, confidence, _ASKED))
        here = _document(value)
        size = len(prepare(request, local.name).body)
        there = None
        if ask_cloud is not None and sample.cloud is None:
            there = _document(ask_cloud(request).value)
        right = _compare(sample, here, there, number)
        found.append(replace(right, sureness=sure, request_bytes=size))
        on_progress(number)
    if len(found) < LEAST_SAMPLES:
        raise InputError(
            "samples",
            expected=f"at least {LEAST_SAMPLES}",
            got=str(len(found)),
            do="With fewer a threshold fits the noise; some hundreds are better",
        )
    return calibrate(found, goal)


@contextmanager
def asking_cloud(
    cloud: CloudSettings, state_dir: Path, routed: RouteSettings, policy: Policy, name: str
) -> Generator[AskCloud, None, None]:
    """Ask the cloud for as long as a `with` block runs, beside a device that may be running.

    What leaves is written down in `audit-calibration.jsonl`, for the device's own audit log is its own.

    Args:
        cloud: The cloud.
        state_dir: For the audit log.
        routed: The model's block `route`.
        policy: What may not leave.
        name: The model, as the settings call it.

    Yields:
        Asks; raises `RefusedError` where a sample may not leave.

    Raises:
        ConfigError: A certificate cannot be read, or the library `httpx` is missing.
    """
    model = routed.cloud_model or name
    with ExitStack() as opened:
        log = AuditLog(state_dir / "audit-calibration.jsonl")
        opened.callback(log.close)
        client = CloudClient(Channel(channel_options(cloud)), CloudGauge(), log.leaving)
        opened.callback(client.close)

        def ask_cloud(request: Request) -> Answer[Any]:
            data = contents(request, None)
            if kept := forbidden(policy.never_leave, data, frozenset()):
                raise RefusedError(
                    "--ask-cloud", expected="samples that may leave", got=f"never_leave: {', '.join(kept)}"
                )
            leaving = replace(request, data=data)
            outgoing = replace(prepare(leaving, model), reason="calibration")
            return client.predict(leaving, outgoing, time.monotonic() + _CLOUD_S, retries=routed.retry)

        yield ask_cloud


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


def _document(value: object) -> Mapping[str, Any]:
    return json_document.read_object(json_document.write(answers.result_of(value)))


def _check_labels(sample: Labelled, known: Sequence[str], number: int) -> None:
    """Refuse a label that the model cannot give: a typing error would count as a mistake of the model."""
    for name, label in (("label", sample.label), ("cloud", sample.cloud)):
        if label is not None and known and label not in known:
            near = get_close_matches(label, known, n=1)
            raise InputError(
                f"sample {number}: `{name}`",
                expected=f"one of {', '.join(known[:20])}" + (", …" if len(known) > 20 else ""),
                got=label[:80],
                do=f"Did you mean '{near[0]}'?" if near else None,
            )


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
