# syntax=docker/dockerfile:1
# One lock on every base. The default base has a CUDA compiler for mmcv's ops; a CPU image builds from any Debian or
# Ubuntu with Python 3.11 or 3.12, for example --build-arg BASE_IMAGE=python:3.11-bookworm
#   --build-arg RUNTIME_IMAGE=python:3.11-slim-bookworm
ARG BASE_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG RUNTIME_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

# ---- wheels: compilers stay in this stage ------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS wheels
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# A GPU is rarely there while an image is built, so the architectures are named: data centre cards since Turing.
ARG TORCH_CUDA_ARCH_LIST="7.5;8.0;8.6;8.9;9.0;10.0;12.0"
ENV TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST} \
    XDG_CACHE_HOME=/tmp/cache \
    DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && if ! command -v python3 > /dev/null; then \
         apt-get install --yes --no-install-recommends python3 python3-dev python3-venv; fi \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/trainer
COPY pyproject.toml requirements.lock requirements-dev.lock ./
COPY scripts scripts
COPY mmtrain/__init__.py mmtrain/compat.py mmtrain/
# The cache keeps downloads and the compiled mmcv for the next build of this machine, outside the image.
RUN --mount=type=cache,target=/tmp/cache \
    python3 scripts/setup_environment.py --venv /opt/trainer/.venv --runtime-only

# ---- runtime ------------------------------------------------------------------------------------------------------
FROM ${RUNTIME_IMAGE} AS runtime
ENV DEBIAN_FRONTEND=noninteractive
# libglib2.0-0: OpenCV, also headless; tini: process 1 that passes signals on and reaps what torchrun leaves behind.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libglib2.0-0 tini \
    && if ! command -v python3 > /dev/null; then apt-get install --yes --no-install-recommends python3; fi \
    && rm -rf /var/lib/apt/lists/* \
    && (getent passwd 1000 > /dev/null || useradd --uid 1000 --create-home --shell /usr/sbin/nologin trainer) \
    && install --directory --owner 1000 --group 1000 /workspace /data
COPY --from=wheels /opt/trainer/.venv /opt/trainer/.venv
WORKDIR /opt/trainer
COPY pyproject.toml LICENSE README.md train.py predict.py export.py evaluate.py ./
COPY configs configs
COPY trainer_sdk trainer_sdk
COPY converters converters
COPY mmtrain mmtrain
ENV PATH=/opt/trainer/.venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WORKSPACE_DIR=/workspace \
    XDG_CACHE_HOME=/workspace/.cache \
    MPLCONFIGDIR=/tmp/matplotlib
USER 1000:1000
VOLUME ["/workspace"]
ENTRYPOINT ["tini", "-g", "--"]
CMD ["python", "train.py", "--log-level", "INFO"]
