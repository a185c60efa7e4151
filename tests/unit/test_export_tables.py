"""Models of tables to ONNX: the same answers, and pickles only with trust."""

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from converters.export.tables import export_onnx
from converters.step import Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(80, 4)).astype(np.float32)
KINDS = (TABLE[:, 0] > 0).astype(int) + (TABLE[:, 1] > 1)
AMOUNTS = TABLE @ np.arange(4)


def convert(path: Path, **source: Any) -> Facts:
    told = {"path": str(path), "trust": True} | source
    return export_onnx({"source": path}, path.parent, {"source": told}, lambda *_: None)


def answer(folder: Path, inputs: Tensors) -> Tensors:
    session = load_engine("onnxruntime").open(folder / "model.onnx", options=EngineOptions())
    given = session.run(inputs)
    session.close()
    return given


def check(folder: Path, want: Array) -> dict[str, Array]:
    given = answer(folder, {"input": TABLE})
    first = next(iter(given.values()))
    np.testing.assert_allclose(first.reshape(want.shape), want, rtol=1e-4, atol=1e-4)
    return dict(given)


def refusal(path: Path, **source: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert(path, **source)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_pipeline_of_a_classifier(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, KINDS)
    joblib.dump(model, tmp_path / "m.joblib")
    facts = convert(tmp_path / "m.joblib")
    assert (facts["labels"], facts["opset"]) == (["0", "1", "2"], 17)
    given = check(tmp_path, model.predict_proba(TABLE))
    assert list(given) == ["probabilities", "label"]
    np.testing.assert_array_equal(given["label"], model.predict(TABLE))


def test_classes_with_names(tmp_path: Path) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(TABLE, np.array(["x", "y", "z"])[KINDS])
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(model))
    facts = convert(tmp_path / "m.pkl")
    assert facts["labels"] == ["x", "y", "z"]
    assert facts["outputs"] == {"probabilities": "probabilities"}
    check(tmp_path, model.predict_proba(TABLE))


def test_a_regressor(tmp_path: Path) -> None:
    model = GradientBoostingRegressor(n_estimators=5, random_state=0).fit(TABLE, AMOUNTS)
    joblib.dump(model, tmp_path / "m.joblib")
    convert(tmp_path / "m.joblib")
    check(tmp_path, model.predict(TABLE))


def test_columns_of_several_kinds(tmp_path: Path) -> None:
    pandas_like = np.column_stack([KINDS, TABLE[:, 0]])
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), [0]), (StandardScaler(), [1])), LogisticRegression()
    ).fit(pandas_like, KINDS)
    joblib.dump(model, tmp_path / "m.joblib")
    convert(
        tmp_path / "m.joblib",
        inputs=[
            {"name": "kind", "shape": [1, 1], "dtype": "int64"},
            {"name": "amount", "shape": [1, 1], "dtype": "float32"},
        ],
    )
    given = answer(tmp_path, {"kind": KINDS[:, None].astype(np.int64), "amount": TABLE[:, :1]})
    np.testing.assert_allclose(given["probabilities"], model.predict_proba(pandas_like), atol=1e-5)


def test_a_pickle_without_trust(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap()))
    assert "--trust-source" in str(refusal(tmp_path / "m.pkl", trust=False))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle"])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pkl").write_bytes(content)
    assert "cannot be loaded as sklearn" in str(refusal(tmp_path / "m.pkl"))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "expected a file, got nothing" in str(refusal(tmp_path / "m.pkl"))


def test_a_model_of_a_missing_library(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"cnowhere_to_be_found\nModel\n.")
    assert "needs the library nowhere_to_be_found" in str(refusal(tmp_path / "m.pkl"))


def test_what_no_converter_takes(tmp_path: Path) -> None:
    joblib.dump(LocalOutlierFactor(novelty=True).fit(TABLE), tmp_path / "good.joblib")
    convert(tmp_path / "good.joblib")

    joblib.dump(LogisticRegression(), tmp_path / "m.joblib")
    assert "does not say how many columns" in str(refusal(tmp_path / "m.joblib"))


def test_xgboost(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=4).fit(TABLE, KINDS)
    for name in ("m.json", "m.ubj"):
        model.save_model(tmp_path / name)
        convert(tmp_path / name, trust=False)
        check(tmp_path, model.predict_proba(TABLE))
    model = xgboost.XGBRegressor(n_estimators=4).fit(TABLE, AMOUNTS)
    joblib.dump(model, tmp_path / "m.joblib")
    convert(tmp_path / "m.joblib")
    check(tmp_path, model.predict(TABLE))
    (tmp_path / "m.json").write_text("{}")
    assert "cannot be loaded as xgboost" in str(refusal(tmp_path / "m.json"))


def test_lightgbm(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(TABLE, KINDS)
    model.booster_.save_model(tmp_path / "m.txt")
    convert(tmp_path / "m.txt", trust=False)
    check(tmp_path, model.predict_proba(TABLE))
    (tmp_path / "m.txt").write_text("no model")
    assert "cannot be loaded as lightgbm" in str(refusal(tmp_path / "m.txt"))
