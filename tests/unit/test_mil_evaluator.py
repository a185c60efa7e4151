"""The evaluator of Core ML programs, held operation by operation against PyTorch, where they come from."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  everybody calls it so

from converters.verify.mil import OPERATIONS, MilSession
from edge_runtime.contract.errors import BundleError, ConversionError, EngineError, InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools and torch.jit warn about themselves
Function = Callable[..., Any]
DICE = torch.Generator().manual_seed(3)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=DICE)


W, B = noise(6, 4, 3, 3), noise(6)
DEPTHWISE, TRANSPOSED = noise(4, 1, 3, 3), noise(4, 2, 3, 3)
GAMMA, BETA, MEAN, VARIANCE = noise(4), noise(4), noise(4), noise(4).abs() + 0.5

PICTURES: dict[str, Function] = {
    "conv": lambda x: F.conv2d(x, W, B, padding=1),
    "conv, stride and dilation": lambda x: F.conv2d(x, W, stride=2, dilation=2, padding=(2, 1)),
    "conv, depthwise": lambda x: F.conv2d(x, DEPTHWISE, groups=4, padding="same"),
    "conv_transpose": lambda x: F.conv_transpose2d(x, TRANSPOSED, stride=2, padding=1),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool, ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "avg_pool, padded": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool, padding counts": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=True),
    "batch_norm": lambda x: F.batch_norm(x.relu(), MEAN, VARIANCE, GAMMA, BETA),
    "instance_norm": lambda x: F.instance_norm(x, weight=GAMMA, bias=BETA),
    "layer_norm": lambda x: F.layer_norm(x, (4, 8, 8)),
    "upsample_nearest_neighbor": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "upsample_bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "upsample_bilinear, corners": lambda x: F.interpolate(
        x, size=(15, 15), mode="bilinear", align_corners=True
    ),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "pad, reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "prelu": lambda x: F.prelu(x, GAMMA),
    "elu": lambda x: F.elu(x, 0.7),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "mish": F.mish,
    "softmax": lambda x: torch.softmax(x, 1),
    "mean": lambda x: x.mean((2, 3)),
    "max": lambda x: x.amax((2, 3), keepdim=True),
    "min": lambda x: x.amin(1),
    "sum": lambda x: x.sum((1, 2)),
    "argmax": lambda x: x.argmax(1),
    "argmin": lambda x: x.argmin(2),
    "l2": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "logsumexp": lambda x: torch.logsumexp(x, (1,)),
    "slices": lambda x: x[:, 1:3, ::2, -3:],
    "one slice": lambda x: x[:, 1],
    "backwards": lambda x: torch.flip(x, (2, 3)),
    "split": lambda x: torch.split(x, [1, 3], dim=1)[1],
    "chunk": lambda x: sum(torch.chunk(x, 2, dim=1)),
    "cat": lambda x: torch.cat((x, x * 2), 1),
    "stack": lambda x: torch.stack((x, x + 1), 2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "reshape": lambda x: x.reshape(1, 8, -1),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(1),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "topk": lambda x: torch.topk(x, 3, dim=3).values,
    "argsort": lambda x: torch.argsort(x, dim=3, descending=True),
    "cumsum": lambda x: torch.cumsum(x, 2),
    "gather": lambda x: torch.gather(x, 3, torch.arange(8).flip(0).expand(1, 4, 8, 8)),
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 2])),
    "indexed": lambda x: x[0][torch.tensor([0, 3]), torch.tensor([1, 2])],
    "where": lambda x: torch.where(x > 0.1, x, -x),
    "local response": lambda x: F.local_response_norm(x, 3, alpha=0.1),
}
NUMBERS: dict[str, Function] = {
    **{
        name: getattr(torch, name)
        for name in (
            "abs", "ceil", "cos", "erf", "exp", "floor", "round", "sign", "sin", "tan", "tanh", "atan",
            "relu", "sigmoid", "square", "exp2",
        )
    },
    "acos": lambda x, y: torch.acos(x.tanh()),
    "asin": lambda x, y: torch.asin(x.tanh()),
    "sqrt": lambda x, y: torch.sqrt(x.abs() + 0.1),
    "rsqrt": lambda x, y: torch.rsqrt(x.abs() + 0.1),
    "log": lambda x, y: torch.log(x.abs() + 0.1),
    "reciprocal": lambda x, y: torch.reciprocal(x.abs() + 0.5),
    "gelu": lambda x, y: F.gelu(x),
    "gelu, tanh": lambda x, y: F.gelu(x, approximate="tanh"),
    "clamp": lambda x, y: torch.clamp(x, -0.5, 0.7),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y.abs() + 0.5),
    "floor_div": lambda x, y: torch.floor_divide(x, y.abs() + 0.5),
    "mod": lambda x, y: torch.remainder(x, y.abs() + 0.5),
    "pow": lambda x, y: torch.pow(x.abs() + 0.1, y),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "compared": lambda x, y: (x > y).float() + 2 * (x < y) + 4 * (x >= y) + 8 * (x <= y) + 16 * (x == y),
    "not equal": lambda x, y: (x != y).float(),
    "both": lambda x, y: torch.logical_and(x > 0, y > 0).float(),
    "either": lambda x, y: torch.logical_or(x > 0, y > 0).float(),
    "neither": lambda x, y: (~(x > 0)).float(),
    "exclusive": lambda x, y: torch.logical_xor(x > 0, y > 0).float(),
    "matmul": lambda x, y: x @ y.transpose(1, 2),
    "einsum": lambda x, y: torch.einsum("bij,bkj->bik", x, y),
    "linear": lambda x, y: F.linear(x, W[:5, :, 0, 0].repeat(1, 2)[:, :6], B[:5]),
    "layer_norm": lambda x, y: F.layer_norm(x, (6,), B, B),
    "attention": lambda x, y: F.scaled_dot_product_attention(x[None], y[None], y[None]),
    "tril": lambda x, y: torch.tril(x),
    "one_hot": lambda x, y: F.one_hot(x.argmax(2), 6).float(),
    "arange": lambda x, y: x + torch.arange(6).float(),
}  # fmt: skip


class Each(torch.nn.Module):
    """Gives what every function makes of the same inputs."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._call(function, inputs) for function in self.functions.values())

    @staticmethod
    def _call(function: Function, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        try:
            return function(*inputs)
        except TypeError:  # a function of the first input alone
            return function(inputs[0])


def convert(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], target: Path, half: bool = False
) -> Path:
    """Convert as a recipe does, for iOS 18, whose programs may hold weights of four bits."""
    import coremltools as ct

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    traced = torch.jit.trace(module.eval(), inputs)
    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    types = [ct.TensorType(name=f"in{n}", shape=x.shape, dtype=np.float32) for n, x in enumerate(inputs)]
    made = ct.convert(
        traced, inputs=types, minimum_deployment_target=ct.target.iOS18, compute_precision=precision,
        skip_model_load=True,
    )  # fmt: skip
    made.save(str(target))
    return target


