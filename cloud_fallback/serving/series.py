"""Series: counters and histograms for one thread that counts, scraped by Prometheus like the library's own.

The library takes a lock for each of a histogram's numbers, which a tiny request pays three times over. These
belong to the event loop's thread and need none. Knows no metric of ours.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[int | str, ...]


class Histogram:
    """Values of one series. Made by `Histograms`.

    Args:
        bounds: Upper ends of the buckets, ascending, the endless one left out.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histograms(Collector):
    """A histogram for each set of labels.

    Args:
        name: Of the metric.
        told: What it is, for a person.
        labels: Their names.
        bounds: Upper ends of the buckets, ascending.
        registry: Who is scraped.
    """

    def __init__(
        self,
        name: str,
        told: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._told, self._labels = name, told, labels
        self._bounds = tuple(float(bound) for bound in bounds)
        self._ends = (*map(str, self._bounds), "+Inf")
        self._series: dict[Labels, Histogram] = {}
        registry.register(self)

    def of(self, labels: Labels) -> Histogram:
        """Give the series of these values of the labels."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = Histogram(self._bounds)
        return found

    def describe(self) -> Iterable[Metric]:
        """See `Collector`."""
        return [HistogramMetricFamily(self._name, self._told, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        for labels, series in tuple(self._series.items()):
            buckets = [*zip(self._ends, map(float, accumulate(series.counts)), strict=True)]
            family.add_metric([str(label) for label in labels], buckets, series.total)
        return [family]


class Counters(Collector):
    """A counter for each set of labels.

    Args:
        name: Of the metric, without its `_total`.
        told: What it is, for a person.
        labels: Their names.
        registry: Who is scraped.
    """

    def __init__(self, name: str, told: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._told, self._labels = name, told, labels
        self._series: dict[Labels, int] = {}
        registry.register(self)

    def add(self, labels: Labels, number: int = 1) -> None:
        """Count so many."""
        self._series[labels] = self._series.get(labels, 0) + number

    def describe(self) -> Iterable[Metric]:
        """See `Collector`."""
        return [CounterMetricFamily(self._name, self._told, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for labels, number in tuple(self._series.items()):
            family.add_metric([str(label) for label in labels], number)
        return [family]
