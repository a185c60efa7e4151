"""The commands and their options; the work is in the modules that each command imports when called.

Importing this must stay fast and must load no engine, no decoder and no settings: `--help` comes first.
"""

import os
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli.bench_command import bench
from edge_runtime.cli.counts_command import counts
from edge_runtime.cli.options import Json, MaxTokens, MinScore, Seed, Stop, Store, Task, Temperature, TopP
from edge_runtime.cli.score_command import score
from edge_runtime.cli.shell import DEBUG_VARIABLE, console, print_json, reporting
from edge_runtime.cli.usage import Commands

app = typer.Typer(
    name="edge-runtime",
    cls=Commands,
    help="Cameras in, events out: inference next to the camera.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 ok, 1 unexpected failure, 2 usage, 3 settings, 4 input, 5 model bundle, 6 engine,"
    " 7 camera or network, 8 storage, 9 conversion, 130 Ctrl-C.",
)
profiles = typer.Typer(help="Device profiles: what a kind of device has.", no_args_is_help=True)
app.add_typer(profiles, name="profile")
routes = typer.Typer(help="Requests: who answers them, the device or the cloud.", no_args_is_help=True)
app.add_typer(routes, name="route")
app.command()(bench)
app.command()(counts)
app.command()(score)

EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="onnxruntime, litert, openvino, coreml, genai; absent: the best one here."),
]


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
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|TEXT]...",
            help="Pictures; or texts, for a model that generates: messages to it ('-': standard input).",
            show_default=False,
        ),
    ] = None,
    task: Task = None,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the annotated picture (a folder when several).")
    ] = None,
    engine: EngineName = None,
    min_score: MinScore = None,
    prompt: Annotated[
        str | None, typer.Option(help="Continue this text, without the model's chat template.")
    ] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Stop = None,
) -> None:
    """Run a model on pictures or texts; a text that a model generates is shown as it comes."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.predict import predict as predict_any
        from edge_runtime.contract.request import Sampling

        report = predict_any(
            model,
            inputs or [],
            task=task,
            engine=engine,
            min_score=min_score,
            out=out,
            prompt=prompt,
            sampling=Sampling(max_tokens, temperature, top_p, seed, tuple(stop or ())),
            as_json=as_json,
        )
        if as_json:
            print_json(report)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo-out"),
    live: Annotated[
        bool, typer.Option("--live", help="Play it again and again, with a page in the browser.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="With --live: of the page; 0: any.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the shipped clip through the shipped detector as two cameras, and show what comes out."""
    with reporting(as_json=as_json):
        if live:
            from edge_runtime.cli.demo_live import run_live

            raise typer.Exit(run_live(out, port=port, as_json=as_json))
        from edge_runtime.cli.demo import run_demo

        raise typer.Exit(run_demo(out, as_json=as_json))


@app.command()
def enrol(
    manager: Annotated[
        str,
        typer.Argument(metavar="https://MANAGER", help="Address of the fleet's manager.", show_default=False),
    ],
    token: Annotated[
        str,
        typer.Option("--token", help="One-time, from the manager.", envvar="EDGE_RUNTIME_ENROLMENT_TOKEN"),
    ],
    folder: Annotated[Path, typer.Option("--folder", help="Where this device's key and certificates go.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Of this device; absent: the one that the token is for.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="Certificates to check the manager's against (PEM).")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Device profile; absent: named after this processor.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", help="Of the store, as Europe/Berlin; absent: the system's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make this machine a device of a fleet: key, certificate, and whom to trust."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.enrol import enrol_here

        enrol_here(
            manager,
            token=token,
            name=name,
            ca_file=ca,
            folder=folder,
            profile=profile,
            timezone=timezone,
            as_json=as_json,
        )


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


@routes.command("explain")
def route_explain(
    store: Store,
    model: Annotated[str, typer.Option("--model", help="As the settings call it.", show_default=False)],
    facts: Annotated[
        str, typer.Option("--facts", metavar="NAME=VALUE,…", help="E.g. online=false,confidence=0.4.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Say what the router would do with a request, why, and what every other policy would do."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.route import explain_route, show_explanation

        found = explain_route(store, model, facts)
        if as_json:
            print_json(found)
        else:
            show_explanation(found, console())


@routes.command("calibrate")
def route_calibrate(
    store: Store,
    model: Annotated[str, typer.Option("--model", help="As the settings call it.", show_default=False)],
    samples: Annotated[
        Path,
        typer.Option(
            help="CSV or JSON Lines: text or image, with label, cloud, or both.", show_default=False
        ),
    ],
    budget: Annotated[
        float | None, typer.Option(min=0, max=1, help="At most this share goes to the cloud.")
    ] = None,
    budget_bytes: Annotated[
        float | None, typer.Option(min=0, help="At most so many bytes a request go there.")
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="At least this share of the answers is right.")
    ] = None,
    ask_cloud: Annotated[
        bool, typer.Option("--ask-cloud", help="Have the cloud answer samples without `cloud`.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The file; absent: the model's threshold_file.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how sure the device's answers have to be to be kept; write the threshold with its curve."""
    with reporting(as_json=as_json):
        from edge_runtime.cli.route import calibrate_route, show_calibration

        screen = console(as_json=as_json)
        done = calibrate_route(
            store,
            model,
            samples,
            budget=budget,
            budget_bytes=budget_bytes,
            accuracy=accuracy,
            ask_cloud=ask_cloud,
            out=out,
            screen=screen,
        )
        if as_json:
            print_json(done)
        else:
            show_calibration(done, screen)


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