def run(session: MilSession, inputs: tuple[torch.Tensor, ...]) -> list[Any]:
    given = {spec.name: x.numpy().astype(spec.dtype) for spec, x in zip(session.inputs, inputs, strict=True)}
    answer = session.run(given)
    return [answer[spec.name] for spec in session.outputs]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[MilSession, Any, Any]]:
    folder = tmp_path_factory.mktemp("programs")
    made = {}
    for name, functions, inputs in (
        ("pictures", PICTURES, (noise(1, 4, 8, 8),)),
        ("numbers", NUMBERS, (noise(2, 5, 6), noise(2, 5, 6))),
    ):
        module = Each(functions)
        session = MilSession(convert(module, inputs, folder / f"{name}.mlpackage"))
        made[name] = session, dict(zip(functions, module(*inputs), strict=True)), inputs
    return made


@pytest.mark.parametrize(
    ("program", "function"),
    [*(("pictures", name) for name in PICTURES), *(("numbers", name) for name in NUMBERS)],
)
def test_equals_torch(programs: dict[str, tuple[MilSession, Any, Any]], program: str, function: str) -> None:
    session, expected, inputs = programs[program]
    found = dict(zip(expected, run(session, inputs), strict=True))
    want = expected[function].detach().numpy()
    # Core ML's inverse is 1 / (x + 0.0001).
    near = 5e-4 if function == "reciprocal" else 2e-5
    np.testing.assert_allclose(found[function].astype(want.dtype), want, rtol=near, atol=2e-5)


