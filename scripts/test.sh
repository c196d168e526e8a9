#!/usr/bin/env bash
# All checks: lint, types, tests. Arguments go to pytest (for example: scripts/test.sh tests/store).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prepare_environment test
.venv/bin/ruff check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
