"""The images that a model does best and worst on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mmtrain.reports.coco_metrics import Truth
from mmtrain.reports.matching import ImageMatch, confused_pairs
from mmtrain.reports.models import ImageScore, Ranking

COUNT = 8


def best_and_worst(measure: str, scores: Iterable[ImageScore | None], count: int = COUNT) -> Ranking:
    """Worst first and best first; no image is in both.

    Of equal scores, those with more mistakes are worse and those with more in them better; then the file's order.

    Args:
        scores: of every image; None where there is nothing to measure.
    """
    known = [score for score in scores if score is not None]
    worst = sorted(known, key=lambda image: (image.score, -image.mistakes))[: min(count, (len(known) + 1) // 2)]
    rest = [image for image in known if image not in worst]
    best = sorted(rest, key=lambda image: (-image.score, -image.objects))[:count]
    return Ranking(measure=measure, worst=worst, best=best)


def image_scores(truth: Truth, matches: Sequence[ImageMatch], score_threshold: float) -> Iterator[ImageScore | None]:
    """F1 of each image at a threshold, in the order of the file; None where there is nothing and nothing was found."""
    for image, match in zip(truth.images, matches, strict=True):
        objects, shown = len(match.truth_class), match.found_score >= score_threshold
        found = int((shown & (match.own_class >= 0)).sum())
        wrong = int(shown.sum()) - found
        if not objects and not wrong:
            yield None
            continue
        f1 = 2 * found / (objects + found + wrong)
        yield ImageScore(
            image_id=image["id"],
            file_name=image["file_name"],
            score=f1,
            objects=objects,
            mistakes=mistakes(match, score_threshold),
            reason=f"F1 {f1:.2f}: {found} of {objects} found, {wrong} wrong",
        )


def mistakes(match: ImageMatch, score_threshold: float) -> int:
    """Objects missed or called by a wrong name, plus predictions on nothing."""
    finder_of, object_of = confused_pairs(match, score_threshold)
    missed_or_misnamed = np.append(match.found_class, -1)[finder_of] != match.truth_class
    on_nothing = (object_of < 0) & (match.found_score >= score_threshold)
    return int(missed_or_misnamed.sum() + on_nothing.sum())
