"""Parts of `score`: cells of every kind of answer, what a broken model does, units that travel, progress."""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import TypeAdapter
from rich.console import Console

from cloud_fallback.scoring.ray_data import Actor, carried
from cloud_fallback.scoring.units import ROWS, Unit, items_of, units_of
from edge_runtime.cli.score import showing
from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import ConfigError, EngineError
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.result import Embedding, Entities, Entity, Finish, Generation
from edge_runtime.contract.task import EmbeddingSpec, TaskSpec
from edge_runtime.predict import BATCH_SIZES
from edge_runtime.scoring.columns import LAST, cells_of, columns_for
from edge_runtime.scoring.files import Format, from_arrow, open_writer, to_arrow
from edge_runtime.scoring.inputs import Kind, Source, find, take_stock
from edge_runtime.scoring.job import Job, Stage, run
from edge_runtime.scoring.local import answer_items, in_order, local_rows
from edge_runtime.scoring.model import Asked, Scorer
from edge_runtime.scoring.pictures import Item, read_file
from edge_runtime.scoring.plan import Gap
from edge_runtime.scoring.tables import MOST_BYTES, Table
from edge_runtime.scoring.work import Pending, Work, find_way
from tests.simulators.sentiment import sentiment_bundle
from tests.simulators.text_bundles import table_model, write_words
from tests.simulators.tiny_decoder import write_bundle as write_decoder
from tests.unit.test_task_text import NAMES, TAGS, declared, tags

parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


def source(path: Path, kind: Kind = Kind.PICTURE) -> Source:
    facts = path.stat()
    return Source(path.name, path, kind, facts.st_size, facts.st_mtime_ns)


def text_model(folder: Path, task: TaskSpec) -> Asked:
    folder.mkdir()
    write_words(folder / "tokenizer.json", NAMES)
    onnx.save(table_model(tags(), pooled=False), folder / "model.onnx")
    return Asked(str(folder / "model.onnx"), task, engine="onnxruntime")


def texts_job(folder: Path, asked: Asked, *texts: str, **more: Any) -> Job:
    table = folder / "t.jsonl"
    table.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    return Job(table, asked, folder / "out", **more)


def done(job: Job) -> Any:
    run(job, stop=lambda: False, told=lambda _: None)
    return parquet.read_table(job.folder / "part-000001.parquet")


def test_vectors_are_lists_of_a_fixed_size(tmp_path: Path) -> None:
    asked = text_model(tmp_path / "model", declared("embedding", normalize=False))
    found = done(texts_job(tmp_path, asked, "Ada met", "", "London"))
    assert found.schema.field("vector").type == pa.list_(pa.float32(), len(TAGS))
    first, second, third = found["vector"].to_pylist()
    assert second is None or len(second) == len(TAGS)  # an empty text is two special tokens
    assert first != third
    assert found["tokens"].to_pylist() == [4, 2, 3]


def test_entities(tmp_path: Path) -> None:
    asked = text_model(tmp_path / "model", declared("token-classification", labels=TAGS))
    (row,) = done(texts_job(tmp_path, asked, "Ada Lovelace met London")).to_pylist()
    assert [(one["label"], one["text"], one["start"]) for one in row["entities"]] == [
        ("PER", "Ada Lovelace", 0),
        ("LOC", "London", 17),
    ]


def test_generated_texts(tmp_path: Path) -> None:
    bundle = write_decoder(tmp_path / "model")
    task = TypeAdapter[TaskSpec](TaskSpec).validate_python(bundle.manifest.task.model_dump())
    path = bundle.path(bundle.manifest.variants[0])
    rows = done(texts_job(tmp_path, Asked(str(path), task, engine="onnxruntime"), "a b", "b")).to_pylist()
    assert [row["error"] for row in rows] == [None, None]
    assert all(row["tokens"] > 0 and row["finish"] in {"stop", "length"} for row in rows)


