"""The work of `edge-runtime score` through Ray Data: actors that hold the model, rows back to who asked.

Places, restarts and stops no worker itself: Ray does. The rows come to the process that was started, which
keeps the ledger and writes the parts as ever; so a job that is killed goes on, on Ray or without it.
"""

import logging
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from cloud_fallback.scoring.units import Unit, items_of, units_of
from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import ConfigError, EngineError
from edge_runtime.scoring.columns import LAST, Cells, Columns
from edge_runtime.scoring.files import from_arrow, to_arrow
from edge_runtime.scoring.local import answer_items, batches
from edge_runtime.scoring.model import Asked, Scorer
from edge_runtime.scoring.work import SHARE, Work

_UNITS_AT_ONCE = 512
"""Units that Ray is given at once, so that a folder of millions is never listed in memory."""
_BLOCK_BYTES = 2**20
"""Rows come back in blocks of about this size: what is on its way when somebody kills the job is lost."""
_UNIT = "unit"
_UNITS_AS_JSON: TypeAdapter[Unit] = TypeAdapter(Unit)


class Actor:
    """Holds the model in a process of Ray's, and answers units.

    Args:
        asked: The model.
        identity: What the rows must be made with.
        column: Of tables.
        fps: Of recordings.
        decoding: Of recordings.

    Raises:
        EngineError: This machine would run another variant or engine.
    """

    def __init__(
        self,
        asked: Asked,
        identity: Mapping[str, str],
        column: str | None,
        fps: float | None,
        decoding: Decoding,
    ) -> None:
        self._scorer = Scorer(asked)
        if self._scorer.identity != identity:
            facts = self._scorer.facts
            raise EngineError(
                "a worker",
                expected=f"{identity['variant']} on {identity['engine']}",
                got=f"{facts['variant']} on {facts['engine']}",
                do="Say which engine all workers shall use: --on ray --engine …",
            )
        self._column, self._fps, self._decoding = column, fps, decoding
        self._columns = carried(self._scorer.columns)

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Any]:
        """Answer units.

        Args:
            batch: As Ray gives it.

        Returns:
            Arrow tables of rows.
        """
        for written in batch[_UNIT]:
            unit = _UNITS_AS_JSON.validate_json(written)
            items = items_of(unit, column=self._column, fps=self._fps, decoding=self._decoding)
            for some in batches(items, self._scorer.batch):
                yield to_arrow(answer_items(self._scorer, some), self._columns)


def carried(columns: Columns) -> Columns:
    """Give the columns of rows on their way: those that are written, and those that are only told."""
    return {**columns, LAST: "bool", SHARE: "float32"}


def ray_rows(work: Work) -> Generator[list[Cells]]:
    """Answer everything on Ray; see `edge_runtime.scoring.work.Way`.

    Joins the cluster that RAY_ADDRESS names or that runs on this machine; otherwise this machine is one.
    """
    ray, data = _ray("ray"), _ray("ray.data")
    ours = not ray.is_initialized()
    if ours:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    try:
        actors = work.asked.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        for units in batches(units_of(work), _UNITS_AT_ONCE):
            yield from _answered(data, work, units, min(actors, len(units)))
    except ray.exceptions.RayError as error:
        raise EngineError("the work on Ray", got=_reason(error), do="See Ray's own logs") from error
    finally:
        if ours:
            ray.shutdown()


def _answered(data: Any, work: Work, units: list[Unit], actors: int) -> Iterator[list[Cells]]:
    asked = replace(work.asked, workers=1)
    scorer = work.scorer
    written = [{_UNIT: _UNITS_AS_JSON.dump_json(unit)} for unit in units]
    waiting = data.from_items(written, override_num_blocks=len(units))
    waiting.context.enable_progress_bars = False
    waiting.context.target_max_block_size = _BLOCK_BYTES
    # The rows of a recording belong together in their order, and the ledger notes them so.
    waiting.context.execution_options.preserve_order = True
    answered = waiting.map_batches(
        Actor,
        fn_constructor_args=(asked, scorer.identity, work.column, work.fps, work.decoding),
        compute=data.ActorPoolStrategy(size=actors),
        batch_size=1,
        batch_format="numpy",
        num_cpus=1,
    )
    for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
        if table.num_rows:
            yield from_arrow(table)


def _ray(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            "Ray Data is not installed",
            got=str(error),
            do="Install it: pip install 'edge-runtime[ray,tables]'",
        ) from error


def _reason(error: Exception) -> str:
    """Find what a worker raised in the traceback that Ray makes of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(EngineError.__module__)]
    return (ours or lines or [type(error).__name__])[-1]
