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
MinScore = Annotated[float | None, typer.Option(min=0, max=1, help="Drop detections below this.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Of a generated text.")]
Temperature = Annotated[float | None, typer.Option(min=0, max=2, help="0: always the likeliest token.")]
TopP = Annotated[
    float | None, typer.Option(min=0, max=1, help="Only the likeliest tokens that reach this probability.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed, the same text.")]
Stop = Annotated[
    list[str] | None, typer.Option(help="End a generated text before this; may be given several times.")
]
