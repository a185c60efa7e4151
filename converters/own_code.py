"""Fingerprint of the code behind a step: its module and every module of this project that it can come to.

Follows what is written, not what is run: every dotted name of one of our packages in the text counts, whether
it is in an import, in a table of `module:function` strings or in a comment. Rather a step too many made again
than a stale result taken for a fresh one. Does not follow relative imports, which this project does not use.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OUR_PACKAGES = ("converters", "device_profiles", "edge_runtime")


@dataclass(frozen=True, slots=True)
class Package:
    """Where a top-level package or module is.

    Args:
        name: Its name.
        file: Its own file; None for a namespace package.
        folders: Where its modules are; empty for a module.
    """

    name: str
    file: str | None
    folders: tuple[str, ...]


def packages_of(function: str) -> tuple[Package, ...]:
    """Give the packages that a step's function lives among: ours, and its own.

    Args:
        function: `package.module:function`.
    """
    names = sorted({*OUR_PACKAGES, function.partition(":")[0].partition(".")[0]})
    return tuple(package for package in map(_package, names) if package is not None)


@cache
def code_fingerprint(function: str) -> str:
    """Digest the code behind a step, once: what this process imported later would be no other code.

    Args:
        function: `package.module:function`.

    Returns:
        SHA-256 in hexadecimal, over the name and content of every module that the function's module can come
        to, and of the packages they are in.
    """
    packages = packages_of(function)
    tops = "|".join(package.name for package in packages)
    seen: dict[str, str] = {}
    ahead = [function.partition(":")[0], "converters.worker"]
    while ahead:
        for name, file in _files(ahead.pop(), packages):
            if name not in seen:
                digest, names = _read(file, tops)
                seen[name] = digest
                ahead.extend(names)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(seen.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@cache
def _package(name: str) -> Package | None:
    spec = find_spec(name)
    if spec is None:
        return None
    folders = tuple(str(Path(folder).absolute()) for folder in spec.submodule_search_locations or ())
    return Package(name, spec.origin if spec.has_location else None, folders)


def _files(module: str, packages: Iterable[Package]) -> list[tuple[str, Path]]:
    """The modules on the way to a dotted name that exist; names after the last module are its contents."""
    top, *rest = module.split(".")
    package = next((package for package in packages if package.name == top), None)
    if package is None:
        return []
    found = [(top, Path(package.file))] if package.file else []
    folders = [Path(folder) for folder in package.folders]
    for index, part in enumerate(rest):
        name = ".".join([top, *rest[: index + 1]])
        candidates = [path for folder in folders for path in _candidates(folder, part) if path.is_file()]
        found.extend((name, path) for path in candidates[:1])
        folders = [folder / part for folder in folders]
    return found


def _candidates(folder: Path, part: str) -> Sequence[Path]:
    return folder / part / "__init__.py", folder / f"{part}.py"


@cache
def _read(file: Path, tops: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and the names of our modules in it."""
    content = file.read_bytes()
    text = content.decode(errors="replace")
    names = set(re.findall(rf"\b(?:{tops})(?:\.\w+)+", text))
    # `from package import module` has the module's name apart from the package's.
    for package, imported in re.findall(rf"from\s+((?:{tops})[\w.]*)\s+import\s+(\([^)]*\)|[^\n]+)", text):
        names.update(f"{package}.{name}" for name in re.findall(r"\w+", imported))
    return hashlib.sha256(content).hexdigest(), tuple(sorted(names))
