"""`fleet withdraw`: a version is not rolled out any more."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud_fallback.fleet.cli.keys import signing
from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json

if TYPE_CHECKING:
    from cloud_fallback.fleet.views import WithdrawalView


def withdraw(
    bundle: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A release.", show_default=False)],
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            "--key",
            metavar="PEM",
            help="The family's key, to take it out of the signed metadata, too; may repeat.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", "-m", help="For the audit log and whoever reads it.")
    ] = "",
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="model, settings or labels.")] = "model",
    formerly: Annotated[
        list[Path] | None,
        typer.Option("--formerly", metavar="PUB", help="A key that the family had before."),
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Roll a version out no more: its rollouts halt, and there will be no new one; devices keep it."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.cli.client import Manager, find_connection
        from cloud_fallback.fleet.cli.deployments import one_of
        from cloud_fallback.fleet.cli.publishing_link import HttpManager
        from cloud_fallback.fleet.trust.keys import load_public, load_signer
        from cloud_fallback.fleet.trust.withdrawing import withdraw as unsign
        from cloud_fallback.fleet.views import WithdrawalNew, WithdrawalView
        from edge_runtime.contract.errors import InputError

        name, _, version = bundle.partition("@")
        if not version:
            raise InputError("release", expected="NAME@VERSION", got=repr(bundle))
        asked = WithdrawalNew(kind=one_of("--kind", kind), name=name, version=version, reason=reason)
        signers = [load_signer(file) for file in keys or ()]
        before = tuple(load_public(file) for file in formerly or ())
        connection = find_connection(manager, token, ca)
        with Manager(connection) as fleet:
            done = fleet.send("POST", "/v1/releases/withdraw", WithdrawalView, body=asked)
        unsigned = False
        if signers:
            with HttpManager(connection) as link:
                release = (asked.kind, asked.name, asked.version)
                unsigned = unsign(release, signers, link, time.time(), formerly=before)
    if as_json:
        print_json({**done.model_dump(mode="json"), "unsigned": unsigned})
    else:
        console().print(_text(done, signed=not signers), markup=False, soft_wrap=True)


def _text(done: "WithdrawalView", *, signed: bool) -> str:
    release = done.release
    lines = [f"{release.name} {release.version}: withdrawn"]
    lines += [f"  halts: {each}" for each in done.halted]
    if done.devices:
        have = "1 device has it" if done.devices == 1 else f"{done.devices} devices have it"
        lines.append(f"  {have}; to take it back: edge-runtime fleet revert DEPLOYMENT")
    if signed:
        lines.append(
            "  Signed metadata still lists it: give the family's --key to take it out of there, too."
        )
    return "\n".join(lines)
