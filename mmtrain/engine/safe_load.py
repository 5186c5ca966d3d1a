"""Loads checkpoints of others without running anything in them.

`torch.load(weights_only=True)` builds tensors and plain values and refuses every other type. MMEngine's checkpoints
hold a few more: its log (`HistoryBuffer`) and numpy's arrays and numbers. MMEngine allows these for itself together
with `getattr`, with which a file can reach nearly everything, and unpickles whatever is still refused. Here, a stand-in
takes the place of each such type: it builds the value from numbers that it has looked at, and does nothing else.
"""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer

from mmtrain.checkpoint_file import check_checkpoint_file
from trainer_sdk.errors import CheckpointError

STATISTICS = ("min", "max", "current", "mean")
"""The methods of HistoryBuffer that it pickles with itself, each as a call of `getattr`."""
NUMBERS = re.compile(r"[biufc]\d{1,2}")
"""Numpy's codes of booleans, integers and floating point numbers."""
ByteOrder = Literal["<", ">", "|", "="]
PLAIN_DTYPES: dict[Any, ByteOrder] = {(3, order, None, None, None, -1, -1, 0): order for order in get_args(ByteOrder)}
"""The pickled state of such a type. Any other could describe memory as pointers to objects."""
HINT = (
    "use a checkpoint that this trainer or the model's MM package wrote; of a file that you trust, load it yourself "
    "and save its state_dict alone: torch.save({'state_dict': ...}, path)"
)


def load_checkpoint_safely(path: Path, name: str = "") -> dict[str, Any]:
    """Everything in a checkpoint of ours, of upstream, or of somebody who means harm.

    Args:
        name: what to call it in the message; by default its path.

    Raises:
        CheckpointError: it is no checkpoint, is damaged, or holds objects that only running its code could build.
    """
    check_checkpoint_file(path, name)
    try:
        with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats, other protocols: either they load or they do not
            found = _with_plain_arrays(torch.load(path, map_location="cpu", weights_only=True))
    except MemoryError:
        raise
    except Exception as error:  # a made up file can end the unpickler with any exception there is
        raise CheckpointError(f"the checkpoint {name or path} {_reason(path, error)}", hint=HINT) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"the checkpoint {name or path} holds a {type(found).__name__}, not a dict", hint=HINT)
    return found


def let_mmengine_load_safely() -> None:
    """Makes MMEngine's own loading (`load_from`, `resume`) ours, in this process."""
    from mmengine.runner import checkpoint

    def load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_checkpoint_safely(Path(file))  # onto the CPU: load_state_dict copies to where the model is

    checkpoint._safe_torch_load = load


def _reason(path: Path, error: Exception) -> str:
    refused = _types_refused(path, error)
    if refused:
        return f"holds objects that are no weights and are not built, for safety: {', '.join(refused)}"
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return f"is damaged: {type(error).__name__}: {said[:200]}"


def _types_refused(path: Path, error: Exception) -> list[str]:
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - not of today's format, or damaged
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    return sorted(set(names))


class _DType:
    """Stands in for numpy.dtype: a number's type, by its code."""

    def __init__(self, code: str, *_: Any) -> None:
        if not NUMBERS.fullmatch(code):
            raise ValueError(f"an array of {code!r} is not one of numbers")
        self.found = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state not in PLAIN_DTYPES:
            raise ValueError("a numpy type of a strange layout")
        self.found = self.found.newbyteorder(PLAIN_DTYPES[state])


class _Array(np.ndarray[Any, Any]):
    """Stands in for numpy.ndarray while it is built."""

    def __new__(cls, *_: Any) -> _Array:
        raise ValueError("an array by other means than its pickle's")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, fortran, data = state
        if not (isinstance(dtype, _DType) and isinstance(data, bytes)):
            raise ValueError("an array of something else than numbers")
        super().__setstate__((version, shape, dtype.found, np.bool(fortran), data))


def _new_array(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    return np.empty(0).view(_Array)


def _scalar(dtype: _DType, data: bytes) -> Any:
    return np.frombuffer(data, dtype.found, count=1)[0]


class _History(HistoryBuffer):  # type: ignore[misc]
    """Stands in for MMEngine's log of one number: its values and nothing that would replace its methods."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            np.asarray(state["_log_history"]), np.asarray(state["_count_history"]), int(state["max_length"])
        )
        self.__class__ = HistoryBuffer  # what is saved from it names MMEngine's type


def _statistic(owner: Any, name: str) -> Any:
    """Stands in for getattr."""
    if owner is not _History or name not in STATISTICS:
        raise ValueError(f"getattr({owner!r}, {name!r})")
    return getattr(HistoryBuffer, name)


ALLOWED: tuple[tuple[Any, str], ...] = (
    (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_statistic, "builtins.getattr"),
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    *((_new_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    (argparse.Namespace, "argparse.Namespace"),  # the options of a script, in DETR's and others' own checkpoints
)
"""Who is called for each name that a file may use beside torch's own."""


def _with_plain_arrays(value: Any, done: dict[int, tuple[Any, Any]] | None = None) -> Any:
    """Each object once, however often it is in there: of lists in lists in lists a small file can make any number.

    Args:
        done: id of an object -> it and what it became; it is kept, or another could get its id.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)][1]
    found = value
    if type(value) is _Array:
        found = np.array(value)
    elif isinstance(value, dict) and not any(isinstance(item, torch.Tensor) for item in value.values()):
        done[id(value)] = value, value
        for key, item in value.items():
            value[key] = _with_plain_arrays(item, done)
    elif type(value) in (list, tuple):
        found = type(value)(_with_plain_arrays(item, done) for item in value)
    else:
        return value
    done[id(value)] = value, found
    return found
