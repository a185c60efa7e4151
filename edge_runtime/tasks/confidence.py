"""How sure a model is of an answer, as one number for every kind of answer. Judges nothing: policies do."""

from typing import Any

from edge_runtime.contract.result import (
    Classification,
    Detections,
    Entities,
    Generation,
    TextClassification,
)


def confidence_of(value: Any) -> float:
    """Give the confidence of an answer.

    Args:
        value: What a predictor gave.

    Returns:
        In [0, 1]:

        | answer | confidence |
        |---|---|
        | classification of a picture or a text | the best score; 0 where none is left over `min_score` |
        | detections | the best score; 0 where nothing was found |
        | entities | the lowest score, for one wrong span spoils the answer; 1 where there is none |
        | generation | the mean probability of its tokens, as the model saw them |
        | embedding, tensors | 1: they say nothing of it |
    """
    match value:
        case Classification() | TextClassification() | Detections():
            found = float(value.scores.max(initial=0))
        case Entities():
            found = min((entity.score for entity in value.entities), default=1.0)
        case Generation():
            found = value.probability
        case _:
            found = 1.0
    return min(max(found, 0.0), 1.0)
