"""The command `bench` and its options; `edge_runtime.cli.bench` and `tune` do the work when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli.options import Json, Task
from edge_runtime.cli.shell import console, print_json, reporting
from edge_runtime.contract.errors import ConfigError


def bench(
    model: Annotated[
        str, typer.Argument(help="A bundle (name or folder) or a model file.", show_default=False)
    ],
    task: Task = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Only this engine; absent: every one that can run it.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads one inference may use.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measure each engine for about this long.")] = 2.0,
    runs: Annotated[int | None, typer.Option(min=1, help="Measure this many inferences instead.")] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            help="Write receipts there; into a file called bundle.json: the manifest with them added."
        ),
    ] = None,
    tune: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE.yaml",
            help="Find the engine, threads and decoder options that are best on this machine, and write them"
            " to this device profile.",
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(help="With --tune: a recording like your cameras'; absent: the shipped one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a model on this machine with every engine that can run it, in turns."""
    with reporting(as_json=as_json):
        screen = console(as_json=as_json)
        if clip is not None and tune is None:
            raise ConfigError("--clip", expected="--tune besides", got="none", do="Add --tune PROFILE.yaml")
        if tune is not None:
            from edge_runtime.cli.tune import show as show_tuning
            from edge_runtime.cli.tune import tune as tune_model

            with screen.status("Measuring …"):
                tuned = tune_model(model, task=task, engine=engine, seconds=seconds, clip=clip, out=tune)
            if as_json:
                print_json(tuned)
            else:
                show_tuning(tuned, screen)
            return
        from edge_runtime.cli.bench import bench_model, show

        with screen.status("Measuring …"):
            report = bench_model(
                model, task=task, engine=engine, threads=threads, seconds=seconds, runs=runs, receipt=receipt
            )
        if as_json:
            print_json(report)
        else:
            show(report, screen)
