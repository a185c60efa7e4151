"""`edge-runtime convert`: its options, and what they are in a recipe; the work is `build`'s.

Importing this stays light: `--help` comes first.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_runtime.cli.shell import ExitCode, console, exit_code, print_json, reporting
from edge_runtime.cli.stopping import unwind_on_sigterm

if TYPE_CHECKING:
    from converters.build import Prepared
    from converters.recipe_file import LoadedRecipe

_RECIPES = frozenset({".yaml", ".yml"})


def convert(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="recipe.yaml; or a model: a file, a folder, or module:Class of torch.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder.")] = Path("bundle"),
    task: Annotated[Path | None, typer.Option("--task", help="YAML with what the model does.")] = None,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="A device profile; again for each further one.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", help="Real inputs: pictures' folder, .npz, .txt, .jsonl, .csv."),
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="The right answers to the samples.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights of a torch module.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="What a torch module takes: image=1x3x224x224, ids=1x128:int64."),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="tokenizer.json.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The bundle's name; absent: the source's.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="The bundle's version; absent: 1.0.0.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="The model's licence.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Only this format; may repeat.")
    ] = None,
    precisions: Annotated[
        list[str] | None, typer.Option("--precision", help="Only this precision; may repeat.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Input size, height x width: 384x640.")] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Take uint8 pictures and normalise inside the graph.")
    ] = False,
    accuracy_drop: Annotated[
        float | None, typer.Option("--accuracy-drop", min=0, help="What a variant may lose.")
    ] = None,
    on_failure: Annotated[
        str | None, typer.Option("--on-failure", help="Of a variant: leave_out (default) or stop.")
    ] = None,
    trust_source: Annotated[
        bool, typer.Option("--trust-source", help="Load pickles, which can run any code.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the bundle with this private key.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where steps' results are kept; absent: the user's cache.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Steps at the same time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of recipe.yaml.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, human text on stderr.")
    ] = False,
) -> None:
    """Make one bundle of a model: a variant for each device, each measured to behave like the original.

    Flags fill in or replace what a recipe says.
    """
    if source is None and not schema:
        raise typer.BadParameter("give a model or a recipe", param_hint="SOURCE")
    flags: dict[tuple[str | int, ...], tuple[str, Any]] = {
        ("task",): ("--task", task),
        ("profiles",): ("--profile", profile),
        ("samples", "path"): ("--samples", samples),
        ("samples", "labels"): ("--labels", labels),
        ("source", "path"): ("--weights", weights),
        ("source", "inputs"): ("--input", [_tensor(text) for text in inputs or []]),
        ("source", "trust"): ("--trust-source", trust_source),
        ("tokenizer",): ("--tokenizer", tokenizer),
        ("name",): ("--name", name),
        ("version",): ("--version", version),
        ("licence",): ("--licence", licence),
        ("want", "formats"): ("--format", formats),
        ("want", "precisions"): ("--precision", precisions),
        ("size",): ("--size", _size(size) if size else None),
        ("fold",): ("--fold", fold),
        ("budgets", "accuracy_drop"): ("--accuracy-drop", accuracy_drop),
        ("on_failure",): ("--on-failure", on_failure),
    }
    given = {keys: (flag, _plain(value)) for keys, (flag, value) in flags.items() if _given(value)}
    with reporting(as_json=as_json), unwind_on_sigterm():
        if schema or source is None:
            from converters.recipe_file import recipe_schema

            print_json(recipe_schema())
            return
        from converters.build import prepare

        prepared = prepare(_load(source, given))
        if dry_run:
            _plan(prepared, as_json=as_json)
            return
        raise typer.Exit(_build(prepared, out, cache, sign=sign, jobs=jobs, as_json=as_json))


def _load(source: str, flags: dict[tuple[str | int, ...], tuple[str, Any]]) -> "LoadedRecipe":
    from converters.recipe_file import load_recipe

    path = Path(source)
    if path.suffix.lower() in _RECIPES:
        return load_recipe(path, flags)
    is_module = ":" in source and not path.exists()
    flags[("source", "module" if is_module else "path")] = ("SOURCE", source)
    stem = source.rpartition(":")[2] if is_module else path.stem
    flags.setdefault(("name",), ("SOURCE", _slug(stem)))
    return load_recipe(None, flags)


def _plan(prepared: "Prepared", *, as_json: bool) -> None:
    from converters.show import plan_document, show_plan

    show_plan(prepared, console(as_json=as_json))
    if as_json:
        print_json(plan_document(prepared))


def _build(
    prepared: "Prepared", out: Path, cache: Path | None, *, sign: Path | None, jobs: int, as_json: bool
) -> ExitCode:
    from converters.build import build
    from converters.environments import cache_folder
    from converters.show import progress, result_document, show_result
    from converters.store import StepStore

    screen = console(as_json=as_json)
    store = StepStore(cache or cache_folder() / "steps")
    with progress(screen) as tell:
        built = build(prepared, out, store, tell=tell, key=sign, jobs=jobs)
    show_result(built, screen)
    signed = ", signed" if sign is not None and built.bundle is not None else ""
    where = f"{out}{signed}" if built.bundle is not None else "none: no variant passed"
    kept = f"{built.cached} of {built.steps} steps were kept from before"
    screen.print(
        f"\nBundle   {where}\nReport   {built.report}\nTook     {built.seconds:.1f} s; {kept}",
        markup=False,
        soft_wrap=True,
    )
    # Last, so that whoever interrupts before it gets one document, too.
    if as_json:
        print_json(result_document(built, out))
    return ExitCode.OK if built.failure is None else exit_code(built.failure)


def _given(value: object) -> bool:
    return value is not None and value is not False and value != []


def _plain(value: object) -> Any:
    return str(value) if isinstance(value, Path) else value


def _slug(text: str) -> str:
    words = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")
    return words[:64].strip("-._") or "model"


def _numbers(text: str, flag: str) -> list[int]:
    if not re.fullmatch(r"\d+(x\d+)*", text):
        raise typer.BadParameter(f"expected numbers like 384x640, got {text!r}", param_hint=flag)
    return [int(part) for part in text.split("x")]


def _size(text: str) -> list[int]:
    numbers = _numbers(text, "--size")
    if len(numbers) != 2:
        raise typer.BadParameter(f"expected height x width, e.g. 384x640, got {text!r}", param_hint="--size")
    return numbers


def _tensor(text: str) -> dict[str, Any]:
    """Read `image=1x3x224x224` or `ids=1x128:int64`."""
    found = re.fullmatch(r"([^=]+)=([\dx]+)(?::(\w+))?", text)
    if found is None:
        raise typer.BadParameter(f"expected NAME=1x3x224x224[:dtype], got {text!r}", param_hint="--input")
    name, shape, dtype = found.groups()
    return {"name": name, "shape": _numbers(shape, "--input"), **({"dtype": dtype} if dtype else {})}
