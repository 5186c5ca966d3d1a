"""When two runs of one model saw the same."""

from __future__ import annotations

import numpy as np
import pytest

from mmtrain.predicting.agreement import agreement
from mmtrain.predicting.found import Found, Item, Painted, Seen

ITEM = Item(1, "a.png", "a.png", "a.png")
ONE, TWO = Found(0, 0.9, (0.0, 0.0, 10.0, 10.0)), Found(1, 0.6, (20.0, 20.0, 40.0, 40.0))


def seen(*objects: Found) -> list[Seen]:
    return [Seen(ITEM, 50, 50, objects)]


@pytest.mark.parametrize(
    ("other", "share"),
    [
        ((ONE, TWO), 1.0),
        ((ONE, TWO._replace(score=0.57, box_xyxy=(20.1, 20.0, 40.0, 40.1))), 1.0),
        ((ONE,), 0.5),
        ((ONE, TWO._replace(label=0)), 0.5),
        ((ONE, TWO._replace(score=0.5)), 0.5),
        ((ONE, TWO._replace(box_xyxy=(20.0, 20.0, 40.0, 37.0))), 0.5),
        ((ONE, TWO, Found(0, 0.8, (5.0, 30.0, 9.0, 44.0))), 2 / 3),
        ((), 0.0),
    ],
)
def test_objects_are_the_same_by_class_score_and_place(other: tuple[Found, ...], share: float) -> None:
    assert agreement(seen(ONE, TWO), seen(*other), 0.25) == pytest.approx(share)


def test_what_is_near_the_least_score_may_be_on_either_side() -> None:
    assert agreement(seen(ONE, TWO._replace(score=0.27)), seen(ONE), 0.25) == 1.0


def test_nothing_is_no_agreement() -> None:
    assert agreement(seen(), seen(), 0.25) is None


def test_class_maps_agree_by_pixels() -> None:
    one, other = (Painted(np.zeros((4, 4), np.uint8), {}) for _ in range(2))
    other.indices[0, 0] = 1
    assert agreement([Seen(ITEM, painted=one)], [Seen(ITEM, painted=other)], 0.25) == 15 / 16
