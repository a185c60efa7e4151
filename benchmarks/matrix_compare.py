"""Compares the models of one architecture with their source, as a process of its own for `convert_matrix.py`.

Converts nothing and judges nothing. Fed one job as JSON; gives a JSON line for each cell.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from architectures import VERIFICATION
from clips import CACHE
from matrix_sources import CASE
from pydantic import TypeAdapter

from converters import variants
from converters.recipe import Source
from converters.step import SAMPLES_FILE
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec

FOLDER = CACHE / "convert-matrix"
STORE = CACHE / "convert-store"


class TorchSession:
    """A torch module as a session; see `edge_runtime.engines.base.Session`."""

    provider = "torch"

    def __init__(self, net: Any) -> None:
        self._net = net
        self.inputs = [_spec(name, tensor) for name, tensor in net.examples.items()]
        self.outputs = [_spec(name, tensor) for name, tensor in self._answer(net.examples.values()).items()]

    def _answer(self, tensors: Any) -> dict[str, Any]:
        import torch

        with torch.no_grad():
            return self._net.module(*tensors)

    def run(self, inputs: Tensors) -> Tensors:
        import torch

        given = [torch.from_numpy(inputs[spec.name].copy()) for spec in self.inputs]
        return {name: tensor.numpy() for name, tensor in self._answer(given).items()}

    def close(self) -> None:
        """Nothing is open."""


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def compare(job: Mapping[str, Any]) -> None:
    """Compare the models of one architecture with their source; writes a JSON line each.

    Args:
        job: `name` of the architecture; by cell, `cells` to compare with their fingerprints, and `chains` of
            the fingerprints of the steps that made them, the first one first.
    """
    from converters.verify.parity import Parity, name_outputs, read
    from converters.verify.runners import open_subject, runners
    from edge_runtime.tasks.rows import LABELS, raw_inputs, read_rows

    case = json.loads((FOLDER / job["name"] / CASE).read_text())
    task: Any = TypeAdapter[TaskSpec](TaskSpec).validate_python(case["task"])
    rows = read_rows(FOLDER / job["name"] / "samples" / SAMPLES_FILE)
    raws = raw_inputs({key: some[-VERIFICATION:] for key, some in rows.items() if key != LABELS}, task)
    tokenizer = Path(case["tokenizer"]) if "tokenizer" in case else None
    source = _source(case, task, tokenizer)
    answers = [read(source, raw) for raw in raws]
    for cell in job["cells"]:
        said: dict[str, Any] = {"cell": cell, "of": job["cells"][cell]}
        format_ = cell.split("-")[0]
        try:
            facts = [json.loads((STORE / part / "facts.json").read_text()) for part in job["chains"][cell]]
            became = variants.shape(facts)
            spec = variants.task_of(task, became)
            folder = STORE / job["cells"][cell]
            runner = runners(format_)[0][0]
            subject = open_subject(runner, folder, format_, spec, tokenizer)
            with closing(subject.session):
                parity = Parity(task, spec, name_outputs(source, subject, became.outputs))
                for raw, mine in zip(raws, answers, strict=True):
                    given = _given(raw, became.inputs, subject) if task.kind == "tensors" else raw
                    parity.add(mine, read(subject, given))
            said |= {"numbers": parity.numbers(), "engine": runner.engine}
        except (EdgeRuntimeError, OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
            said["reason"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        print(json.dumps(said), flush=True)


def _given(raw: Tensors, names: Mapping[str, str], subject: Any) -> Tensors:
    """The tensors of a sample that a model takes, by its own names."""
    from edge_runtime.tasks.names import plain_name

    taken = {plain_name(spec.name) for spec in subject.session.inputs}
    renamed = {names.get(name, name): array for name, array in raw.items()}
    return {name: array for name, array in renamed.items() if plain_name(name) in taken}


def _source(case: Mapping[str, Any], task: Any, tokenizer: Path | None) -> Any:
    from converters.export import hugging_face, torch_source
    from converters.verify.runners import Runner, Subject
    from edge_runtime.engines.base import EngineOptions
    from edge_runtime.tasks.make import make_any_task

    files = {key: Path(path) for key, path in case["files"].items()}
    kind = case["source"]["kind"]
    session: Any
    if kind == "onnx":
        session = Runner("onnxruntime").open(files["source"], EngineOptions())
    elif kind == "torch":
        session = TorchSession(
            torch_source.load(Source.model_validate(case["source"]), files, image=task.input)
        )
    else:
        options = {"task": case["task"]}
        if case.get("max_length"):
            options["max_length"] = case["max_length"]
        session = TorchSession(hugging_face.load(files["source"], options, dynamic=False))
    return Subject(
        session,
        make_any_task(task, session.inputs, session.outputs, tokenizer),
        task,
        Runner(kind),
        files["source"],
    )


if __name__ == "__main__":
    compare(json.loads(sys.argv[1]))
