"""The commands and their options; the work is in the modules that each command imports when called.

Importing this must stay fast and must load no engine, no decoder and no settings: `--help` comes first.
"""

import os
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli.shell import DEBUG_VARIABLE, console, print_json, reporting

app = typer.Typer(
    name="edge-runtime",
    help="Cameras in, events out: inference next to the camera.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 ok, 1 unexpected failure, 2 usage, 3 settings, 4 input, 5 model bundle, 6 engine,"
    " 7 camera or network, 8 storage, 9 conversion, 130 Ctrl-C.",
)
profiles = typer.Typer(help="Device profiles: what a kind of device has.", no_args_is_help=True)
app.add_typer(profiles, name="profile")

Store = Annotated[
    Path, typer.Argument(metavar="STORE.yaml", help="The store's settings.", show_default=False)
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, human text on stderr.")
]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="onnxruntime, litert, openvino, coreml; absent: the best one here."),
]
Task = Annotated[Path | None, typer.Option("--task", help="YAML with the task of a bare model file.")]


def main() -> None:
    """Run the command line and exit."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-runtime {version('edge-runtime')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show tracebacks; also {DEBUG_VARIABLE}=1.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Cameras in, events out: inference next to the camera."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


@app.command()
def run(
    store: Store,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Watch the store's cameras until they end or the process is told to stop (Ctrl-C, SIGTERM)."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.run import run_store

        raise typer.Exit(run_store(store, as_json=as_json, quiet=quiet))


@app.command()
def check(
    store: Store,
    why: Annotated[
        bool, typer.Option("--why", help="Say why each model's variant and engine were chosen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate the settings, open every camera, run every model once."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.check import check_store, show

        report = check_store(store)
        if as_json:
            print_json(report)
        show(report, console(as_json=as_json), why=why)
        raise typer.Exit(report.exit_code)


@app.command()
def predict(
    model: Annotated[
        str, typer.Argument(help="A bundle (name or folder) or a model file.", show_default=False)
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.", show_default=False)],
    task: Task = None,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the annotated picture (a folder when several).")
    ] = None,
    engine: EngineName = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Drop detections below this.")] = None,
) -> None:
    """Run a model on pictures."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.predict import predict_images, show

        report = predict_images(model, images, task=task, engine=engine, min_score=min_score, out=out)
        if as_json:
            print_json(report)
        else:
            show(report, console())


@app.command()
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
    as_json: Json = False,
) -> None:
    """Measure a model on this machine with every engine that can run it, in turns."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.bench import bench_model, show

        screen = console(as_json=as_json)
        with screen.status("Measuring …"):
            report = bench_model(
                model, task=task, engine=engine, threads=threads, seconds=seconds, runs=runs, receipt=receipt
            )
        if as_json:
            print_json(report)
        else:
            show(report, screen)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo-out"),
    as_json: Json = False,
) -> None:
    """Run the shipped clip through the shipped detector as two cameras, and show what comes out."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.demo import run_demo

        raise typer.Exit(run_demo(out, as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON schema of store.yaml, for editors."""
    with reporting():
        from edge_runtime.settings.schema import store_schema

        print_json(store_schema())


@profiles.command("list")
def profile_list(as_json: Json = False) -> None:
    """List the profiles that come with the runtime."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.profile import list_profiles

        list_profiles(as_json=as_json)


@profiles.command("show")
def profile_show(
    name: Annotated[str, typer.Argument(help="A profile's name, or the path of one.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a profile."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.profile import show_profile

        show_profile(name, as_json=as_json)


@profiles.command("detect")
def profile_detect(
    out: Annotated[Path | None, typer.Option("--out", help="Write the profile there as YAML.")] = None,
    as_json: Json = False,
) -> None:
    """Look at this machine: processor, memory, accelerators, and the engines that really load."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.profile import detect

        detect(out, as_json=as_json)


COMMANDS = "edge_runtime.commands"
"""Entry points of other packages that add a command (a function) or a group of them (a Typer): the converters
and the cloud stand on this package, so it cannot import them."""


def _add_commands() -> None:
    for entry in sorted(entry_points(group=COMMANDS), key=lambda one: one.name):
        found = entry.load()
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=entry.name)
        else:
            app.command(entry.name)(found)


_add_commands()
