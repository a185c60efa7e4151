"""`edge-runtime serve`: its options, and what they are in the settings; the work is `running`'s.

Importing this stays light, and works where nothing of the extra `cloud` is installed: `--help` comes first.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_runtime.cli.shell import ExitCode, console, print_json, reporting
from edge_runtime.contract.errors import ConfigError

if TYPE_CHECKING:
    from cloud_fallback.serving.running import Serving

_LIBRARIES = frozenset({"fastapi", "grpc", "opentelemetry", "prometheus_client", "starlette", "uvicorn"})
_STYLES = {"READY": "green", "UNAVAILABLE": "red"}


def serve(
    bundles: Annotated[
        str, typer.Option("--bundles", help="Folder, .zip or URL of bundles: one, or many with versions.")
    ] = "bundles",
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="For HTTP; 0: any.")] = 8009,
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", min=0, max=65535, help="For gRPC; 0: any; absent: no gRPC."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="File of API keys; needed where others reach the host.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everybody in who reaches the host.")
    ] = False,
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="NAME", help="Make a key in --keys, print it, and stop."),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="The new key may change traffic, keys and what is loaded.")
    ] = False,
    requests_per_minute: Annotated[
        float | None, typer.Option("--requests-per-minute", min=0.001, help="Of the new key.")
    ] = None,
    rows_per_minute: Annotated[
        float | None, typer.Option("--rows-per-minute", min=0.001, help="Of the new key.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Folder in which answers to request ids and the traffic are kept."),
    ] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", metavar="KEY", help="Serve only what this public key signed; may repeat."),
    ] = None,
    instances: Annotated[
        int | None, typer.Option("--instances", min=1, help="Batches at the same time; absent: by the cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of each; absent: the cores, shared out.")
    ] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="A log line for each request.")
    ] = False,
    traces: Annotated[
        str, typer.Option("--traces", help="OTLP address (http://…) or file for OpenTelemetry spans.")
    ] = "",
    trace_share: Annotated[
        float, typer.Option("--trace-share", min=0, max=1, help="Of requests without a trace of their own.")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="What is served, as one JSON document on standard output.")
    ] = False,
) -> None:
    """Serve bundles to devices and everybody else: REST, gRPC, OpenAI's routes, metrics.

    SIGTERM and Ctrl-C drain: what is under way is answered, then the process ends with 0.
    """
    with reporting(as_json=as_json), _extra():
        if new_key is not None:
            _make_key(keys, new_key, control, requests_per_minute, rows_per_minute, as_json=as_json)
            return
        from cloud_fallback.serving.running import run
        from cloud_fallback.serving.settings import ServeSettings

        _log()
        settings = ServeSettings(
            bundles=bundles,
            host=host,
            port=port,
            grpc_port=grpc_port,
            keys=keys,
            no_auth=no_auth,
            state=state,
            trust=tuple(trust or ()),
            instances=instances,
            threads=threads,
            log_requests=log_requests,
            traces=traces,
            trace_share=trace_share,
        )
        run(settings, lambda serving: _show(serving, as_json=as_json))
        raise typer.Exit(ExitCode.OK)


@contextmanager
def _extra() -> Generator[None, None, None]:
    """Turn a missing library into a sentence about what to install."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _LIBRARIES:
            raise
        raise ConfigError(
            f"serve needs {missing}, which is not installed",
            do="Install it: pip install 'edge-runtime[cloud]'",
        ) from error


def _make_key(
    path: Path | None,
    name: str,
    control: bool,
    requests_per_minute: float | None,
    rows_per_minute: float | None,
    *,
    as_json: bool,
) -> None:
    from cloud_fallback.serving.keys import KeyRing

    if path is None:
        raise typer.BadParameter("give the file of keys, too", param_hint="--keys")
    secret = KeyRing(path, must_exist=False).create(
        name,
        control=control,
        requests_per_minute=requests_per_minute,
        rows_per_minute=rows_per_minute,
    )
    if as_json:
        print_json({"name": name, "key": secret, "file": str(path)})
    else:
        typer.echo(secret)
        console(as_json=True).print(f"Shown this once. {path} keeps its digest.", soft_wrap=True)


def _log() -> None:
    from cloud_fallback.serving.logs import JsonLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _show(serving: "Serving", *, as_json: bool) -> None:
    from rich.table import Table

    screen = console(as_json=as_json)
    table = Table(box=None, pad_edge=False)
    for title in ("model", "version", "state", "task", "runs as"):
        table.add_column(title)
    for line in serving.models:
        style = _STYLES.get(line.state, "yellow")
        table.add_row(line.model, line.version, f"[{style}]{line.state.lower()}[/]", line.kind, line.platform)
    screen.print(table)
    for line in serving.models:
        if line.reason:
            screen.print(f"{line.model} {line.version}: {line.reason}", markup=False, soft_wrap=True)
    grpc = f", gRPC at {serving.grpc}" if serving.grpc else ""
    screen.print(f"\nServing at {serving.url}{grpc}. Ctrl-C drains and ends.", soft_wrap=True)
    if as_json:
        print_json(serving)
