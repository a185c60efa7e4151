"""DeviceProfile: what a kind of device has, and what its engines take.

Profiles ship as YAML in `device_profiles`; `edge-runtime profile detect` writes one for the machine it
runs on. This module holds the vocabulary only and looks at no hardware.
"""

from typing import Literal

from pydantic import Field

from edge_runtime.contract.bundle import Format, Name, Precision
from edge_runtime.contract.task import Declared


class Cpu(Declared):
    """The processor."""

    name: str
    arch: Literal["x86_64", "aarch64", "armv7l", "wasm32"]
    cores: int = Field(ge=1, description="physical cores, all kinds together")
    threads: int = Field(ge=1, description="hardware threads")
    features: tuple[str, ...] = Field(default=(), description="instruction sets that matter: avx2, vnni, …")


class Accelerator(Declared):
    """A GPU, NPU or DSP that an engine can use."""

    kind: Literal["gpu", "npu", "dsp"]
    name: str
    memory_bytes: int | None = Field(default=None, ge=0, description="its own; absent when shared")


class EngineSupport(Declared):
    """An engine of the device, in the order of the profile's preference."""

    engine: str = Field(description="a name of the engine registry: onnxruntime, litert, openvino, coreml, …")
    formats: tuple[Format, ...] = Field(min_length=1)
    precisions: tuple[Precision, ...] = Field(min_length=1, description="best first")
    providers: tuple[str, ...] = Field(default=(), description="execution providers or delegates, best first")


class Decoding(Declared):
    """How this device decodes video best."""

    threads: int = Field(default=1, ge=1)
    thread_type: Literal["slice", "frame", "auto"] = "slice"
    skip_loop_filter: Literal["auto", "none", "non_reference", "all"] = Field(
        default="auto",
        description="of H.264 and H.265; auto: all, where the model sees a quarter of the size or less",
    )
    frames: Literal["all", "key"] = Field(
        default="all",
        description="key: decode key frames only, one every second or two, for a device that cannot do more",
    )
    hardware: str | None = Field(
        default=None,
        description="an FFmpeg hwaccel: vaapi, cuda, d3d11va, videotoolbox, …; where it does not open, the"
        " processor decodes, and the camera's status says so",
    )


class Thermal(Declared):
    """What the device can do for hours, not for a minute."""

    sustained_w: float | None = Field(default=None, gt=0)
    throttle_c: float | None = Field(default=None, gt=0, description="where the maker lowers the clock")


class Tuned(Declared):
    """How one model runs best on this very machine, as `edge-runtime bench --tune` measured it."""

    bundle: str = Field(description="name of the bundle")
    version: str
    variant: str
    engine: str
    provider: str
    threads: int = Field(ge=1, description="of one inference")
    workers: int = Field(ge=1, description="inferences at the same time")
    per_second: float = Field(gt=0, description="inferences a second, all workers together")
    cpu_ms: float = Field(gt=0, description="processor time of an inference, all threads")
    measured: str = Field(description="when, ISO 8601 UTC")


class Fact(Declared):
    """Where a figure of the profile comes from."""

    says: str
    source: str


class DeviceProfile(Declared):
    """What a device kind has: processor, memory, accelerators, engines, limits and targets."""

    schema_version: Literal[1] = 1
    name: Name
    title: str
    cpu: Cpu
    memory_bytes: int = Field(ge=1)
    memory_budget_bytes: int = Field(ge=1, description="what the runtime and its models may take")
    accelerators: tuple[Accelerator, ...] = ()
    engines: tuple[EngineSupport, ...] = Field(description="best first")
    decoding: Decoding = Decoding()
    thermal: Thermal = Thermal()
    target_latency_ms: float = Field(gt=0, description="one inference of the model a profile is sized for")
    facts: tuple[Fact, ...] = Field(min_length=1)
    tuned: tuple[Tuned, ...] = Field(default=(), description="by `edge-runtime bench --tune`")

    def tuned_for(self, bundle: str, version: str) -> Tuned | None:
        """Give how a version of a bundle runs best here; None: it was not measured."""
        return next((one for one in self.tuned if (one.bundle, one.version) == (bundle, version)), None)
