"""Where a request says that things are: data sets, checkpoints, the backend."""

from __future__ import annotations

import pytest

from tests.request_forms import problem, read
from trainer_sdk.errors import ConfigError
from trainer_sdk.request.reading import read_train_spec
from trainer_sdk.settings import Settings, callback_base


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("ds_abc", None, "datasets/ds_abc/"),
        ("datasets/ds_abc", None, "datasets/ds_abc/"),
        ("s3://training-datasets/datasets/ds_abc/", "training-datasets", "datasets/ds_abc/"),
        ("s3://elsewhere/a/b/ds_abc", "elsewhere", "a/b/ds_abc/"),
    ],
)
@pytest.mark.parametrize("dataset_id", ["", "ds_abc"])
def test_data_set_uris(uri: str, bucket: str | None, prefix: str, dataset_id: str) -> None:
    dataset = read(DATASET_S3_URI=uri, DATASET_ID=dataset_id).dataset
    assert (dataset.id, dataset.path, dataset.bucket, dataset.prefix) == ("ds_abc", None, bucket, prefix)


@pytest.mark.parametrize(
    "environ",
    [
        {"DATASET_S3_URI": "/data/ds_abc/"},
        {"DATASET_S3_URI": "file:///data/ds_abc/"},
        {"DATASET_PATH": "/data/ds_abc/"},
    ],
)
def test_local_data_sets(environ: dict[str, str]) -> None:
    dataset = read(**{"DATASET_ID": "", **environ}).dataset
    assert (dataset.id, dataset.path, dataset.bucket) == ("ds_abc", "/data/ds_abc/", None)


@pytest.mark.parametrize("uri", ["s3://bucket-only", "s3://bucket-only/", "s3:///key"])
def test_an_incomplete_uri(uri: str) -> None:
    assert "lacks a bucket or a folder" in problem(DATASET_S3_URI=uri, DATASET_ID="")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://backend:8000", "http://backend:8000/api/v1"),
        ("http://backend:8000/", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1/", "http://backend:8000/api/v1"),
        ("http://backend:8000/api/v1/training", "http://backend:8000/api/v1"),
        ("https://host/prefix/api/v1", "https://host/prefix/api/v1"),
        ("", None),
        ("backend:8000", None),
        ("ftp://backend", None),
        ("http://[::1", None),
        ("http://backend:99999", None),
    ],
)
def test_callback_urls(url: str, base: str | None) -> None:
    assert callback_base(url) == base


@pytest.mark.parametrize("name", ["CHECKPOINT_PATH", "CHECKPOINT_S3_URI"])
@pytest.mark.parametrize(
    "address", ["s3://b/checkpoints/1/best.pt", "https://host/best.pth?s=1", "/data/a@b/best.pth", "best.pt"]
)
def test_a_checkpoint_to_start_from(name: str, address: str) -> None:
    assert read(**{name: address}).checkpoint_path == address


def test_the_platforms_word_for_the_published_weights() -> None:
    assert read(CHECKPOINT_S3_URI="pretrained").checkpoint_path is None
    assert read(CHECKPOINT_PATH=" ").checkpoint_path is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"CHECKPOINT_PATH": "s3://bucket"}, "lacks a bucket or a key"),
        ({"CHECKPOINT_PATH": "ftp://host/best.pth"}, "is neither a file nor"),
        ({"CHECKPOINT_PATH": "a.pth", "CHECKPOINT_S3_URI": "b.pth"}, "'a.pth' and CHECKPOINT_S3_URI='b.pth' differ"),
        ({"CHECKPOINT_PATH": "https://u:s3cret@host/best.pth"}, "holds a user or a password"),
    ],
)
def test_an_address_that_is_none(given: dict[str, str], said: str) -> None:
    message = problem(**given)
    assert said in message
    assert "s3cret" not in message


def test_a_password_in_a_url_is_refused_without_being_repeated() -> None:
    names = ("CALLBACK_URL", "EXTERNAL_STORAGE_ENDPOINT", "INTERNAL_STORAGE_ENDPOINT")
    environ = {"JOB_ID": "1", "MODEL_NAME": "m", "DATASET_ID": "d"} | dict.fromkeys(names, "http://u:s3cret@host:1")
    with pytest.raises(ConfigError) as caught:
        read_train_spec(environ)
    assert all(name in caught.value.message for name in names) and "s3cret" not in caught.value.message
    assert Settings.from_env(environ).callback_url is None
