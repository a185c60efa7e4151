"""`edge-runtime route explain` and `route calibrate`: what the router would do, and with which threshold."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.route import Decision
from edge_runtime.local_model import this_device
from edge_runtime.routing.calibration import Calibration, Goal, Point
from edge_runtime.routing.local import Local
from edge_runtime.routing.policy import Mode
from edge_runtime.routing.threshold_file import threshold_file, write_threshold
from edge_runtime.runtime.bundles import bundles_of
from edge_runtime.runtime.calibrating import asking_cloud, calibrate_model, read_samples
from edge_runtime.runtime.explain import Explanation, explain
from edge_runtime.runtime.models import open_local
from edge_runtime.runtime.policies import policy_of
from edge_runtime.settings import AgentSettings, load_settings

_SHOWN_POINTS = 12


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What `route calibrate` found.

    Args:
        model: As the settings call it.
        out: The file that was written.
        calibration: The threshold and its curve.
    """

    model: str
    out: Path
    calibration: Calibration


def explain_route(store: Path, model: str, facts: str) -> Explanation:
    """Explain what would happen with a request.

    Args:
        store: The settings.
        model: As they call it.
        facts: As for `runtime.explain.explain`.

    Raises:
        ConfigError: Settings, model or facts are wrong.
    """
    return explain(load_settings(store), model, facts)


def show_explanation(found: Explanation, screen: Console) -> None:
    """Print the answer for a person."""
    screen.print(f"[bold]{found.model}[/], policy {found.policy.mode}: {_said(found.decision)}")
    if found.verdict is not None:
        screen.print(f"with the device's answer: {found.verdict.action}, {_said(found.verdict.decision)}")
    screen.print("\nThe same facts under every policy:\n")
    table = Table(box=None, pad_edge=False)
    for mode in Mode:
        table.add_column(f"[bold]{mode}[/]" if mode is found.policy.mode else mode.value)
    table.add_row(*(f"{one.route}: {one.reason}" for one in found.row.values()))
    screen.print(table)


def calibrate_route(
    store: Path,
    model: str,
    samples: Path,
    *,
    budget: float | None,
    budget_bytes: float | None,
    accuracy: float | None,
    ask_cloud: bool,
    out: Path | None,
    screen: Console,
) -> Calibrated:
    """Calibrate a model's threshold and write its file. A device that runs meanwhile goes on.

    Args:
        store: The settings.
        model: As they call it.
        samples: CSV or JSON Lines.
        budget: At most this share of the requests goes to the cloud.
        budget_bytes: At most so many bytes a request go there.
        accuracy: At least this share of the answers is right.
        ask_cloud: Whether the cloud answers the samples that do not say what it would.
        out: The file; None: the model's `threshold_file`.
        screen: For progress.

    Raises:
        ConfigError: Settings or goal are wrong, or nothing says where to write.
        EdgeRuntimeError: As `calibrate_model`.
    """
    settings = load_settings(store)
    if model not in settings.models:
        raise ConfigError("--model", expected=f"one of {', '.join(sorted(settings.models))}", got=model)
    wanted = settings.models[model]
    target = out or wanted.route.threshold_file
    if target is None:
        raise ConfigError("--out", expected="a file, or `threshold_file` in the route", got="neither")
    goal = Goal(share=budget, mean_bytes=budget_bytes, accuracy=accuracy)
    # The threshold is not calibrated yet: the file need not be there.
    route = wanted.route.model_copy(update={"threshold_file": None})
    policy, _ = policy_of(model, route, has_cloud=settings.cloud is not None)
    if ask_cloud and settings.cloud is None:
        raise ConfigError("--ask-cloud", expected="the block `cloud` in the settings", got="none")
    with ExitStack() as opened:
        asks = None
        if ask_cloud and settings.cloud is not None:
            side = asking_cloud(settings.cloud, settings.state_dir, route, policy, model)
            asks = opened.enter_context(side)
        local = _open(settings, model)
        opened.callback(local.close)
        status = opened.enter_context(screen.status("Answering samples …"))
        found = calibrate_model(
            local,
            policy,
            read_samples(samples),
            goal,
            ask_cloud=asks,
            on_progress=lambda count: status.update(f"Answering samples … {count}"),
        )
    write_threshold(target, threshold_file(model, policy.rule, policy.box_threshold, found))
    return Calibrated(model, target, found)


def show_calibration(done: Calibrated, screen: Console) -> None:
    """Print the curve for a person."""
    found = done.calibration
    table = Table(
        "threshold", "to the cloud", "accuracy", "by lot", "bytes a request", box=None, pad_edge=False
    )
    for point in _some(found.curve, found.chosen):
        mark = "[bold]" if point == found.chosen else ""
        table.add_row(
            f"{mark}{point.threshold:.4f}",
            f"{mark}{point.share:.1%}",
            f"{mark}{point.accuracy:.2%}",
            f"{mark}{point.random:.2%}",
            f"{mark}{point.mean_bytes:.0f}",
        )
    screen.print(table)
    chosen = found.chosen
    screen.print(
        f"\n{found.samples} samples: threshold [bold]{chosen.threshold:.4f}[/] sends {chosen.share:.1%} to"
        f" the cloud and is right in {chosen.accuracy:.2%}; of the answers that are kept the cloud differs"
        f" from {found.disagreement:.1%}.\nWritten to {done.out}: `threshold_file: {done.out.name}`"
    )


def _open(settings: AgentSettings, model: str) -> Local:
    """Open the model alone, as the device would that has nothing else to do."""
    wanted = settings.models[model]
    if not wanted.here:
        raise ConfigError(
            f"models.{model}", expected="a model that the device has", got="one of the cloud only"
        )
    profile, budget = this_device(settings.profile), settings.memory_budget_mb
    left_bytes = profile.memory_budget_bytes if budget is None else budget * 2**20
    return open_local(model, wanted, profile, bundles_of(settings), left_bytes=left_bytes, workers=1)


def _some(curve: tuple[Point, ...], chosen: Point) -> list[Point]:
    every = max(1, len(curve) // _SHOWN_POINTS)
    return [point for at, point in enumerate(curve) if at % every == 0 or point in (chosen, curve[-1])]


def _said(decision: Decision) -> str:
    detail = f" ({decision.detail})" if decision.detail else ""
    return f"{decision.route}, because {decision.reason}{detail}"
