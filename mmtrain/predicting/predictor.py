"""What any model is to the rest: pixels in, found objects out. PyTorch and exported packages are two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmtrain.predicting.flow import chunks
from mmtrain.predicting.found import Bgr, Box, Classes, Found, Painted, Seen
from mmtrain.predicting.options import Options, chosen
from mmtrain.predicting.pixels import Pending
from mmtrain.predicting.tiles import View, cores, into_picture, merged, views
from trainer_sdk.tasks import Task

MERGE_IOU = 0.5
"""Of objects seen in several views, where CONFIG says no `iou`."""


class Sight(NamedTuple):
    """What one input of the model showed, in pixels of the view it was made of."""

    objects: Sequence[Found] = ()
    probabilities: NDArray[np.float32] | None = None
    """(classes, H, W), of a semantic model that is asked for them."""
    painted: Painted | None = None


class Predictor(Protocol):
    """A model that is ready."""

    task: Task
    classes: Classes
    flip_pairs: Sequence[tuple[int, int]]
    flips_itself: bool
    """Of its own it looks at mirrored inputs too where `flip` asks for it."""

    def prepare(self, picture: Bgr, boxes_xyxy: Sequence[Box]) -> list[Any]:
        """The model's inputs for a picture: one, or one for each box of a top-down pose model. In any thread."""
        ...

    def infer(self, inputs: Sequence[Any]) -> list[Sight]:
        """What the model sees in each; inputs of equal shape together."""
        ...


class Ready(NamedTuple):
    """A picture whose views are ready for the model."""

    pending: Pending
    picture: Bgr | None
    views: Sequence[tuple[View, Sequence[Any]]]
    error: str = ""


class Looker:
    """Looks at pictures: decoded in threads by `ready`, inferred by `see` in batches."""

    def __init__(self, predictor: Predictor, options: Options) -> None:
        self._predictor, self._options = predictor, options

    def ready(self, pending: Pending, picture: Bgr) -> Ready:
        """Every view of a picture as inputs."""
        height, width = picture.shape[:2]
        options = self._options
        flip = options.flip and not self._predictor.flips_itself
        wanted = views(width, height, tile=options.tiles, overlap=options.tile_overlap, flip=flip)
        boxes = pending.item.boxes_xyxy
        prepared = [
            (view, self._predictor.prepare(view.of(picture), [_into_view(box, view) for box in boxes]))
            for view in wanted
        ]
        return Ready(pending, picture, prepared)

    def see(self, batch: Sequence[Ready]) -> Iterator[Seen]:
        """What is in them; the time is shared among them."""
        inputs = [one for ready in batch for _, prepared in ready.views for one in prepared]
        started = perf_counter()
        sights = iter([sight for part in chunks(inputs, self._options.batch) for sight in self._predictor.infer(part)])
        each_ms = 1000 * (perf_counter() - started) / max(1, sum(not ready.error for ready in batch))
        for ready in batch:
            seen_views = [(view, [next(sights) for _ in prepared]) for view, prepared in ready.views]
            yield self._seen(ready, seen_views, each_ms)

    def _seen(self, ready: Ready, seen_views: list[tuple[View, list[Sight]]], each_ms: float) -> Seen:
        item = ready.pending.item
        if ready.picture is None:
            return Seen(item, error=ready.error)
        height, width = ready.picture.shape[:2]
        painted = None
        objects: list[Found] = []
        if self._predictor.task is Task.SEMANTIC:
            painted = self._painted(seen_views, width, height)
        else:
            objects = chosen(self._objects(seen_views, width, height), self._options)
        return Seen(item, width, height, objects, painted, each_ms, picture=ready.picture)

    def _objects(self, seen_views: list[tuple[View, list[Sight]]], width: int, height: int) -> list[Found]:
        pairs = self._predictor.flip_pairs
        placed = [
            (view, into_picture(found, view, width, height, pairs))
            for view, sights in seen_views
            for sight in sights
            for found in sight.objects
        ]
        if len(seen_views) == 1:
            return [found for _, found in placed]
        return merged(placed, self._options.iou or MERGE_IOU, width, height)

    def _painted(self, seen_views: list[tuple[View, list[Sight]]], width: int, height: int) -> Painted:
        """Of one view as it is; mirror images are averaged, and tiles are put together of their cores."""
        if len(seen_views) == 1:
            whole = seen_views[0][1][0]
            return whole.painted or _most_probable(_probabilities(whole))
        sums: dict[View, NDArray[np.float32]] = {}
        for view, (sight,) in seen_views:
            values = _probabilities(sight)
            plain = view._replace(flipped=False)
            sums[plain] = sums.get(plain, np.float32(0)) + (values[..., ::-1] if view.flipped else values)
        classes = next(iter(sums.values())).shape[0]
        canvas = np.zeros((classes, height, width), dtype=np.float32)
        for view, (left, top, right, bottom) in zip(sums, cores(list(sums)), strict=True):
            part = sums[view][:, int(top) - view.y : int(bottom) - view.y, int(left) - view.x : int(right) - view.x]
            canvas[:, int(top) : int(bottom), int(left) : int(right)] = part / part.sum(axis=0, keepdims=True)
        return _most_probable(canvas)


def _probabilities(sight: Sight) -> NDArray[np.float32]:
    assert sight.probabilities is not None  # asked for wherever there are several views
    return sight.probabilities


def _most_probable(probabilities: NDArray[np.float32]) -> Painted:
    """(classes, H, W) -> the class of every pixel and how sure it is on average."""
    indices = probabilities.argmax(axis=0).astype(np.uint8)
    surest = probabilities.max(axis=0)
    return Painted(indices, {int(k): float(surest[indices == k].mean()) for k in np.unique(indices)})


def _into_view(box: Box, view: View) -> Box:
    left, top, right, bottom = (box[0] - view.x, box[1] - view.y, box[2] - view.x, box[3] - view.y)
    return (view.width - right, top, view.width - left, bottom) if view.flipped else (left, top, right, bottom)
