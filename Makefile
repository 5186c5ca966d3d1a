# The words CI uses too. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3.11
TORCH ?= locked
VENV := .venv/bin
SEED ?= 1
SERVICE ?= pypi
PARALLEL ?= --numprocesses logical --maxprocesses 4
CEPH_UP ?= ../shared/tools/ceph_rgw_up.sh
DATA ?= ../shared/data/training-datasets/datasets/ds_bccd

.PHONY: help setup lock demo shapes test matrix exports exports-test exports-short faults faults-short faults-ceph check format real real-models bench bench-convert bench-train bench-events bench-predict bench-s3 bench-stream describe fuzz audit image clean

help:            ## this list
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup:           ## the virtual environment .venv, from the lock (TORCH=cpu: the torch build that pip finds here)
	@$(PYTHON) scripts/setup_environment.py --torch $(TORCH)

lock: setup      ## rewrites requirements*.lock from pyproject.toml
	scripts/lock.sh

demo: setup      ## draws a small data set and trains on it: no server, no network, no credentials
	@$(VENV)/python scripts/demo.py

shapes: setup    ## trains on drawn shapes, from scratch on the CPU, until a score is reached (TASK=..., else every task)
	$(VENV)/python scripts/shapes.py $(if $(TASK),--task $(TASK))

test: setup      ## the whole suite
	$(VENV)/python -m pytest $(PARALLEL) --dist loadfile --no-loadscope-reorder

matrix: setup    ## every recipe on tiny drawn data: builds, trains, learns, saves, loads, predicts
	$(VENV)/python -m pytest $(PARALLEL) tests/matrix

exports: setup   ## every recipe to every format it declares, each compared with PyTorch; the table: workspace/exports/table.md
	$(VENV)/python -m pytest tests/exports/test_matrix.py

faults: setup    ## everything that can go wrong, done to jobs; writes docs/faults.md (FILES="test_x.py ...")
	$(VENV)/python scripts/faults.py $(FILES) -- $(PARALLEL) --dist loadfile

faults-ceph: setup ## its part with a real Ceph gateway (CEPH_UP=script that starts one; needs ceph-mon, ceph-osd, radosgw)
	scripts/with_ceph.sh $(CEPH_UP) $(VENV)/python scripts/faults.py test_ceph.py

exports-test: setup ## models predicted with, exported and evaluated: whole jobs on tiny drawn data
	$(VENV)/python -m pytest $(PARALLEL) --dist loadfile tests/exports

exports-short: setup ## the certificate, one whole export, its package without torch, one model a kind; about 4 minutes on 2 cores
	$(VENV)/python -m pytest $(PARALLEL) --dist loadfile -m short tests/exports

faults-short: setup ## the quick ones of them, under 5 minutes on 2 cores; writes nothing
	$(VENV)/python scripts/faults.py --short -- $(PARALLEL) --dist loadfile

check: setup     ## formatter, linter, types, import rules, Dockerfile
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-cache
	$(VENV)/python scripts/describe.py --check
	$(VENV)/hadolint Dockerfile

format: setup    ## formats and repairs what can be
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

describe: setup  ## rewrites docs/environment.md, docs/findings.md, capabilities.json and schemas/ from the code
	$(VENV)/python scripts/describe.py

real: setup      ## trains on real data, locally and over S3 and HTTP, beside a plain MMDetection run (DATA=folder)
	$(VENV)/python scripts/real.py --data $(DATA)

real-models: setup ## YOLOX-tiny and Faster R-CNN from scratch on real data, much longer; goes on where it was stopped (DATA=folder)
	$(VENV)/python scripts/real_models.py --data $(DATA)

fuzz: setup      ## 10,000 damaged annotation files through the converters (SEED=1, DATA=folder)
	$(VENV)/python scripts/fuzz.py --seed $(SEED) $(if $(wildcard $(DATA)),--data $(DATA))

bench: bench-convert bench-train ## both of these; the other two need a storage

bench-convert: setup ## the converters beside datumaro and json, and how their cost grows
	$(VENV)/python scripts/bench_convert.py

bench-train: setup ## a job's training loop beside plain MMDetection, MMSegmentation, MMPose (MODELS="rtmdet-tiny ...", ROUNDS=10)
	$(VENV)/python scripts/bench_train.py $(if $(MODELS),--models $(MODELS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-events: setup ## what telling the backend costs a training, while it is healthy, slow, answers 500, hangs, is dead (ROUNDS=6)
	$(VENV)/python scripts/bench_events.py $(if $(ROUNDS),--rounds $(ROUNDS))

bench-predict: setup ## predicting beside MMDetection's DetInferencer: PyTorch, ONNX Runtime, OpenVINO; RTMDet-s at 640 px (ROUNDS=5)
	$(VENV)/python scripts/bench_predict.py $(if $(ROUNDS),--rounds $(ROUNDS))

bench-s3: setup  ## fetching beside obstore, s5cmd, aiobotocore, boto3: EXTERNAL_STORAGE_{ENDPOINT,ACCESS_KEY,SECRET_KEY}
	$(VENV)/python scripts/bench_s3.py

bench-stream: setup ## an epoch from the disk beside the same epoch from the storage of EXTERNAL_STORAGE_* (DATA=folder)
	$(VENV)/python scripts/bench_stream.py --data $(DATA)

audit:           ## known vulnerabilities of the locked packages (SERVICE=osv; needs the network)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --upgrade pip-audit
	.venv-audit/bin/pip-audit --strict --disable-pip --vulnerability-service $(SERVICE) -r requirements.lock

image:           ## the container image (BASE_IMAGE=...: see Dockerfile)
	docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) -t openmmlab-trainer .

clean:           ## removes what the targets made here, not the user's cache
	rm -rf .venv .venv-bench .venv-audit workspace .mypy_cache .ruff_cache .pytest_cache .hypothesis
