"""What a training starts from, as the backend and the report are told."""

from __future__ import annotations

from mmtrain.engine.messages import WeightsLoaded
from mmtrain.jobs.starting import start_in_words


def test_what_fits_is_one_line() -> None:
    news = WeightsLoaded(source="a.pth", loaded=9, total=9, reinitialised=[], missing=[], unexpected=[])
    assert [remark.text for remark in start_in_words(news)] == [
        "starts from a.pth: 9 of the model's 9 tensors are taken"
    ]


def test_what_does_not_is_named_and_only_surprises_are_warnings() -> None:
    heads = [f"head.cls.{level}" for level in range(20)]
    remark = "the classes have other names"
    news = WeightsLoaded(
        source="a.pth",
        loaded=5,
        total=27,
        reinitialised=heads,
        missing=["neck.new"],
        unexpected=["neck.old"],
        class_remark=remark,
    )
    first, anew, missing, unexpected, classes = start_in_words(news)
    assert [first.level, anew.level, missing.level, unexpected.level, classes.level] == ["INFO"] * 2 + ["WARNING"] * 3
    assert "head.cls.0, head.cls.1" in anew.text
    assert anew.text.endswith("and 8 more")
    assert "neck.new" in missing.text
    assert "neck.old" in unexpected.text
    assert classes.text == remark
