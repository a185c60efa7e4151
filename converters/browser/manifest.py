"""WebManifest: what a page must know of a model, as `manifest.json` beside the model's files says it.

Only holds and validates; `pack` writes it, `edge-model.js` reads it.
"""

from typing import Literal

from pydantic import Field

from edge_runtime.contract.bundle import FileRef, Format, Name, Precision, Receipt
from edge_runtime.contract.task import Declared, TaskSpec

MANIFEST = "manifest.json"
LOADER = "edge-model.js"
WebEngine = Literal["onnxruntime-web", "litertjs"]


class WebTensor(Declared):
    """An input or output of the model."""

    name: str = Field(description="as the bundle's task and receipts name it")
    key: str = Field(description="as the browser's engine names it")
    dtype: str = Field(description="NumPy's name of the type")
    shape: tuple[int | None, ...] = Field(description="null: any length")


class Backend(Declared):
    """Something in the browser that can run the model, and whether anybody saw it do so."""

    name: str = Field(description="wasm, webgpu, …: of the profile's providers")
    status: Literal["verified", "declared, not verified"]
    receipt: Receipt | None = Field(default=None, description="what was measured with it")


class WebManifest(Declared):
    """`manifest.json`."""

    schema_version: Literal[1] = 1
    name: Name
    version: str
    licence: str
    profile: str
    variant: Name
    format: Format
    precision: Precision
    engine: WebEngine
    package: str = Field(description="npm package of the engine, with the version that was verified")
    backends: tuple[Backend, ...]
    files: tuple[FileRef, ...] = Field(min_length=1, description="the model first, then its external data")
    tokenizer: FileRef | None = None
    inputs: tuple[WebTensor, ...]
    outputs: tuple[WebTensor, ...]
    task: TaskSpec = Field(description="as this variant has it: preprocessing, head, labels")
