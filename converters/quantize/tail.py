"""The end of a detector: its last layers, and what it does with their predictions.

Knows a graph by the names of its tensors only, whatever file it came from, and finds by structure:
what layers are called is each exporter's own taste. Quantizes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Args:
        name: Unique in its graph.
        inputs: Names of tensors.
        outputs: Names of tensors.
        layer: Has weights that can be quantized.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: bool


def last_layers(nodes: Sequence[Node], outputs: Collection[str]) -> frozenset[str]:
    """Name the layers whose results reach an output past no other layer: a detector's predictions.

    Args:
        nodes: In the order they run.
        outputs: Of the graph.
    """
    reached, found = set(outputs), set[str]()
    for node in reversed(nodes):
        if reached.isdisjoint(node.outputs):
            continue
        if node.layer:
            found.add(node.name)
        else:
            reached.update(node.inputs)
    return frozenset(found)


def tail(nodes: Sequence[Node]) -> frozenset[str]:
    """Name the nodes that no layer follows: boxes are made of predictions there.

    Args:
        nodes: In the order they run.
    """
    wanted, before = set[str](), set[str]()
    for node in reversed(nodes):
        if node.layer or not wanted.isdisjoint(node.outputs):
            before.add(node.name)
            wanted.update(node.inputs)
    return frozenset(node.name for node in nodes) - before
