"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[
    Path, typer.Argument(metavar="STORE.yaml", help="The store's settings.", show_default=False)
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, human text on stderr.")
]
Task = Annotated[Path | None, typer.Option("--task", help="YAML with the task of a bare model file.")]
