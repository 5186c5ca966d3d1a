#!/usr/bin/env bash
# Rewrites both lock files from pyproject.toml. Hashes, no addresses: any mirror of the registry can serve them.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --quiet "$@"; }
compile --output-file requirements.lock
compile --group dev --group build --constraint requirements.lock --output-file requirements-dev.lock
