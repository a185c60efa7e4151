"""The source model that variants are compared with, opened by the first engine that runs its format here.

A source that no engine runs (a torch module, a Keras file, a tree of scikit-learn) is stood for by its fp32
export, whose own likeness to the framework the export step measured; see `gate.EXPORT`.
"""

from collections.abc import Mapping
from pathlib import Path

from converters.verify.runners import Subject, open_subject, runners
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TaskSpec


def open_source(
    inputs: Mapping[str, Path], format_: str, spec: TaskSpec, *, min_score: float | None = None
) -> Subject:
    """Open the source model.

    Args:
        inputs: Of the step; `source_model` is the folder, `tokenizer` the `tokenizer.json` of a text model.
        format_: A value of `Format`.
        spec: The task as the source model has it.
        min_score: As for `open_subject`.

    Raises:
        ConversionError: Nothing here runs the format.
        EdgeRuntimeError: The model does not open.
    """
    found, absent = runners(format_)
    if not found:
        raise ConversionError(
            f"nothing on this host runs the source model, a {format_} file",
            got="; ".join(absent) or None,
            do="Install an engine that runs it",
        )
    return open_subject(
        found[0], inputs["source_model"], format_, spec, inputs.get("tokenizer"), min_score=min_score
    )
