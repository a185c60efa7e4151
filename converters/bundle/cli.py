"""`edge-runtime bundle`: the commands and their options; `show` prints, the other modules work.

Importing this must stay fast: every command imports what it needs when it is called.
"""

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli.shell import console, print_json, reporting

app = typer.Typer(
    name="bundle",
    help="Model bundles: look into them, check, sign, pack and compare them.",
    no_args_is_help=True,
)

Bundle = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="A folder, a .zip, an OCI layout, or a shipped bundle's name.",
        show_default=False,
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A bundle's folder.", show_default=False)]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="What to make.", show_default=False)]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key", help="Public key; it must be signed by this one, or one of several.", show_default=False
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, human text on stderr.")
]


@app.command()
def show(bundle: Bundle, as_json: Json = False) -> None:
    """Show what is in a bundle, and what was measured of it."""
    with reporting(as_json=as_json):
        from converters.bundle.form import find, opened
        from converters.bundle.show import show_bundle

        with opened(find(bundle)) as found:
            if as_json:
                print_json(found.manifest)
            else:
                show_bundle(found, console())


@app.command()
def verify(bundle: Bundle, key: Keys = None, as_json: Json = False) -> None:
    """Check every file's digest, that nothing else is there, and the signature where a key is given."""
    with reporting(as_json=as_json):
        from converters.bundle.form import find
        from converters.bundle.show import show_check
        from converters.bundle.verify import verify as check

        found = check(find(bundle), key or None)
        if as_json:
            print_json(found)
        else:
            show_check(found, console())


@app.command()
def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="The bundle that devices have.", show_default=False)
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one they would get.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say what changed: sizes, measures, operators, labels, and the bytes an update sends."""
    with reporting(as_json=as_json):
        from converters.bundle.diff import compare
        from converters.bundle.form import find, opened
        from converters.bundle.show import show_diff

        with opened(find(old)) as before, opened(find(new)) as after:
            found = compare(before, after)
        if as_json:
            print_json(found)
        else:
            show_diff(found, console())


@app.command()
def extract(
    bundle: Bundle,
    out: Out,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Only this variant's model: its file or folder becomes OUT."),
    ] = None,
    key: Keys = None,
    as_json: Json = False,
) -> None:
    """Make a folder of a packed bundle, or take one variant out of any."""
    with reporting(as_json=as_json):
        from converters.bundle import form

        place = form.find(bundle)
        if variant is None:
            form.extract(place, out, trusted=key or None)
        else:
            with form.opened(place, trusted=key or None) as found:
                form.take_variant(found, variant, out)
        if as_json:
            print_json({"out": out})
        console(as_json=as_json).print(f"Wrote {out}", soft_wrap=True, markup=False)


@app.command()
def web(
    bundle: Bundle,
    out: Out,
    profile: Annotated[
        str, typer.Option("--profile", help="browser-wasm, browser-webgpu, or a profile like them.")
    ] = "browser-wasm",
    variant: Annotated[
        str | None, typer.Option("--variant", help="This variant; absent: the profile's best.")
    ] = None,
    key: Keys = None,
    as_json: Json = False,
) -> None:
    """Write what a web page needs: one variant, manifest.json, and a loader that checks them."""
    with reporting(as_json=as_json):
        from converters.browser.pack import pack as pack_web
        from converters.bundle import form
        from device_profiles.loader import load_profile

        with form.opened(form.find(bundle), trusted=key or None) as found:
            manifest = pack_web(found, load_profile(profile), out, variant=variant)
        if as_json:
            print_json(manifest)
        backends = ", ".join(f"{one.name} ({one.status})" for one in manifest.backends)
        text = f"Wrote {out}: {manifest.variant} for {manifest.package}; {backends}"
        console(as_json=as_json).print(text, soft_wrap=True, markup=False)


@app.command()
def pack(
    folder: Folder,
    out: Out,
    oci: Annotated[
        bool, typer.Option("--oci", help="Write an OCI image layout, a folder, not a .zip.")
    ] = False,
    compress: Annotated[
        bool, typer.Option("--compress", help="Deflate the files of a .zip; smaller, and slower to open.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pack a bundle as one .zip, or as an OCI image layout for a registry."""
    if oci and compress:
        raise typer.BadParameter("an OCI layout holds files as they are", param_hint="--compress")
    with reporting(as_json=as_json):
        screen = console(as_json=as_json)
        if oci:
            from converters.bundle.oci import write_layout

            digest = write_layout(folder, out)
            found, text = {"out": out, "digest": digest}, f"Wrote {out}, {digest}"
        else:
            from converters.bundle.archive import pack as pack_zip

            size = pack_zip(folder, out, compress=compress)
            found, text = {"out": out, "size_bytes": size}, f"Wrote {out}, {size:,} bytes"
        if as_json:
            print_json(found)
        screen.print(text, soft_wrap=True, markup=False)


@app.command()
def sign(
    folder: Folder,
    key: Annotated[Path, typer.Option("--key", help="Private key, a PEM file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Sign a bundle. The key's passphrase comes from EDGE_RUNTIME_KEY_PASSPHRASE."""
    with reporting(as_json=as_json):
        from converters.bundle.sign import passphrase_from_environment
        from converters.bundle.sign import sign as sign_bundle

        signature = sign_bundle(folder, key, passphrase=passphrase_from_environment())
        if as_json:
            print_json(signature)
        console(as_json=as_json).print(f"Signed {folder} with key {signature.key_id}", soft_wrap=True)


@app.command()
def keygen(
    key: Annotated[
        Path,
        typer.Argument(
            metavar="KEY", help="The private key's file; KEY.pub is made too.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Make a key pair. With EDGE_RUNTIME_KEY_PASSPHRASE set, the private key is encrypted."""
    with reporting(as_json=as_json):
        from converters.bundle.sign import make_keys, passphrase_from_environment

        passphrase = passphrase_from_environment()
        pair = make_keys(key, passphrase=passphrase)
        if as_json:
            print_json(pair)
        guarded = "encrypted" if passphrase else "not encrypted: keep it where nobody else reads"
        console(as_json=as_json).print(
            f"{pair.private}: the private key ({guarded})\n{pair.public}: the public key, for your devices\n"
            f"Key id {pair.id}",
            soft_wrap=True,
            markup=False,
        )
