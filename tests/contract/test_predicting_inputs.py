"""Pictures in a bucket, over real HTTP."""

from __future__ import annotations

from itertools import islice
from typing import Any

from mmtrain.predicting.inputs import Places, entries
from trainer_sdk.settings import Settings

COUNT = 25
"""More than a page has: tests/contract/test_storage.py, of the same listing."""


def test_a_prefix_is_listed_whole_and_in_order(s3: Any) -> None:
    s3.client.create_bucket(Bucket="inference-data")
    for number in range(COUNT):
        s3.client.put_object(Bucket="inference-data", Key=f"inference/u/{number:05d}.jpg", Body=b"")
    s3.client.put_object(Bucket="inference-data", Key="inference/u/notes.txt", Body=b"")
    s3.client.put_object(Bucket="inference-data", Key="inference/u2/x.jpg", Body=b"")
    places = Places(Settings.from_env(s3.environment()))
    found = entries(["s3://inference-data/inference/u"], places)
    assert [entry.path for entry in islice(found, 3)] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert [entry.path for entry in found] == [f"{number:05d}.jpg" for number in range(3, COUNT)]


def test_a_key_that_one_client_cannot_say_does_not_end_the_listing(s3: Any) -> None:
    s3.client.create_bucket(Bucket="inference-data")
    for key in ("a.jpg", "b//c.jpg", "d.jpg"):
        s3.client.put_object(Bucket="inference-data", Key=f"in/{key}", Body=b"x")
    places = Places(Settings.from_env(s3.environment()))
    found = list(entries(["s3://inference-data/in/"], places))
    assert [entry.address for entry in found] == [
        f"s3://inference-data/in/{key}" for key in ("a.jpg", "b//c.jpg", "d.jpg")
    ]
    assert [places.read(entry.address) for entry in found] == [b"x"] * 3
