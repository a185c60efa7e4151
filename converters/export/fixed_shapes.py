"""FixedShapes: what all targets have in common that take a net of fixed shapes, whatever it was made of.

Loads nothing by itself and knows no target: each has its own way to write, which it hands in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from converters.export.onnx_net import net_of
from converters.export.torch_net import Net, colour_of, with_pictures
from converters.export.torch_onnx import load_for
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError

Write: TypeAlias = Callable[[Net, Path, Options, Tell], Facts]
"""`(net, out, options, tell)`: fills the folder with the model, and says what it is like."""


@dataclass(frozen=True, slots=True)
class FixedShapes:
    """A target.

    Args:
        title: For a person: `Core ML`.
        write: Writes a net.
        layout: Of pictures that are not folded; None: as the net has them.
        pixels: What folded pixels, 0–255, come as.
    """

    title: str
    write: Write
    layout: Literal["nhwc"] | None = None
    pixels: Literal["uint8", "float32"] = "uint8"

    def of_torch(self, inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
        """Make the model of a torch source.

        Args:
            inputs: `source`: weights or exported program, `module`: a Python file; each where the recipe has
                one.
            out: Gets the model.
            options: As for `torch_onnx:export`, without `opset`.
            tell: Progress.

        Raises:
            ConversionError: The source cannot be loaded, run, captured or translated, or open axes were
                wanted.
        """
        if options.get("dynamic"):
            raise ConversionError(
                f"{self.title} models of torch sources have fixed shapes",
                expected="`dynamic: false`",
                got="open axes",
                do="Give one size; use ONNX for a model that takes any",
            )
        tell(0.0, "loading the module")
        return self.of_net(load_for(inputs, options, dynamic=False), out, options, tell)

    def of_onnx(self, inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
        """Make the model of an ONNX model.

        Args:
            inputs: `model`: the folder of an ONNX model.
            out: Gets the model.
            options: `task` or `input`: how a picture goes in. `fold`: take pixels 0–255 and normalise inside;
                `colour` then is the order of the channels.
            tell: Progress.

        Returns:
            As of a torch source; `head` where suppression was taken out.

        Raises:
            ConversionError: An operator has no counterpart, or a shape is not fixed.
        """
        tell(0.0, "reading the graph")
        read = net_of(inputs, options, float_pixels=self.pixels == "float32")
        if read.net.folded:
            return read.facts(self.write(read.net, out, options, tell))
        return read.facts(self.of_net(read.net, out, options, tell))

    def of_net(self, net: Net, out: Path, options: Options, tell: Tell) -> Facts:
        """Make the model of a net that takes pictures as its source did.

        Args:
            net: It.
            out: Gets the model.
            options: `fold` and `colour`, and what the target has of its own.
            tell: Progress.

        Raises:
            ConversionError: There is nothing to fold into, or the net cannot be translated.
        """
        fold, colour = bool(options.get("fold")), colour_of(options)
        net = with_pictures(net, fold=fold, layout=self.layout, colour=colour, pixels=self.pixels)
        return self.write(net, out, options, tell)
