"""`fleet keys`: what people do with offline keys. All but `pull` and `push` work without a network.

A file that several people sign goes from one to the next: each adds a signature with `sign`.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, extra
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import print_json, reporting

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer  # pyright: ignore[reportPrivateImportUsage]

keys = typer.Typer(help="Keys and roles: who may release what to this fleet.", no_args_is_help=True)

Secrets = Annotated[
    list[Path] | None, typer.Option("--key", metavar="PEM", help="Sign with this key; may repeat.")
]
_File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


@keys.command("new")
def new(
    file: Annotated[Path, typer.Argument(help="For the secret half; .pub beside it.", show_default=False)],
    kind: Annotated[
        Literal["ed25519", "ecdsa"], typer.Option("--type", help="ecdsa (P-256) where a key store needs it.")
    ] = "ed25519",
    as_json: Json = False,
) -> None:
    """Make a key: the secret half readable by you only, the public half beside it."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.trust.keys import new_key, public_file

        key = new_key(file, kind)
        answer = {"key": str(file), "public": str(public_file(file)), "id": key.keyid}
        _tell(answer, f"{file}: key {key.keyid}. Give others {public_file(file)} only.", as_json)


@keys.command("root")
def root(
    folder: Annotated[Path, typer.Argument(help="Gets root.json and targets.json.", show_default=False)],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose fleet this is.", show_default=False)],
    roots: Annotated[
        list[Path], typer.Option("--root", metavar="PUB", help="A root key; may repeat.", show_default=False)
    ],
    targets: Annotated[
        list[Path],
        typer.Option("--targets", metavar="PUB", help="A key that delegates families.", show_default=False),
    ],
    online: Annotated[
        list[Path], typer.Option("--online", metavar="PUB", help="The manager's.", show_default=False)
    ],
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="Root keys that have to sign.")] = 1,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Make the first root of a fleet, and the targets that delegate nothing but the way back."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.trust.ceremony import first_root, first_targets

        now_s = time.time()
        made = first_root(
            tenant, _public(roots), threshold, targets=_public(targets), online=_public(online), now_s=now_s
        )
        first = first_targets(_public(online), now_s)
        signers = _signers(secrets)
        _write(folder / "root.json", made, made.signed.roles["root"].keyids, signers)
        _write(folder / "targets.json", first, made.signed.roles["targets"].keyids, signers)
        answer = {name: _facts(folder / f"{name}.json") for name in ("root", "targets")}
        _tell(answer, f"{folder}: root.json and targets.json. `fleet keys show` says who signed.", as_json)