@pytest.mark.parametrize("form", list(Format))
def test_every_kind_of_cell_is_written(form: Format) -> None:
    columns = columns_for(EmbeddingSpec(kind="embedding"), vector=2)
    stream = io.BytesIO()
    writer = open_writer(form, stream, columns)
    answer = cells_of(Embedding(np.array([1, 0.5], np.float32), 3, truncated=False))
    writer.write([{"source": "a", "row": 0, **answer}, {"source": "b", "row": 1, "error": "no\nvector"}])
    writer.close()
    told = stream.getvalue()
    if form is Format.PARQUET:
        rows = parquet.read_table(io.BytesIO(told)).to_pylist()
        assert [row["vector"] for row in rows] == [[1.0, 0.5], None]
    elif form is Format.JSONL:
        assert [json.loads(line)["vector"] for line in told.splitlines()] == [[1.0, 0.5], None]
    else:
        assert b'a,0,"[1.0, 0.5]",3,False,' in told
        assert b'"no\nvector"' in told


def test_rows_survive_the_way_as_arrow() -> None:
    columns = carried(columns_for(EmbeddingSpec(kind="embedding"), vector=2))
    rows = [{"source": "a", "row": 0, "vector": np.array([1, 2], np.float32), LAST: True}, {"source": "b"}]
    back = from_arrow(to_arrow(rows, columns))
    assert back[0]["vector"].tolist() == [1, 2]
    assert back[0][LAST] is True
    assert back[1]["vector"] is None


def test_entities_and_generations_as_cells() -> None:
    found = cells_of(Entities((Entity("PER", 0, 3, "Ada", 0.5),), 3, truncated=True))
    assert found["entities"] == [{"label": "PER", "start": 0, "end": 3, "text": "Ada", "score": 0.5}]
    assert cells_of(Generation("hi", Finish.STOP, 2, 1))["finish"] == "stop"


def test_a_model_of_tensors_has_no_columns() -> None:
    with pytest.raises(ConfigError, match="got a model of tensors"):
        columns_for(declared("tensors"))


