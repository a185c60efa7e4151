"""Autocomplete on this device: the likeliest ways a text goes on, until the end of the sentence.

    make .cache/models/minimind2-small/model.onnx    # 28 MB; writes Chinese better than English
    python examples/autocomplete.py --model .cache/models/minimind2-small/model.onnx \
        --task examples/minimind.task.yaml --before '<|im_start|>' '机器学习是'
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.request import Prompt, Sampling
from edge_runtime.contract.result import Generation
from edge_runtime.local_model import find_bundle, open_any_model, this_device
from edge_runtime.predict import GenerationPredictor
from edge_runtime.settings import load_task

SENTENCE_ENDS = (".", "!", "?", "\n", "。", "！", "？")


def complete(predictor: GenerationPredictor, text: str, count: int, max_tokens: int) -> Iterator[Generation]:
    """Give different continuations, the model's own favourite first, the others by a warm draw."""
    seen: set[str] = set()
    for seed in range(4 * count):
        sampling = Sampling(
            max_tokens=max_tokens,
            temperature=0.0 if seed == 0 else 0.8,
            top_p=0.9,
            seed=seed,
            stop=SENTENCE_ENDS,
        )
        found = predictor.predict(Prompt(text=text, sampling=sampling))
        if found.text.strip() and found.text not in seen:
            seen.add(found.text)
            yield found
        if len(seen) == count:
            return


def main(arguments: list[str] | None = None) -> int:
    """Print continuations, one a line, each with how sure the model was of its tokens."""
    parser = argparse.ArgumentParser(description="Complete a text with a model on this device.")
    parser.add_argument("text", help="the beginning")
    parser.add_argument("--model", required=True, help="a bundle, or a decoder's file with --task")
    parser.add_argument("--task", type=Path, help="the task of a bare file")
    parser.add_argument("--before", default="", help="what the model wants before every text")
    parser.add_argument("--count", type=int, default=3, help="continuations")
    parser.add_argument("--max-tokens", type=int, default=16, help="of each")
    asked = parser.parse_args(arguments)
    try:
        task = load_task(asked.task) if asked.task else None
        model = open_any_model(find_bundle(asked.model, task), this_device("auto"))
        with closing(model.predictor) as predictor:
            if not isinstance(predictor, GenerationPredictor):
                parser.error(f"{asked.model} generates no text: it is a model of kind {model.spec.kind}")
            for found in complete(predictor, asked.before + asked.text, asked.count, asked.max_tokens):
                print(f"{found.probability:.2f}  {asked.text}{found.text}", flush=True)
    except EdgeRuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
