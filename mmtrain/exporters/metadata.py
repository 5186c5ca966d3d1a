"""`metadata.json`: what the platform's three readers look for (contract 7.2), all of it, and what our runtime needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

Dict = dict[str, Any]


class About(BaseModel):
    """What is known of the model beside its numbers."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    task: str
    framework: str
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    """Of the data set that it was trained on."""
    keypoint_names: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    """Pairs of points, counted from 1."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Pairs of points that a mirror exchanges, counted from 0."""
    licence: str = ""
    trained_on: Mapping[str, Any] = {}


def metadata(
    about: About,
    *,
    export_format: str,
    model_file: str,
    shape: Sequence[int | str],
    input_name: str,
    picture_input: str | None,
    pre: Mapping[str, Any],
    post: Mapping[str, Any],
    outputs: Sequence[Mapping[str, Any]],
    export_config: Mapping[str, Any],
    precision: str,
    opset: int | None,
) -> Dict:
    """The whole document.

    Args:
        shape: of the input, NCHW; names stand for what may vary.
        outputs: name, layout and shape of each.
    """
    height, width = pre["size_wh"][1], pre["size_wh"][0]
    numbers = [
        side if isinstance(side, int) else default for side, default in zip(shape, (1, 3, height, width), strict=True)
    ]
    return {
        "format": "openmmlab-trainer-export/1",
        "framework": about.framework,
        "model_name": about.model_name,
        "export_format": export_format,
        "model_file": model_file,
        "precision": precision,
        "opset_version": opset,
        "task_type": about.task,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "input_shape": numbers,
        "input_dtype": "float32",
        "output_shape": [list(output.get("shape", ())) for output in outputs],
        "class_names": list(about.class_names),
        "class_ids": list(about.class_ids),
        "num_classes": len(about.class_names),
        "keypoint_names": list(about.keypoint_names),
        "skeleton": [list(pair) for pair in about.skeleton],
        "flip_pairs": [list(pair) for pair in about.flip_pairs],
        "input_spec": {"name": input_name, "shape": list(shape), "dtype": "float32", "layout": "NCHW"},
        "output_spec": [dict(output) for output in outputs],
        **({"picture_input": picture_input} if picture_input else {}),
        "model_info": {
            "name": about.model_name, "task_type": about.task, "class_names": list(about.class_names),
            "num_classes": len(about.class_names), "framework": about.framework,
        },
        "preprocessing": dict(pre),
        "postprocessing": dict(post),
        "export_config": dict(export_config),
        "export_info": {"trained_on": dict(about.trained_on), "licence": about.licence},
    }  # fmt: skip
