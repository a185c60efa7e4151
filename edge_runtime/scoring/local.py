"""The work in this process: some threads decode ahead, some run the model, rows come in their order.

Everything between is bounded, so memory does not grow with the work. Writes nothing.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.scoring.columns import Cells
from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.model import Scorer, usual_workers
from edge_runtime.scoring.pictures import Item, read_file, read_recording
from edge_runtime.scoring.plan import marked
from edge_runtime.scoring.tables import Place, Table
from edge_runtime.scoring.work import SHARE, Pending, Work

_T = TypeVar("_T")
_R = TypeVar("_R")

READERS = 2
"""Threads that decode pictures: a JPEG takes a tenth of the time that a detector takes for it."""


def local_rows(work: Work) -> Generator[list[Cells]]:
    """Answer everything in this process; see `Way`."""
    if work.large:
        work.scorer.measure()
    readers = ThreadPoolExecutor(READERS, "score-read")
    try:
        workers = work.asked.workers or usual_workers()
        yield from answered(work.scorer, _loaded(_items(work), readers), workers)
    finally:
        readers.shutdown(wait=True, cancel_futures=True)


def answered(scorer: Scorer, items: Iterator[Item], workers: int) -> Generator[list[Cells]]:
    """Answer what was read, by several threads.

    Args:
        scorer: The model.
        items: Read in the caller's thread, and only a few batches ahead.
        workers: How many threads.

    Returns:
        Rows, in the order of the items.

    Raises:
        EdgeRuntimeError: As `Scorer.answer`.
    """
    callers = ThreadPoolExecutor(workers, "score-model")
    try:
        work = batches(items, scorer.batch)
        yield from in_order(work, lambda some: answer_items(scorer, some), callers, ahead=workers + 2)
    finally:
        callers.shutdown(wait=True, cancel_futures=True)


def answer_items(scorer: Scorer, items: Sequence[Item]) -> list[Cells]:
    """Answer a batch.

    Returns:
        Its rows, with `SHARE`.

    Raises:
        EdgeRuntimeError: As `Scorer.answer`.
    """
    rows = scorer.answer(items)
    for row, item in zip(rows, items, strict=True):
        row[SHARE] = item.progress
    return rows


def in_order(work: Iterable[_T], do: Callable[[_T], _R], pool: Executor, *, ahead: int) -> Iterator[_R]:
    """Do things in a pool and give what comes out in the order of what went in.

    Args:
        work: Read in the caller's thread, and only `ahead` further than what was given.
        do: What is done with each.
        pool: Where.
        ahead: Things that are under way or wait to be taken, at most.
    """
    waiting: deque[Future[_R]] = deque()
    for one in work:
        waiting.append(pool.submit(do, one))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    """Give the items in lists of `size`; the last one may be shorter."""
    while some := list(islice(items, size)):
        yield some


def texts(pending: Pending, column: str | None) -> Iterator[Item]:
    """Read the rows of a table that are not done; a table that cannot be read further ends with an error."""
    source, row = pending.source, pending.left[0].first
    try:
        table = Table(source, column)
        total = table.rows or max(source.size_bytes, 1)
        for text, last in marked(table.texts(Place(row))):
            row = text.row
            if any(row in gap for gap in pending.left):
                yield Item(source, row, text.text, text.error, last, progress=min(text.end / total, 1.0))
            row += 1
    except (ConfigError, InputError) as error:
        yield Item(source, row, None, str(error))


def _items(work: Work) -> Iterator[Item | Source]:
    """Give what is left: frames and texts as they are, pictures as the files that the readers decode."""
    for pending in work.pending():
        match pending.source.kind:
            case Kind.PICTURE:
                yield pending.source
            case Kind.RECORDING:
                yield from read_recording(pending.source, pending.left, work.fps, work.decoding)
            case _:
                yield from texts(pending, work.column)


def _loaded(items: Iterable[Item | Source], readers: Executor) -> Iterator[Item]:
    """Decode pictures ahead; frames and texts, which are there already, keep their place among them."""
    waiting: deque[Item | Future[Item]] = deque()
    for one in items:
        waiting.append(readers.submit(read_file, one) if isinstance(one, Source) else one)
        if len(waiting) > 2 * READERS:
            yield _there(waiting.popleft())
    while waiting:
        yield _there(waiting.popleft())


def _there(item: Item | Future[Item]) -> Item:
    return item if isinstance(item, Item) else item.result()
