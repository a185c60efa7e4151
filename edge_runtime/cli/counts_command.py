"""The command `counts` and its options; `edge_runtime.cli.counts` does the work when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_runtime.cli.options import Json, Store
from edge_runtime.cli.shell import reporting


def counts(
    store: Store,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", help="First day, as 2026-11-25; absent: that of --to."),
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day; absent: today.")] = None,
    every: Annotated[Literal["hour", "day"], typer.Option(help="What a row is about.")] = "hour",
    what: Annotated[
        Literal["entrances", "occupancy", "dwell", "queue"], typer.Option(help="What is counted.")
    ] = "entrances",
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table there as CSV.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Write it there as Parquet; takes the extra `tables`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a store has counted: people in and out, inside, their stays, waiting lines."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.counts import Wanted, show_counts
        from edge_runtime.counts.tables import Every, What

        wanted = Wanted(What(what), Every(every), first, last)
        show_counts(store, wanted, csv_file=csv, parquet_file=parquet, as_json=as_json)
