"""Every environment variable a job reads, for people: docs/environment.md is made from this table."""

from __future__ import annotations

from typing import NamedTuple


class Variable(NamedTuple):
    """One variable."""

    name: str
    meaning: str
    default: str = ""


VARIABLES: tuple[tuple[str, tuple[Variable, ...]], ...] = (
    (
        "The job: `train.py`",
        (
            Variable("JOB_ID", "names the job and its folder; a number when CALLBACK_URL is given", "required"),
            Variable("MODEL_NAME", "a recipe (`python -m mmtrain.recipes`), or `auto`: the data decide", "required"),
            Variable("TASK_TYPE", "`detection`, `object_detection`, `segmentation`, ...: checked against the model"),
            Variable("CONFIG", "JSON object, see below", "{}"),
            Variable(
                "CHECKPOINT_PATH",
                "weights to start from instead of the published ones: a file, `s3://bucket/key` or `https://...`; "
                "heads for another number of classes begin anew",
                "the published weights",
            ),
            Variable("CHECKPOINT_S3_URI", "the same under its other name; `pretrained` means the published weights"),
            Variable("EPOCHS", "same as CONFIG `epochs`"),
            Variable("BATCH_SIZE", "same as CONFIG `batch`"),
            Variable("LEARNING_RATE", "same as CONFIG `lr0`"),
            Variable("IMGSZ", "same as CONFIG `imgsz`"),
            Variable("DEVICE", "same as CONFIG `device`"),
        ),
    ),
    (
        "The job: `predict.py`, `export.py`, `evaluate.py`",
        (
            Variable("INFERENCE_JOB_ID", "of a predict job; its folder is `predict-<id>`", "JOB_ID"),
            Variable("EXPORT_JOB_ID", "of an export job; its folder is `export-<id>`", "JOB_ID"),
            Variable("TEST_RUN_ID", "of an evaluate job; its folder is `evaluate-<id>`", "JOB_ID"),
            Variable(
                "CHECKPOINT_PATH, CHECKPOINT_S3_URI",
                "the model: a file, `s3://bucket/key` or `https://...`; `pretrained` means the published weights of "
                "MODEL_NAME",
                "required",
            ),
            Variable("MODEL_NAME", "of a checkpoint that this trainer did not write", "what the checkpoint says"),
            Variable("TASK_TYPE", "checked against the model", "what the checkpoint says"),
            Variable("TRAINING_JOB_ID", "the training the model came from: exports are put below its id"),
            Variable("CONFIG", "JSON object, see below", "{}"),
            Variable(
                "IMAGES_PATH, IMAGES_S3_URI, IMAGE_PATHS",
                "predict: a folder, a file or `s3://bucket/prefix/`; IMAGE_PATHS may be a JSON list of them",
                "required",
            ),
            Variable("EXPORT_FORMAT", "export: `onnx`, `torchscript`, `openvino` or `tensorrt`", "required"),
            Variable("EXPORT_CONFIG", "export: the same as CONFIG", "{}"),
        ),
    ),
    (
        "The data set (one of the first three): `train.py`, `evaluate.py`, and `export.py` for calibration and proof",
        (
            Variable("DATASET_PATH", "a local DICE folder"),
            Variable(
                "DATASET_LINKS_TO",
                "folders, with ':' between them, into which links of a local data set may lead",
                "none",
            ),
            Variable("DATASET_S3_URI", "`s3://bucket/prefix`, a bare id, `datasets/<id>`, or a local path"),
            Variable("DATASET_ID", "`datasets/<id>/` in the data set bucket"),
            Variable("DATASET_VERSION_HASH", "sha256 the annotations must have"),
            Variable("SNAPSHOT_ID", "the backend's record of the split, read from the checkpoint bucket"),
        ),
    ),
    (
        "The backend",
        (
            Variable("CALLBACK_URL", "API base; a bare host gets `/api/v1`", "none: events.jsonl is the backend"),
            Variable(
                "DELIVERY_TIMEOUT_S",
                "how long undelivered events, the outcome last, are retried after the work is done; within "
                "GRACE_PERIOD_S when the job is stopped",
                "60",
            ),
            Variable(
                "CALLBACK_INTERVAL",
                "seconds: the backend hears of the progress at least this often, also in a long evaluation",
                "30",
            ),
            Variable(
                "CALLBACK_RETRY_DELAY",
                "seconds before a failed call is repeated the first time; the pause doubles up to 15 s, with jitter, "
                "and is never shorter than a Retry-After",
                "0.5",
            ),
            Variable(
                "CALLBACK_MAX_RETRIES",
                "how often one progress event or log row is repeated before it is left out; validations and outcome "
                "are repeated until the time is over",
                "without end; in the last delivery six times, where the answer is 500",
            ),
            Variable("CALLBACK_TOKEN", "sent as `Authorization: Bearer ...`"),
            Variable("CALLBACK_TOKEN_FILE", "a file with the token, read again when the backend answers 401"),
            Variable(
                "CALLBACK_SECRET",
                "signs every call: `X-Signature-256: sha256=` and the HMAC-SHA256 of the body in hexadecimal digits",
            ),
            Variable(
                "CALLBACK_CA_BUNDLE",
                "certificates to trust for https; else REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
            ),
            Variable("HTTPS_PROXY", "proxy to the backend, as HTTP_PROXY and ALL_PROXY; NO_PROXY names exceptions"),
            Variable(
                "STATE_POLL_S",
                "how often the backend is asked whether it still wants the job, apart from the ends of epochs; "
                "0: never. Cancelled or stopped there, the job saves its checkpoint and ends",
                "15",
            ),
        ),
    ),
    (
        "Time, in seconds",
        (
            Variable(
                "GRACE_PERIOD_S",
                "from SIGTERM to the kill, as Kubernetes' `terminationGracePeriodSeconds`: 60 % to save a checkpoint, "
                "80 % to upload it, 90 % to tell the backend; what one leaves belongs to the next",
                "30",
            ),
            Variable(
                "MAX_DURATION_S",
                "when the job ends although it is not done: its checkpoint is kept, and a rerun goes on from there",
                "none",
            ),
            Variable(
                "WATCHDOG_S",
                "how long a worker may show no progress (no iteration, no evaluated image) before its stacks go into "
                "work/worker.log and the job fails; 0: for ever",
                "1800",
            ),
        ),
    ),
    (
        "Storage: S3, or a folder as `file:///folder`",
        (
            Variable("EXTERNAL_STORAGE_ENDPOINT", "where data sets are", "http://localhost:9000"),
            Variable("EXTERNAL_STORAGE_ACCESS_KEY", "its key", "minioadmin"),
            Variable("EXTERNAL_STORAGE_SECRET_KEY", "its secret", "minioadmin"),
            Variable("EXTERNAL_BUCKET_DATASETS", "its bucket", "training-datasets"),
            Variable(
                "INTERNAL_STORAGE_ENDPOINT",
                "where checkpoints and results go, while training too: another machine goes on from there",
                "http://localhost:9002",
            ),
            Variable("INTERNAL_STORAGE_ACCESS_KEY", "its key", "minioadmin"),
            Variable("INTERNAL_STORAGE_SECRET_KEY", "its secret", "minioadmin"),
            Variable(
                "INTERNAL_BUCKET_CHECKPOINTS",
                "its bucket; results stay in the job folder when none of the INTERNAL_* four is set",
                "training-checkpoints",
            ),
            Variable(
                "STORAGE_PATIENCE_S",
                "how long a storage that has answered before is waited for when it is down or answers 5xx",
                "60",
            ),
            Variable("AWS_CA_BUNDLE", "certificates to trust for https; else REQUESTS_CA_BUNDLE or SSL_CERT_FILE"),
        ),
    ),
    (
        "This machine",
        (
            Variable("WORKSPACE_DIR", "parent of the job folders", "./workspace"),
            Variable("DATASET_CACHE_DIR", "downloaded data sets", "~/.cache/openmmlab-trainer/datasets"),
            Variable(
                "DATASET_CACHE_MAX_GB", "what they may take (10^9 bytes); the least recently used go first", "100"
            ),
            Variable("WEIGHTS_DIR", "folder with published weights; what it has is never asked for elsewhere"),
            Variable("WEIGHTS_MIRROR", "folder to ask before upstream's: `https://...` or `s3://bucket/prefix`"),
            Variable("INTERNAL_BUCKET_WEIGHTS", "bucket with published weights, asked after WEIGHTS_MIRROR"),
            Variable("MLFLOW_TRACKING_URI", "an MLflow server that is told the plan and every epoch's numbers"),
            Variable("MLFLOW_EXPERIMENT_NAME", "its experiment", "`openmmlab-trainer`"),
            Variable("XDG_CACHE_HOME", "parent of the caches", "~/.cache"),
            Variable("OPENCV_IO_MAX_IMAGE_PIXELS", "of one picture; a larger one is not opened", "178956970"),
            Variable("CUDA_VISIBLE_DEVICES", "GPUs this job may see; `device` counts among them"),
        ),
    ),
    (
        "Several nodes: one `train.py` on each (docs/several-gpus.md); torchrun's names, and Kubeflow's",
        (
            Variable("PET_NNODES", "number of nodes", "1"),
            Variable("PET_NODE_RANK", "this node's place, from 0; the first alone talks to the backend", "0"),
            Variable("PET_NPROC_PER_NODE", "training processes on each node; `auto`: one for each GPU", "by `device`"),
            Variable("PET_MASTER_ADDR", "where the first node is"),
            Variable("PET_MASTER_PORT", "its port where they meet", "29500"),
            Variable("PET_RDZV_ENDPOINT", "both in one, `host:port`"),
            Variable("PET_RDZV_BACKEND", "`static` or `c10d`: either way they meet at the first node"),
            Variable("WORLD_SIZE", "number of nodes, or of processes where PET_NNODES is given"),
            Variable("RANK", "same as PET_NODE_RANK"),
            Variable("MASTER_ADDR", "same as PET_MASTER_ADDR"),
            Variable("MASTER_PORT", "same as PET_MASTER_PORT"),
            Variable("NODES_TIMEOUT_S", "how long a node waits for another, at the start and in a step", "1800"),
        ),
    ),
)
