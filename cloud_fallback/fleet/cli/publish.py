"""`fleet publish`: a bundle, settings or labels become a release that can be rolled out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud_fallback.fleet.cli.keys import signing
from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json

if TYPE_CHECKING:
    from cloud_fallback.fleet.trust.publishing import Published


def publish(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder or .zip, settings (.yaml) or labels (.txt).",
            show_default=False,
        ),
    ],
    keys: Annotated[
        list[Path],
        typer.Option("--key", metavar="PEM", help="The family's key; may repeat.", show_default=False),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Absent: the bundle's; `agent` for settings.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Absent: the bundle's, or by the content.")
    ] = None,
    profiles: Annotated[
        list[str] | None, typer.Option("--profile", help="Only for this device profile; may repeat.")
    ] = None,
    patches: Annotated[int, typer.Option("--patches", min=0, help="From how many releases before.")] = 3,
    formerly: Annotated[
        list[Path] | None,
        typer.Option("--formerly", metavar="PUB", help="A key that the family had before."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Keeps earlier releases; absent: in the user's cache.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Sign a version with its family's key and give it to the manager; may be repeated after any failure."""
    with signing(as_json=as_json):
        import tempfile

        from cloud_fallback.fleet.cli.client import find_connection
        from cloud_fallback.fleet.cli.publishing_link import HttpManager
        from cloud_fallback.fleet.trust.keys import load_public, load_signer
        from cloud_fallback.fleet.trust.packing import pack
        from cloud_fallback.fleet.trust.publishing import Options
        from cloud_fallback.fleet.trust.publishing import publish as published

        signers = [load_signer(file) for file in keys]
        options = Options(patches=patches, formerly=tuple(load_public(file) for file in formerly or ()))
        connection = find_connection(manager, token, ca)
        with tempfile.TemporaryDirectory() as folder, HttpManager(connection) as link:
            packed = pack(source, Path(folder), name=name, version=version, profiles=profiles)
            done = published(packed, signers, link, time.time(), work=work or _work(), options=options)
    if as_json:
        print_json(done)
    else:
        console().print(_text(done), markup=False, soft_wrap=True)


def _work() -> Path:
    import os

    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "edge-runtime" / "published"


def _text(done: "Published") -> str:
    from cloud_fallback.fleet.quantities import size_in_words

    lines = [
        f"{done.name} {done.version}: {'was published already' if done.again else 'published'}, "
        f"counter {done.counter}, {size_in_words(done.size_bytes)}"
    ]
    lines += [
        f"  from {each.base_version}: {size_in_words(each.size_bytes)}, "
        f"{100 * each.size_bytes / done.size_bytes:.1f} % of the whole"
        for each in done.patches
    ]
    return "\n".join(lines)
