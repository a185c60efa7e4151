"""When a shadow's answer counts as the same: a table."""

from typing import Any

import numpy as np
import pytest

from cloud_fallback.serving.agreement import agree
from edge_runtime.contract.result import Detections, Embedding, Values


def tensor(*values: float, dtype: Any = np.float32) -> dict[str, Any]:
    return {"y": np.array(values, dtype)}


def embedding(*vector: float) -> Embedding:
    return Embedding(np.array(vector, np.float32), tokens=2, truncated=False)


def people(count: int) -> Detections:
    boxes = np.array([[0, 0, 10 + index, 10] for index in range(count)], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32), ("person",))


@pytest.mark.parametrize(
    ("given", "shadow", "same"),
    [
        pytest.param(tensor(1, 2), tensor(1, 2), True, id="equal"),
        pytest.param(tensor(1, 100), tensor(1.9, 100), True, id="within 1 % of the greatest"),
        pytest.param(tensor(1, 100), tensor(2.1, 100), False, id="beyond 1 %"),
        pytest.param(tensor(0, 0), tensor(0, 0), True, id="zeros"),
        pytest.param(tensor(1), tensor(1, 1), False, id="another shape"),
        pytest.param(tensor(1), {"z": np.ones(1)}, False, id="another name"),
        pytest.param(tensor(np.nan), tensor(np.nan), True, id="both no number"),
        pytest.param(tensor(np.nan), tensor(1), False, id="one no number"),
        pytest.param(tensor(1, dtype=np.int64), tensor(1, dtype=np.float32), True, id="another dtype"),
        pytest.param({"y": np.array(["a"], object)}, {"y": np.array(["a"], object)}, True, id="texts"),
        pytest.param({"y": np.array(["a"], object)}, {"y": np.array(["b"], object)}, False, id="other texts"),
        pytest.param(tensor(), tensor(), True, id="empty"),
        pytest.param(Values(tensor(1), ()), Values(tensor(1.005), ()), True, id="values"),
        pytest.param(embedding(1, 0), embedding(2, 0.1), True, id="one direction"),
        pytest.param(embedding(1, 0), embedding(0, 1), False, id="two directions"),
        pytest.param(people(2), people(2), True, id="as many objects"),
        pytest.param(people(2), people(3), False, id="more objects"),
        pytest.param(people(1), embedding(1, 0), False, id="another task"),
    ],
)
def test_what_agrees(given: Any, shadow: Any, same: bool) -> None:
    assert agree(given, shadow) is same