def test_a_model_that_fails_at_everything_ends_the_run(tmp_path: Path) -> None:
    """NaN for a word is the word's fault; NaN for every text is the model's."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_words(folder / "tokenizer.json", NAMES)
    table = tags()
    table[4 + NAMES.index("bad")] = np.nan
    onnx.save(table_model(table, pooled=False), folder / "model.onnx")
    asked = Asked(str(folder / "model.onnx"), declared("embedding"), engine="onnxruntime", workers=1)
    rows = done(texts_job(tmp_path, asked, *["bad", "good"] * 20)).to_pylist()
    assert [row["error"] is None for row in rows] == [False, True] * 20
    job = texts_job(tmp_path, asked, *["good"] * 40, *["bad"] * 40, restart=True)
    with pytest.raises(EngineError):
        run(job, stop=lambda: False, told=lambda _: None)
    assert not list(job.folder.glob("part-*"))


def test_pictures_are_answered_together_where_the_model_takes_several(tmp_path: Path) -> None:
    """Mean colours: the same rows whether alone or four at a time, and a broken picture among them."""
    mean = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 3, 8, 8]), ("y", ["batch", 3]))
    ]
    graph = onnx.helper.make_graph([mean], "mean", tensors[:1], tensors[1:])
    opsets = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    task = declared(
        "classification",
        input={"layout": "nchw", "fit": "stretch", "scale": 1 / 255},
        labels=("red", "green", "blue"),
        activation="none",
    )
    scorer = Scorer(Asked(str(tmp_path / "m.onnx"), task, engine="onnxruntime"))
    dice = np.random.default_rng(0)
    place = Source("a", tmp_path, Kind.PICTURE, 0, 0)
    items = [
        Item(place, row, Picture.from_bgr(dice.integers(0, 256, (20, 30, 3), np.uint8))) for row in range(4)
    ]
    items[2] = Item(place, 2, None, "torn")
    torn = Picture(PixelFormat.BGR, (np.zeros((3, 3, 3), np.uint8),), 9, 9)  # its planes are not its size
    alone = [row for item in items for row in scorer.answer([item])]
    scorer.measure()
    assert scorer.batch in BATCH_SIZES
    together = scorer.answer(items)
    with_torn = scorer.answer([*items, Item(place, 4, torn)])
    for row in (*alone, *together, *with_torn):
        del row["ms"]
    assert together == alone == with_torn[:4]
    assert "plane" in with_torn[4]["error"] or "picture" in with_torn[4]["error"]
    scorer.close()


def test_results_come_in_order_and_no_further_ahead_than_wanted() -> None:
    taken, gate = list[int](), Semaphore(0)

    def numbers() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def double(number: int) -> int:
        if number == 0:
            gate.acquire()
        return 2 * number

    with ThreadPoolExecutor(3) as pool:
        results = in_order(numbers(), double, pool, ahead=4)
        pool.submit(gate.release)
        assert next(results) == 0
        assert taken == [0, 1, 2, 3]
        assert list(results) == [2 * number for number in range(1, 20)]


def test_a_line_without_end_is_one_broken_row(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_bytes(b'{"text": "' + b"x" * (2 * MOST_BYTES + 5) + b'"}\n{"text": "good"}\n')
    found = list(Table(source(table, Kind.JSONL), None).texts())
    assert [(one.row, one.text) for one in found] == [(0, None), (1, "good")]
    assert "longer than" in found[0].error


def test_broken_pictures_and_links_to_nowhere_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b"")
    (tmp_path / "round").symlink_to(tmp_path)
    sources = find(tmp_path, texts=False, avoid=tmp_path / "out")
    assert [one.name for one in sources()] == ["a.png", "b.jpg"]
    stock = take_stock(tmp_path, sources, texts=False, avoid=tmp_path / "out")
    assert (stock.sources, stock.others) == (2, 3)
    errors = [read_file(one).error for one in sources()]
    assert "an empty file" in errors[0]
    assert "No such file" in errors[1]


def work_of(folder: Path, pending: list[Pending], scorer: Any = None) -> Work:
    return Work(lambda: iter(pending), scorer, Asked(str(folder / "model"), workers=2))


@pytest.mark.parametrize("kind", [Kind.JSONL, Kind.CSV, Kind.PARQUET])
@pytest.mark.parametrize("left", [(Gap(0, None),), (Gap(3, 700), Gap(900, None)), (Gap(1, 2),)])
def test_units_of_a_table_hold_what_is_left_and_nothing_else(
    tmp_path: Path, kind: Kind, left: tuple[Gap, ...]
) -> None:
    texts = [f"text\n{number}" for number in range(1200)]
    table = tmp_path / f"t.{kind}"
    if kind is Kind.PARQUET:
        parquet.write_table(pa.table({"text": texts}), table, row_group_size=500)
    elif kind is Kind.CSV:
        table.write_text("text\n" + "".join(f'"{text}"\n' for text in texts))
    else:
        table.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))
    wanted = [row for row in range(1200) if any(row in gap for gap in left)]
    units = list(units_of(work_of(tmp_path, [Pending(source(table, kind), left)])))
    adapter = TypeAdapter[Unit](Unit)
    units = [adapter.validate_json(adapter.dump_json(unit)) for unit in units]
    items = [item for unit in units for item in items_of(unit, column=None, fps=None, decoding=Decoding())]
    assert max(unit.rows for unit in units) <= ROWS
    assert [item.row for item in items] == wanted
    assert [item.value for item in items] == [texts[row] for row in wanted]
    assert [item.row for item in items if item.last] == [row for row in wanted if row == 1199]


def test_a_table_that_cannot_be_read_is_one_unit_with_its_reason(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,words\n1,good\n")
    (unit,) = units_of(work_of(tmp_path, [Pending(source(table, Kind.CSV), (Gap(4, None),))]))
    (item,) = items_of(unit, column=None, fps=None, decoding=Decoding())
    assert (item.row, item.value, item.last) == (4, None, True)
    assert "expected one of id, words" in item.error


def test_pictures_travel_together_and_stand_before_the_recording_that_follows(tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(40)]
    files = [Source(name, tmp_path / name, Kind.PICTURE, 0, 0) for name in names]
    clip = Source("clip.mp4", tmp_path / "clip.mp4", Kind.RECORDING, 0, 0)
    pending = [Pending(one, (Gap(0, None),)) for one in (*files, clip, files[0])]
    units = list(units_of(work_of(tmp_path, pending)))
    assert [len(unit.sources) for unit in units] == [32, 8, 1, 1]
    items = list(items_of(units[1], column=None, fps=None, decoding=Decoding()))
    assert [item.source.name for item in items] == names[32:]
    assert all("No such file" in item.error for item in items)


def test_a_bar_is_drawn_on_a_terminal() -> None:
    told = io.StringIO()
    with showing(Console(file=told, width=120, force_terminal=True), lambda: 2.0) as say:
        say(Stage(7, 0, 0.5, "a.png"))
    assert "7 rows" in told.getvalue()
    assert "50%" in told.getvalue()


def test_an_actor_gives_the_rows_that_this_process_gives(tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "model")
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "good"}\nbroken\n{"text": "bad"}\n' * 30)
    pending = [Pending(source(table, Kind.JSONL), (Gap(0, None),))]
    scorer = Scorer(Asked(str(tmp_path / "model")))
    work = work_of(tmp_path, pending, scorer)
    here = [row for some in local_rows(work) for row in some]
    actor = Actor(work.asked, scorer.identity, None, None, Decoding())
    written = [TypeAdapter[Unit](Unit).dump_json(unit) for unit in units_of(work)]
    there = [row for batch in actor({"unit": written}) for row in from_arrow(batch)]
    for row in (*here, *there):
        row["ms"] = None
        for name in [name for name, cell in row.items() if cell is None]:
            del row[name]
    assert [json.dumps(row, sort_keys=True) for row in there] == [
        json.dumps(row, sort_keys=True) for row in map(as_float32, here)
    ]
    with pytest.raises(EngineError, match="expected other on onnxruntime"):
        Actor(work.asked, {**scorer.identity, "variant": "other"}, None, None, Decoding())
    scorer.close()


def as_float32(row: dict[str, Any]) -> dict[str, Any]:
    """Arrow keeps what is said to be float32 as such."""
    return {name: float(np.float32(cell)) if isinstance(cell, float) else cell for name, cell in row.items()}


def test_a_way_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="expected one of local"):
        find_way("moon", local_rows)


def test_where_nothing_can_be_drawn_a_line_comes_now_and_then() -> None:
    clock, told = iter([0.0, 0.0, 6.0, 7.0, 13.0]), io.StringIO()
    now: Callable[[], float] = lambda: next(clock)  # noqa: E731 - a clock in a line
    with showing(Console(file=told, width=200), now) as say:
        for share in (0.1, 0.2, 0.3, 0.6):
            say(Stage(int(100 * share), 0, share, "a"))
    assert told.getvalue().splitlines() == [
        "20%, 20 rows, 3.3/s, 48 s left",
        "60%, 60 rows, 4.6/s, 10 s left",
    ]


def test_items_of_a_broken_file_are_answered_without_the_model(tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "model")
    scorer = Scorer(Asked(str(tmp_path / "model")))
    place = Source("t", tmp_path, Kind.JSONL, 0, 0)
    rows = answer_items(scorer, [Item(place, 0, "good"), Item(place, 1, None, "torn"), Item(place, 2, "bad")])
    assert [row.get("label") for row in rows] == ["positive", None, "negative"]
    assert rows[1]["error"] == "torn"
    assert rows[1]["ms"] is None
    scorer.close()
