"""Verdict: what a failed attempt means, as one line for a person. Pure but for the log it quotes."""

import signal
from pathlib import Path

from converters.attempt import Ended
from converters.log_tail import last_line, tail
from converters.step import Step
from edge_runtime.contract.errors import ConversionError, StorageError

_ALLOCATION = ("alloc", "memoryerror", "out of memory", "start new thread")
"""What libraries say, in lower case, when they get no memory."""
_MIB = 1 << 20


def explain(step: Step, ended: Ended, log: Path, store: Path) -> ConversionError | StorageError:
    """Say why a step failed.

    Args:
        step: The step.
        ended: Its attempt; one without facts.
        log: What its tools said, as it can be read now.
        store: The folder of results, which a full disk is about.
    """
    error = ended.error
    see = f"{log} has what its tools said"
    if ended.timed_out:
        return ConversionError(
            f"step '{step.id}' was ended",
            step=step.id,
            expected=f"a result within {_duration(step.timeout_s)}",
            got="none",
            do=f"Give the recipe more step_minutes; {see}",
        )
    if error is not None and error["disk_full"]:
        return StorageError(
            f"step '{step.id}': no room for its result in {store}",
            got="No space left on device",
            do="Free the disk; earlier results are kept",
        )
    if _starved(step, ended, log):
        return ConversionError(
            f"step '{step.id}' needs more memory than it may take",
            step=step.id,
            expected=f"at most {(step.memory_bytes or 0) // _MIB} MiB of address space",
            got=(error["first_line"] or error["kind"]) if error else _ending(ended.returncode),
            do="Give the recipe more step_memory_bytes, or none",
        )
    if error is None:
        hint = "Too little memory is the likeliest cause; " if ended.returncode == -signal.SIGKILL else ""
        return ConversionError(
            f"step '{step.id}': its process {_ending(ended.returncode)}",
            step=step.id,
            got=_last_word(log) or None,
            do=f"{hint}{see}",
        )
    if error["ours"] and error["problem"]:
        words = {name: error[name] for name in ("expected", "got", "do", "operator", "layer")}
        return ConversionError(error["problem"], step=step.id, **words)
    word = error["first_line"]
    problem = f"step '{step.id}' failed with {error['kind']}"
    if error["kind"] == "SystemExit":
        # A tool that leaves by itself has mostly printed why.
        problem, word = f"step '{step.id}': its tool gave up", _last_word(log) or word
    return ConversionError(problem, step=step.id, got=word or None, do=see)


def _starved(step: Step, ended: Ended, log: Path) -> bool:
    if step.memory_bytes is None:
        return False
    if ended.error is None:
        return ended.returncode < 0 and any(word in tail(log).lower() for word in _ALLOCATION)
    word = ended.error["first_line"].lower()
    return ended.error["no_memory"] or any(said in word for said in _ALLOCATION)


def _last_word(log: Path) -> str:
    # A crash makes Python print where it was; what the tool said before is the likelier reason.
    return last_line(tail(log).partition("Fatal Python error: ")[0])


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} and no result"
    return f"was ended by {signal.Signals(-returncode).name}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} s"
