"""Series without locks: what is scraped of them is what the library's own metrics would have said."""

from collections.abc import Sequence

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cloud_fallback.serving.series import Counters, Histograms

BOUNDS = (0.0005, 0.5, 1, 256)
VALUES = (0.0, 0.0005, 0.00051, 0.5, 0.7, 1.0, 255.9, 257.0)


def scraped(registry: CollectorRegistry) -> dict[tuple[str, Sequence[tuple[str, str]]], float]:
    page = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_histograms_are_scraped_as_the_librarys_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histograms("spent_seconds", "Time.", ("model", "code"), BOUNDS, ours)
    other = prometheus_client.Histogram(
        "spent_seconds", "Time.", ("model", "code"), buckets=BOUNDS, registry=theirs
    )
    for labels in (("a", 200), ('b\n"c"', 503)):
        for value in VALUES:
            mine.of(labels).observe(value)
            other.labels(*map(str, labels)).observe(value)
    assert scraped(ours) == scraped(theirs)
    assert len(scraped(ours)) == 2 * (len(BOUNDS) + 3)


def test_counters_are_scraped_as_the_librarys_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Counters("rows", "Rows.", ("model",), ours)
    other = prometheus_client.Counter("rows", "Rows.", ("model",), registry=theirs)
    assert scraped(ours) == scraped(theirs) == {}
    for number in (1, 2, 40):
        mine.add(("a",), number)
        other.labels("a").inc(number)
    assert scraped(ours) == scraped(theirs) == {("rows_total", (("model", "a"),)): 43}
