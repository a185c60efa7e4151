"""The npm packages that run models in a browser: fetched once into the cache, never shipped with this.

`package-lock.json` has their versions and digests: onnxruntime-web (MIT), @litertjs/core (Apache-2.0).
Runs no script of a package.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from converters.environments import cache_folder
from converters.log_tail import last_line
from edge_runtime.atomic import new_folder
from edge_runtime.contract.errors import EngineError

PACKAGES: Mapping[str, str] = {
    "onnxruntime-web": "onnxruntime-web@1.30.0",
    "litertjs": "@litertjs/core@2.5.3",
}
"""Engine -> its npm package and version, as in `package.json`."""
PAGE: Traversable = files("converters.browser")
"""Where the page lies that measures, and the loader that bundles are packed with."""
_TIMEOUT_S = 600


def modules(cache: Path | None = None) -> Path:
    """Give the folder `node_modules`; what is not there yet is fetched with npm.

    Args:
        cache: Folder of tools; absent: `tools` in `cache_folder()`.

    Raises:
        EngineError: npm is missing, or cannot fetch them.
        StorageError: The disk is full or not writeable.
    """
    lock = (PAGE / "package-lock.json").read_bytes()
    home = (cache or cache_folder() / "tools") / f"browser-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not home.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise EngineError(
                "the engines of browsers are fetched with npm", got="no npm", do="Install Node.js"
            )
        # Of two processes that fetch at the same time the last one wins; both have the same files.
        with new_folder(home, may_replace=lambda _: None) as part:
            for name in ("package.json", "package-lock.json"):
                (part / name).write_bytes((PAGE / name).read_bytes())
            _install(npm, part)
    return home / "node_modules"


def _install(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError("the engines of browsers could not be fetched", got=str(error)) from error
    if done.returncode:
        raise EngineError(
            "the engines of browsers could not be fetched",
            got=last_line(done.stderr) or f"exit code {done.returncode} of npm",
            do="Is an npm registry within reach?",
        )
