"""From scikit-learn, XGBoost and LightGBM to ONNX: models of tables of numbers.

Pickles run any code when they are loaded, so they are refused without `trust`; the libraries' own files are
not.
"""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.export import onnx_source
from converters.recipe import Source, SourceKind
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto

_DEFAULT_OPSET = 17
_TREES_OPSET = 15
"""What onnxmltools writes at most."""
_ML_OPSET = 3
"""Of `ai.onnx.ml`: what every engine of the profiles knows."""
_INPUT = "input"
_LIBRARIES = {
    SourceKind.SKLEARN: ("scikit-learn", "skl2onnx"),
    SourceKind.XGBOOST: ("onnxmltools", "xgboost"),
    SourceKind.LIGHTGBM: ("lightgbm", "onnxmltools"),
}


def export_onnx(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the ONNX model of a model of tables.

    Args:
        inputs: `source`: a pickle or joblib file, XGBoost's `.json` or `.ubj`, or LightGBM's text.
        out: Gets `model.onnx`: `input` (n, columns) float32, or the inputs that the source declares. A
            classifier gives `probabilities` (n, classes) float32 and `label` (n,) int64, a regressor
            `variable` (n, 1) float32. Labels that are text are left out.
        options: `source`: the recipe's Source, with its `kind`. `opset`: absent: 17; trees of XGBoost and
            LightGBM get 15 at most.
        tell: Progress.

    Returns:
        As `onnx_source:normalize`; `labels`: the names of a classifier's classes.

    Raises:
        ConversionError: A pickle without `trust`, a file that cannot be loaded, a library that is missing, or
            a model that the converters do not know.
    """
    path = inputs["source"]
    source = Source.model_validate(options.get("source") or {"path": str(path)})
    kind = source.kind or _kind(path)
    opset = options.get("opset")
    opset = opset if isinstance(opset, int) else _DEFAULT_OPSET
    tell(0.0, "loading the model")
    noted: list[str] = []
    with _noting(noted):
        model = _load(path, kind, trust=source.trust)
        tell(0.3, "translating to ONNX")
        proto = _convert(model, source, opset)
    labels = _classes(model)
    _order_outputs(proto, noted)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        raw = Path(folder) / "raw.onnx"
        raw.write_bytes(proto.SerializeToString())
        facts = onnx_source.normalize({"source": raw}, out, {}, lambda s, what: tell(0.6 + 0.4 * s, what))
    facts["tools"] = {name: version(name) for name in ("onnx", *_LIBRARIES[kind])}
    facts["warnings"] = list(noted)
    if labels:
        facts["labels"] = list(labels)
    return facts


def _kind(path: Path) -> SourceKind:
    if path.suffix in {".json", ".ubj"}:
        return SourceKind.XGBOOST
    return SourceKind.LIGHTGBM if path.suffix == ".txt" else SourceKind.SKLEARN


@contextmanager
def _noting(noted: list[str]) -> Generator[None]:
    """Keep what the libraries warn of: a pickle of another version may answer differently."""
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        yield
    found = {f"{one.category.__name__}: {brief(Exception(str(one.message)))}" for one in caught}
    noted.extend(sorted(text for text in found if "Version" in text))


@contextmanager
def _library(name: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ConversionError(
            f"{name} is not installed ({brief(error)})",
            do=f"Install it: pip install 'edge-runtime[convert-tables]' {name}",
        ) from error


def _load(path: Path, kind: SourceKind, *, trust: bool) -> Any:
    if not path.is_file():
        raise ConversionError(f"model {path}", expected="a file", got="nothing")
    if kind is SourceKind.SKLEARN and not trust:
        raise ConversionError(
            f"model {path} is a pickle, which can run any code when it is loaded",
            do="If you know who made it, pass --trust-source",
        )
    load = {SourceKind.XGBOOST: _load_xgboost, SourceKind.LIGHTGBM: _load_lightgbm}.get(kind, _load_pickle)
    try:
        return load(path)
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            f"model {path} cannot be loaded as {kind}: {brief(error)}", do="Save it again with this library"
        ) from error


def _load_pickle(path: Path) -> Any:
    with _library("scikit-learn"):
        import joblib
    try:
        return joblib.load(path)  # reads plain pickles as well
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"model {path} needs the library {error.name}", do=f"Install it: pip install {error.name}"
        ) from error


def _load_xgboost(path: Path) -> Any:
    with _library("xgboost"):
        import xgboost  # pyright: ignore[reportMissingImports] - asked for when such a model comes
    vendor: Any = xgboost
    booster = vendor.Booster()
    booster.load_model(path)
    objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    classifies = objective.startswith(("binary:", "multi:"))
    model = vendor.XGBClassifier() if classifies else vendor.XGBRegressor()
    model.load_model(path)
    return model


def _load_lightgbm(path: Path) -> Any:
    with _library("lightgbm"):
        import lightgbm  # pyright: ignore[reportMissingImports] - asked for when such a model comes
    vendor: Any = lightgbm
    return vendor.Booster(model_file=str(path))


def _convert(model: Any, source: Source, opset: int) -> "ModelProto":
    trees = next((name for name in ("lightgbm", "xgboost") if _is_from(model, name)), None)
    try:
        if trees is not None:
            import onnxmltools
            from onnxmltools.convert.common import data_types

            vendor: Any = onnxmltools
            told = {
                "initial_types": _types(model, source, data_types),
                "target_opset": min(opset, _TREES_OPSET),
            }
            if trees == "lightgbm":
                return vendor.convert_lightgbm(model, zipmap=False, **told)
            return vendor.convert_xgboost(model, **told)
        import skl2onnx
        from skl2onnx.common import data_types

        vendor = skl2onnx
        settings = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
        return vendor.to_onnx(
            model,
            initial_types=_types(model, source, data_types),
            target_opset={"": opset, "ai.onnx.ml": _ML_OPSET},
            options=settings,
        )
    except ConversionError:
        raise
    except Exception as error:
        name = type(model).__name__
        raise ConversionError(
            f"no converter takes this {name}: {brief(error)}",
            operator=name,
            do="Use an estimator of the list at onnx.ai/sklearn-onnx, or declare the source's `inputs`",
        ) from error


def _is_from(model: Any, library: str) -> bool:
    return type(model).__module__.partition(".")[0] == library


def _types(model: Any, source: Source, kinds: Any) -> list[tuple[str, Any]]:
    """Say what goes in, in a library's own `kinds`: one table of float32, or what the source declares."""
    if source.inputs:
        by_dtype = {
            "float32": kinds.FloatTensorType,
            "int64": kinds.Int64TensorType,
            "int32": kinds.Int32TensorType,
        }
        strange = next((one for one in source.inputs if one.dtype not in by_dtype), None)
        if strange is not None:
            raise ConversionError(
                f"input '{strange.name}'", expected=" or ".join(by_dtype), got=strange.dtype
            )
        return [(one.name, by_dtype[one.dtype]([None, *one.shape[1:]])) for one in source.inputs]
    columns = getattr(model, "n_features_in_", None)
    if columns is None and hasattr(model, "num_feature"):
        columns = model.num_feature()
    if columns is None:
        raise ConversionError(
            f"{type(model).__name__} does not say how many columns it takes",
            expected="a fitted model",
            do="Fit it, or declare the source's `inputs`",
        )
    return [(_INPUT, kinds.FloatTensorType([None, int(columns)]))]


def _classes(model: Any) -> Sequence[str]:
    found = getattr(model, "classes_", None)
    return () if found is None or getattr(found, "ndim", 1) != 1 else [str(one) for one in found]


def _order_outputs(proto: "ModelProto", noted: list[str]) -> None:
    """Put probabilities first, where a task looks for its labels' columns; drop labels that are text."""
    from onnx import TensorProto

    outputs = list(proto.graph.output)
    kept = [one for one in outputs if one.type.tensor_type.elem_type != TensorProto.STRING]
    if len(kept) < len(outputs):
        noted.append("the label as text is left out: the best probability tells it")
    kept.sort(key=lambda one: one.type.tensor_type.elem_type != TensorProto.FLOAT)
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
