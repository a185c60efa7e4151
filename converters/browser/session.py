"""A model in a browser's engine, as a Session: what verifies a browser's variant runs it through this.

Not for devices: a page runs its model itself. WebAssembly on one thread only; WebGPU of a machine without a
GPU says nothing about GPUs.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from converters.browser.manifest import MANIFEST, Backend, WebEngine, WebManifest
from converters.browser.packages import PACKAGES, PAGE, modules
from converters.browser.page import CHROMIUM_VARIABLE, Page, find_chromium
from converters.browser.tensors import FORMATS, describe
from edge_runtime.bundle import digest
from edge_runtime.contract.bundle import FileRef, Format, Precision
from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.task import TensorsSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors
from edge_runtime.engines.base import Session
from edge_runtime.engines.hardware import read_cpu
from edge_runtime.engines.measure import Runner

_DATA = (".onnx_data", ".data")
"""Endings of the files that hold the weights of an ONNX model beside it."""


def missing(engine: str) -> str | None:
    """Say why an engine of browsers cannot run here; None when it can.

    Args:
        engine: A key of `packages.PACKAGES`. Its npm package is fetched where it is not there yet.

    Raises:
        StorageError: It cannot be written.
    """
    if find_chromium() is None:
        return f"no Chromium. Install chromium, or set {CHROMIUM_VARIABLE} to its path"
    try:
        modules()
    except EngineError as error:
        return str(error)
    return None


@cache
def machine() -> str:
    """Name what receipts of a browser were measured on."""
    done = subprocess.run(
        [find_chromium() or "chromium", "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    browser = " ".join(done.stdout.split()[:2]) or "Chromium"
    return f"{read_cpu().name}, {browser}, WASM, 1 thread"


def open_onnx(model: Path) -> "WebSession":
    """Open an `.onnx` or `.ort` file in onnxruntime-web; see `Engine.open`."""
    return WebSession(model, "onnxruntime-web")


def open_litert(model: Path) -> "WebSession":
    """Open a `.tflite` file in LiteRT.js; see `Engine.open`."""
    return WebSession(model, "litertjs")


class WebSession:
    """A model opened in a page of its own.

    Args:
        model: Its file.
        engine: The browser's.
        manifest: What the page is told of it; None: made of the file as it is now.

    Raises:
        BundleError: The file is missing, corrupt, or not what the manifest says.
        EngineError: The engine is not here, or refuses the model or its types.
        StorageError: The engine could not be written to the cache.
    """

    def __init__(self, model: Path, engine: WebEngine, manifest: WebManifest | None = None) -> None:
        chromium = find_chromium()
        if chromium is None:
            raise EngineError(f"{engine}: {missing(engine)}")
        told = manifest or _manifest(model, engine)
        self.inputs: Sequence[TensorSpec] = [
            TensorSpec(one.name, one.dtype, one.shape) for one in told.inputs
        ]
        self.outputs: Sequence[TensorSpec] = [
            TensorSpec(one.name, one.dtype, one.shape) for one in told.outputs
        ]
        self.provider = "wasm"
        self._model = model
        self._engine = engine
        folders = {"": PAGE, "npm": modules(), "model": model.parent}
        self._page = Page(chromium, folders, {f"model/{MANIFEST}": told.model_dump_json().encode()})
        try:
            self._page.ask({"do": "open", "engine": engine})
        except EngineError as error:
            self._page.close()
            if error.problem.startswith("IntegrityError"):
                raise BundleError(error.problem, do="Pack the bundle again") from error
            raise EngineError(f"{engine} cannot open {model}: {error}") from error

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        check_tensors(inputs, self.inputs)
        try:
            _, found = self._page.ask({"do": "run"}, inputs)
        except EngineError as error:
            raise EngineError(f"{self._engine} failed to run {self._model}: {error}") from error
        return {spec.name: found[spec.name] for spec in self.outputs}

    def times_ms(self, inputs: Tensors, runs: int) -> list[float]:
        """Run the model so many times and give what each took, by the page's own clock.

        Raises:
            InputError: As for `run`.
            EngineError: As for `run`.
        """
        check_tensors(inputs, self.inputs)
        head, _ = self._page.ask({"do": "time", "runs": runs}, inputs)
        return [float(one) for one in head["times_ms"]]

    def peak_memory_bytes(self) -> int | None:
        """Give what engine and model added to the page's process at most; None where that is not known."""
        return self._page.added_memory_bytes()

    def close(self) -> None:
        """End the page. Idempotent; waits for a run under way."""
        self._page.close()


@dataclass(slots=True)
class PageRunner(Runner):
    """A Runner whose times are those of the page: what goes to and fro is no part of an inference."""

    def take_turn(self, runs: int) -> None:
        """Run so many times, counting."""
        self.wall_ms += cast(WebSession, self.session).times_ms(self.tensors, runs)


def peak_memory(session: Session) -> int | None:
    """Give what a WebSession has added to its page's process at most; None where that is not known."""
    return cast(WebSession, session).peak_memory_bytes()


def model_files(model: Path) -> tuple[FileRef, ...]:
    """Give a model's file and its external data, the model first, by their names.

    Raises:
        BundleError: The file cannot be read.
    """
    try:
        beside = sorted(one for one in model.parent.iterdir() if one.name.endswith(_DATA) and one != model)
        found = [(one, *digest(one)) for one in (model, *(beside if model.suffix == ".onnx" else ()))]
    except OSError as error:
        raise BundleError(f"model {model}", expected="a readable file", got=error.strerror) from error
    return tuple(FileRef(path=one.name, sha256=sha256, size_bytes=size) for one, sha256, size in found)


def _manifest(model: Path, engine: WebEngine) -> WebManifest:
    inputs, outputs = describe(model, engine)
    kind = next((one for one in FORMATS[engine] if model.suffix == f".{one}"), Format.ONNX)
    return WebManifest(
        name="model",
        version="0",
        licence="unknown",
        profile="browser-wasm",
        variant="model",
        format=kind,
        precision=Precision.FP32,
        engine=engine,
        package=PACKAGES[engine],
        backends=(Backend(name="wasm", status="declared, not verified"),),
        files=model_files(model),
        inputs=inputs,
        outputs=outputs,
        task=TensorsSpec(kind="tensors"),
    )