def block(x: torch.Tensor) -> torch.Tensor:
    """The channels of 2 × 2 cells one after the other, as TensorFlow's space_to_depth has them."""
    return torch.cat([x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


BUILT: dict[str, tuple[str, dict[str, Any], Function]] = {
    "square": ("square", {}, torch.square),
    "softsign": ("softsign", {}, F.softsign),
    "threshold": ("threshold", {"alpha": 0.3}, lambda x: x.clamp(min=0.3)),
    "clamped_relu": (
        "clamped_relu", {"alpha": 0.1, "beta": 0.5}, lambda x: torch.where(x < 0, 0.1 * x, x).clamp(max=0.5)
    ),
    "mod": ("mod", {"y": np.float32(0.7)}, lambda x: torch.remainder(x, 0.7)),
    "identity": ("identity", {}, lambda x: x),
    "flatten2d": ("flatten2d", {"axis": 2}, lambda x: x.reshape(4, 64)),
    "crop": ("crop", {"crop_height": [1, 2], "crop_width": [0, 3]}, lambda x: x[:, :, 1:6, :5]),
    "slice_by_size": (
        "slice_by_size", {"begin": [0, 1, 2, 3], "size": [1, 2, -1, 2]}, lambda x: x[:, 1:3, 2:, 3:5]
    ),
    "reduce_prod": (
        "reduce_prod", {"axes": [1, 2], "keep_dims": True}, lambda x: x.prod(2, True).prod(1, True)
    ),
    "l2_norm": ("l2_norm", {"epsilon": 1e-6}, lambda x: x / (x.square().sum() + 1e-6).sqrt()),
    "local_response_norm": (
        "local_response_norm", {"size": 3, "alpha": 0.2, "beta": 0.6, "k": 1.5},
        lambda x: F.local_response_norm(x, 3, 0.2, 0.6, 1.5),
    ),
    "space_to_depth": ("space_to_depth", {"block_size": 2}, block),
    "resize_bilinear": (
        "resize_bilinear",
        {"target_size_height": 11, "target_size_width": 5, "sampling_mode": "UNALIGN_CORNERS"},
        lambda x: F.interpolate(x, size=(11, 5), mode="bilinear", align_corners=False),
    ),
    "resize_nearest_neighbor": (
        "resize_nearest_neighbor", {"target_size_height": 16, "target_size_width": 24},
        lambda x: F.interpolate(x, size=(16, 24), mode="nearest"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[MilSession, torch.Tensor]:
    """A program of the operations that no torch model becomes, written with Core ML Tools' builder."""
    import coremltools as ct
    from coremltools.converters.mil import Builder

    x = noise(1, 4, 8, 8)

    @Builder.program(input_specs=[Builder.TensorSpec(shape=x.shape)], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        made = [getattr(Builder, op)(x=x, name=name, **options) for name, (op, options, _) in BUILT.items()]
        deep = Builder.space_to_depth(x=x, block_size=2)
        made.append(Builder.depth_to_space(x=deep, block_size=2, name="there and back"))
        kept = Builder.fill(shape=Builder.shape(x=x), value=np.float32(0.5))
        made.append(Builder.add(x=x, y=kept, name="filled"))
        made.append(Builder.fill_like(ref_tensor=x, value=np.float32(0.25), name="alike"))
        end = Builder.cast(x=Builder.gather(x=Builder.shape(x=x), indices=np.int32(2), axis=0), dtype="fp32")
        counted = Builder.range_1d(start=np.float32(0), end=end, step=np.float32(2))
        made.append(Builder.add(x=counted, y=np.float32(1), name="counted"))
        stored = Builder.quantize(input=x, scale=np.float32(0.02), zero_point=np.int8(3), output_dtype="int8")
        made.append(
            Builder.dequantize(input=stored, scale=np.float32(0.02), zero_point=np.int8(3), name="stored")
        )
        made.append(Builder.scaled_dot_product_attention(query=x, key=x, value=x, name="attended"))
        turned = Builder.transpose(x=x, perm=[0, 3, 2, 1])
        made.append(Builder.einsum(values=(x, turned), equation="nchw,nwhu->nchu", name="summed"))
        return tuple(made)

    package = tmp_path_factory.mktemp("built") / "built.mlpackage"
    ct.convert(
        program, compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY,
    ).save(str(package))  # fmt: skip
    return MilSession(package), x


def test_equals_torch_where_no_torch_model_becomes_it(built: tuple[MilSession, torch.Tensor]) -> None:
    session, x = built
    answer = session.run({session.inputs[0].name: x.numpy()})
    expected = {name: function(x) for name, (_, _, function) in BUILT.items()} | {
        "there and back": x,
        "filled": x + 0.5,
        "alike": torch.full_like(x, 0.25),
        "counted": torch.tensor([1.0, 3.0, 5.0, 7.0]),
        "stored": ((torch.round(x / 0.02) + 3).clamp(-128, 127) - 3) * 0.02,
        "attended": F.scaled_dot_product_attention(x, x, x),
        "summed": torch.einsum("nchw,nwhu->nchu", x, x.permute(0, 3, 2, 1)),
    }
    for name, want in expected.items():
        key = next(spec.name for spec in session.outputs if spec.name in {name, name.replace(" ", "_")})
        np.testing.assert_allclose(answer[key], want.numpy(), rtol=2e-5, atol=2e-5, err_msg=name)


def test_every_operation_in_the_table_was_held_against_torch(
    programs: dict[str, tuple[MilSession, Any, Any]], built: tuple[MilSession, torch.Tensor]
) -> None:
    sessions = [*(session for session, _, _ in programs.values()), built[0]]
    used = {op.op_type for session in sessions for op in session.operations}
    assert set(OPERATIONS) - used == set()


class Net(torch.nn.Module):
    """A small classifier with what conv nets have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.body = torch.nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.stem(x))
        return self.head((x + F.relu(self.body(x))).mean((2, 3)))


@pytest.mark.parametrize("kind", ["int8", "int4", "palettes"])
def test_weights_of_few_bits_are_what_the_package_stores(tmp_path: Path, kind: str) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    x = noise(1, 3, 32, 32)
    net = Net().eval()
    convert(net, (x,), tmp_path / "net.mlpackage", half=True)
    model = ct.models.MLModel(str(tmp_path / "net.mlpackage"), skip_model_load=True)
    small = {
        "int8": lambda: cto.linear_quantize_weights(
            model, cto.OptimizationConfig(cto.OpLinearQuantizerConfig(dtype="int8", weight_threshold=0))
        ),
        "int4": lambda: cto.linear_quantize_weights(
            model, cto.OptimizationConfig(
                cto.OpLinearQuantizerConfig(dtype="int4", granularity="per_channel", weight_threshold=0)
            )
        ),
        "palettes": lambda: cto.palettize_weights(
            model, cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=6, weight_threshold=0))
        ),
    }[kind]()  # fmt: skip
    small.save(str(tmp_path / "small.mlpackage"))
    whole, few = (run(MilSession(tmp_path / f"{name}.mlpackage"), (x,))[0] for name in ("net", "small"))
    want = net(x).detach().numpy()
    np.testing.assert_allclose(whole, want, atol=5e-3)
    assert 1e-5 < np.abs(few - want).max() < 0.2


def test_half_precision_is_rounded_as_a_device_stores_it(tmp_path: Path) -> None:
    x = noise(1, 3, 32, 32)
    session = MilSession(convert(Net(), (x,), tmp_path / "net.mlpackage", half=True))
    inside = session.trace({session.inputs[0].name: x.numpy()})
    halves = [value for name, value in inside.items() if name.endswith("_cast_fp16")]
    assert halves
    assert all((value == value.astype(np.float16)).all() for value in halves)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    session = MilSession(convert(Net(), (noise(1, 3, 32, 32),), tmp_path / "net.mlpackage"))
    with pytest.raises(InputError, match="input 'in0'"):
        session.run({"in0": np.zeros((1, 3, 8, 8), np.float32)})
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run({"in0": np.zeros((1, 3, 32, 32), np.float32)})
    (tmp_path / "bad.mlpackage").mkdir()
    with pytest.raises(BundleError, match=r"bad\.mlpackage"):
        MilSession(tmp_path / "bad.mlpackage")


def test_unknown_operations_are_all_named(tmp_path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(3, 4))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return Builder.non_zero(x=Builder.sinh(x=x))

    package = tmp_path / "odd.mlpackage"
    ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True).save(str(package))
    with pytest.raises(ConversionError, match="does not know non_zero, sinh") as caught:
        MilSession(package)
    assert caught.value.operator == "non_zero"
