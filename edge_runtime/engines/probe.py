"""Trying an engine in a process of its own, which a vendor's library that crashes takes along alone.

`probe` asks; `python -m edge_runtime.engines.probe ENGINE PROVIDER` is the process that answers, with one
line of JSON. Measures no speed.
"""

import base64
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import DEFAULT_PROVIDER, ENGINES, load_engine

TIMEOUT_S = 60.0
"""For one engine and provider; TensorRT and CUDA take tens of seconds to load for the first time."""

# y = max(x, 0) of float32 (1, 4), as ONNX and as TensorFlow Lite.
_TINY = {
    "model.onnx": (
        "CAg6RAoMCgF4EgF5IgRSZWx1EgpkZWZpbml0aW9uWhMKAXgSDgoMCAESCAoCCAEKAggE"
        "YhMKAXkSDgoMCAESCAoCCAEKAggEQgQKABAR"
    ),
    "model.tflite": (
        "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA2AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQA"
        "EAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAA"
        "AAAAAAEAAAABAAAAAQAAAAAAAAACAAAANAAAAAQAAADg////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAABAAAAAwADAAIAAAA"
        "AAAEAAwAAAAIAAAADAAAAAEAAAB4AAAAAgAAAAEAAAAEAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAAEwAAAAAAABM="
    ),
}
_TRIED_WITH = {"onnxruntime": "model.onnx", "litert": "model.tflite", "openvino": "model.onnx"}


def probe(
    engines: Collection[str] = tuple(ENGINES), timeout_s: float = TIMEOUT_S
) -> dict[str, tuple[str, ...] | str]:
    """Find the engines and providers that really load and run here, each tried in its own process.

    Args:
        engines: Names of the engine registry.
        timeout_s: How long one of them may take.

    Returns:
        By engine: the providers that ran a tiny model, or why the engine does not work.
    """
    with ThreadPoolExecutor(max(1, len(engines))) as threads:
        asked = {engine: threads.submit(_probe_engine, engine, timeout_s) for engine in engines}
        return {engine: answer.result() for engine, answer in asked.items()}


def _probe_engine(engine: str, timeout_s: float) -> tuple[str, ...] | str:
    default = DEFAULT_PROVIDER[engine]
    first = _ask(engine, default, timeout_s)
    if "problem" in first:
        return str(first["problem"])
    return tuple(
        name
        for name in first["providers"]
        if name == default or "problem" not in _ask(engine, name, timeout_s)
    )


def _ask(engine: str, provider: str, timeout_s: float) -> Mapping[str, list[str] | str]:
    command = [sys.executable, "-m", "edge_runtime.engines.probe", engine, provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"{engine} ({provider}) did not answer in {timeout_s:g} s"}
    if done.returncode != 0:
        return {"problem": f"{engine} ({provider}) crashed: {_death(done.returncode)}"}
    answer: Mapping[str, list[str] | str] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _death(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _answer(name: str, provider: str) -> Mapping[str, list[str] | str]:
    """Load an engine and run the tiny model on a provider; runs in the child."""
    try:
        engine = load_engine(name)
        providers = list(engine.providers())
        if name in _TRIED_WITH:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, _TRIED_WITH[name])
                file.write_bytes(base64.b64decode(_TINY[file.name]))
                session = engine.open(file, options=EngineOptions(providers=(provider,)))
                tensors = {session.inputs[0].name: np.array([[-1, 0, 1, 2]], np.float32)}
                found = session.run(tensors)[session.outputs[0].name]
                session.close()
            if found.tolist() != [[0, 0, 1, 2]]:
                return {"problem": f"{name} ({provider}) answers wrongly: {found.tolist()}"}
    except EdgeRuntimeError as error:
        return {"problem": str(error)}
    return {"providers": providers}


def main(arguments: Sequence[str]) -> int:
    """Print the answer about an engine and one of its providers, as a line of JSON.

    Args:
        arguments: The engine's and the provider's name.
    """
    engine, provider = arguments
    sys.stdout.write(json.dumps(_answer(engine, provider)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