@keys.command("rotate")
def rotate(
    file: _File,
    roots: Annotated[
        list[Path] | None, typer.Option("--root", metavar="PUB", help="All root keys from now on.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=1, help="From now on; absent: the same.")
    ] = None,
    targets: Annotated[
        list[Path] | None, typer.Option("--targets", metavar="PUB", help="All from now on.")
    ] = None,
    online: Annotated[
        list[Path] | None, typer.Option("--online", metavar="PUB", help="The manager's from now on.")
    ] = None,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Make the next root of FILE: other keys, or none given: the same for another two years.

    Enough keys of both the old and the new root have to sign it.
    """
    with signing(as_json=as_json):
        from cloud_fallback.fleet.trust.ceremony import next_root

        made = next_root(
            _bytes(file),
            time.time(),
            keys=_public(roots or ()),
            threshold=threshold,
            targets=_public(targets or ()),
            online=_public(online or ()),
        )
        signers = _signers(secrets)
        _write(file, made, [each.public_key.keyid for each in signers], signers)
        _tell(_facts(file), f"{file}: root version {made.signed.version}.", as_json)


@keys.command("delegate")
def delegate(
    file: _File,
    family: Annotated[
        str,
        typer.Argument(help="As model/detector or settings/agent; or reverts.", show_default=False),
    ],
    public: Annotated[
        list[Path],
        typer.Option(
            "--to", metavar="PUB", help="A key that may release it; may repeat.", show_default=False
        ),
    ],
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="Keys that have to sign.")] = 1,
    secrets: Secrets = None,
    as_json: Json = False,
) -> None:
    """Give a family of versions to keys, in the targets of FILE. What other keys signed ends with it."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.trust.ceremony import delegate as delegated
        from cloud_fallback.fleet.trust.ceremony import delegate_reverts
        from edge_runtime.contract.errors import ConfigError
        from edge_runtime.contract.trust import REVERTS, family_of

        to, now_s = _public(public), time.time()
        found = family_of(family.replace("/", ".", 1))
        if family == REVERTS:
            made = delegate_reverts(_bytes(file), to, now_s)
        elif found is not None:
            made = delegated(_bytes(file), *found, to, now_s, threshold=threshold)
        else:
            raise ConfigError(
                "family", expected="model/NAME, settings/NAME, labels/NAME or reverts", got=family
            )
        signers = _signers(secrets)
        _write(file, made, [each.public_key.keyid for each in signers], signers)
        _tell(_facts(file), f"{file}: {family} is delegated, version {made.signed.version}.", as_json)


@keys.command("sign")
def sign(file: _File, secrets: Secrets = None, as_json: Json = False) -> None:
    """Add a signature to FILE, beside those that it has."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.trust.ceremony import add_signature
        from edge_runtime.atomic import new_file
        from edge_runtime.contract.errors import ConfigError

        if not secrets:
            raise ConfigError("nobody signs", do="Give a key: --key KEY.pem")
        content = _bytes(file)
        for signer in _signers(secrets):
            content = add_signature(content, signer)
        with new_file(file) as stream:
            stream.write(content)
        _tell(_facts(file), f"{file}: signed by {', '.join(_facts(file)['signed_by'])}.", as_json)


@keys.command("show")
def show(file: _File, as_json: Json = False) -> None:
    """Say what FILE is: role, version, end, who may sign what, and who signed it."""
    with signing(as_json=as_json):
        facts = _facts(file)
        lines = [f"{facts['type']} version {facts['version']}, valid until {facts['expires']}"]
        for role, rule in facts["roles"].items():
            lines.append(f"  {role}: {rule['threshold']} of {', '.join(rule['keys'])}")
        lines += [f"  {path}" for path in facts["targets"]]
        lines.append(f"signed by {', '.join(facts['signed_by']) or 'nobody'}")
        _tell(facts, "\n".join(lines), as_json)


@keys.command("pull")
def pull(
    role: Annotated[str, typer.Argument(help="root, targets, or as model.detector.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Where it goes.", show_default=False)],
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Read the newest metadata of a role from the manager."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.cli.client import find_connection
        from cloud_fallback.fleet.cli.publishing_link import HttpManager
        from cloud_fallback.fleet.trust.newest import NewestFiles
        from edge_runtime.atomic import new_file

        with HttpManager(find_connection(manager, token, ca)) as link, new_file(file) as stream:
            stream.write(NewestFiles(link).needed(role))
        _tell(_facts(file), f"{file}: {role} version {_facts(file)['version']}.", as_json)


@keys.command("push")
def push(
    file: _File,
    role: Annotated[str | None, typer.Option("--role", help="Absent: root or targets, as FILE says.")] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Give FILE to the manager, which takes it if enough of the right keys signed."""
    with signing(as_json=as_json):
        from cloud_fallback.fleet.cli.client import find_connection
        from cloud_fallback.fleet.cli.publishing_link import HttpManager
        from edge_runtime.contract.errors import RefusedError

        named = role or _facts(file)["type"]
        with HttpManager(find_connection(manager, token, ca)) as link:
            taken = link.sign_off(named, _bytes(file))
        if not taken:
            raise RefusedError(
                f"{file}: the manager has a newer {named}",
                do=f"Read it: fleet keys pull {named}; then change and sign that",
            )
        _tell(
            {"role": named, **_facts(file)},
            f"{named}: version {_facts(file)['version']} is in force.",
            as_json,
        )


@contextmanager
def signing(*, as_json: bool) -> Generator[None]:
    """Turn an error into a message and an exit code; what trust refuses was the wrong file or key to give."""
    with reporting(as_json=as_json), extra():
        from edge_runtime.contract.errors import InputError
        from edge_runtime.contract.update import UpdateFailedError

        try:
            yield
        except UpdateFailedError as error:
            raise InputError(error.problem, expected=error.expected, got=error.got, do=error.do) from error


def _facts(file: Path) -> dict[str, Any]:
    """Say what a file of metadata is."""
    from cloud_fallback.fleet.trust.ceremony import read_any
    from cloud_fallback.fleet.trust.keys import short_id

    metadata = read_any(_bytes(file))
    signed = metadata.signed
    delegations = getattr(signed, "delegations", None)
    roles: dict[str, Any] = (
        getattr(signed, "roles", None) or (delegations.roles if delegations else None) or {}
    )
    return {
        "type": signed.type,
        "version": signed.version,
        "expires": f"{signed.expires:%Y-%m-%dT%H:%M:%SZ}",
        "roles": {
            name: {"keys": [short_id(key) for key in role.keyids], "threshold": role.threshold}
            for name, role in roles.items()
        },
        "targets": sorted(getattr(signed, "targets", {})),
        "signed_by": [short_id(key) for key in metadata.signatures],
    }


def _bytes(file: Path) -> bytes:
    from edge_runtime.contract.errors import InputError

    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file}", expected="a readable file of metadata", got=error.strerror or str(error)
        ) from error


def _public(files: Sequence[Path]) -> "list[Key]":
    from cloud_fallback.fleet.trust.keys import load_public

    return [load_public(file) for file in files]


def _signers(files: Sequence[Path] | None) -> "list[Signer]":
    from cloud_fallback.fleet.trust.keys import load_signer

    return [load_signer(file) for file in files or ()]


def _write(file: Path, metadata: Any, allowed: Sequence[str], signers: "Sequence[Signer]") -> None:
    """Sign with those who may, and write."""
    from cloud_fallback.fleet.trust.roles import seal
    from edge_runtime.atomic import new_file

    content = seal(metadata, [each for each in signers if each.public_key.keyid in allowed])
    with new_file(file) as stream:
        stream.write(content)


def _tell(answer: object, text: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        console().print(text, markup=False, soft_wrap=True)
