"""What kind of mistake each wrong prediction and missed object is, after TIDE (Bolya et al. 2020, arXiv:2008.08115).

A wrong prediction above the score threshold (found nothing by `matching`'s rule 1, not in a crowd region) has one kind,
the first that fits, in the order of TIDE's own code. IoU_own is its best with an object of its class, IoU_other with
one of another class; foreground from 0.5 and background up to 0.1 are TIDE's:

    localisation    0.1 <= IoU_own < 0.5                right class, box or mask too far off
    classification  IoU_other >= 0.5                    right place, wrong class
    duplicate       IoU_own >= 0.5                      the object was found by a prediction with a higher score
    background      IoU_own, IoU_other <= 0.1           nothing there
    both            the rest: 0.1 < IoU_other < 0.5     wrong class and too far off

    missed          an object that no prediction found, and none would find if its place or class were right

We count, at one threshold; TIDE also weighs each kind by the AP that mending it would bring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from mmtrain.reports.matching import MATCH_IOU, ImageMatch
from mmtrain.reports.models import ERROR_KINDS, ErrorKind, ErrorSplit

BACKGROUND_IOU = 0.1


def error_split(matches: Sequence[ImageMatch], class_names: Sequence[str], score_threshold: float) -> ErrorSplit:
    """Counts of each kind; wrong predictions under the class they name, missed objects under their own."""
    counts: Counter[tuple[int, ErrorKind]] = Counter()
    for match in matches:
        counts.update(_errors(match, score_threshold))
    per_class = {name: {kind: counts[k, kind] for kind in ERROR_KINDS} for k, name in enumerate(class_names)}
    return ErrorSplit(
        score_threshold=score_threshold,
        foreground_iou=MATCH_IOU,
        background_iou=BACKGROUND_IOU,
        counts={kind: sum(row[kind] for row in per_class.values()) for kind in ERROR_KINDS},
        per_class=per_class,
    )


def _errors(match: ImageMatch, score_threshold: float) -> Iterator[tuple[int, ErrorKind]]:
    """(class, kind) of every mistake in one image."""
    shown = match.found_score >= score_threshold
    used = np.zeros(len(match.truth_class), dtype=bool)
    used[match.own_class[shown & (match.own_class >= 0)]] = True
    mendable = used.copy()  # found, or would be if one prediction were mended
    for row in np.flatnonzero(shown & (match.own_class < 0)):
        kind, meant = _kind(match, row)
        if meant is not None:
            mendable[meant] = True
        yield int(match.found_class[row]), kind
    for missed in np.flatnonzero(~mendable):
        yield int(match.truth_class[missed]), "missed"


def _kind(match: ImageMatch, row: int) -> tuple[ErrorKind, int | None]:
    """Of one wrong prediction, and the object that it would have found."""
    if not len(match.truth_class):
        return "background", None
    same = match.truth_class == match.found_class[row]
    own, other = np.where(same, match.ious[row], 0.0), np.where(same, 0.0, match.ious[row])
    if BACKGROUND_IOU <= own.max() < MATCH_IOU:
        return "localisation", int(own.argmax())
    if other.max() >= MATCH_IOU:
        return "classification", int(other.argmax())
    if own.max() >= MATCH_IOU:
        return "duplicate", None
    return ("background" if max(own.max(), other.max()) <= BACKGROUND_IOU else "both"), None
