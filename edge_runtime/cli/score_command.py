"""The command `score` and its options; `edge_runtime.cli.score` does the work when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_runtime.cli.options import Json, MaxTokens, MinScore, Seed, Stop, Task, Temperature, TopP
from edge_runtime.cli.shell import reporting


def score(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_TABLE",
            help="Pictures and recordings in a folder, one of them; or texts: CSV, JSON Lines, Parquet.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", help="A bundle (name or folder) or a model file.", show_default=False),
    ],
    task: Task = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the results; absent: the input's name with .scores."),
    ] = None,
    form: Annotated[
        Literal["parquet", "jsonl", "csv"], typer.Option("--format", help="Of the results.")
    ] = "parquet",
    column: Annotated[
        str | None, typer.Option(help="Of a table: where its texts are; absent: text, or the only one.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Frames a second of recordings; absent: every one.")
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Give the objects of recordings identities.")
    ] = False,
    min_score: MinScore = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Stop = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="Inference engine; absent: the best one here. `ray`: as --on ray."),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="Where the model runs: local, or ray (Ray Data).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Threads (on Ray: actors) that run the model; absent: all cores."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Delete the results that are there, and begin anew.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a model over a folder or a table; ended or killed, it goes on where it was when called again."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.score import Wanted, score_all
        from edge_runtime.contract.request import Sampling

        wanted = Wanted(
            path=path,
            model=model,
            task=task,
            out=out,
            format=form,
            column=column,
            fps=fps,
            track=track,
            min_score=min_score,
            sampling=Sampling(max_tokens, temperature, top_p, seed, tuple(stop or ())),
            engine=engine,
            on=on,
            workers=workers,
            restart=restart,
        )
        raise typer.Exit(score_all(wanted, as_json=as_json))
