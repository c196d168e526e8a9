#!/usr/bin/env bash
# All checks: lint, types, tests. Arguments go to pytest (for example: scripts/test.sh tests/store, or -m "not slow").
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prepare_environment test
.venv/bin/ruff check .
.venv/bin/mypy
# One worker per core with one thread each. A file's tests run in one worker, because they share fixtures, and files
# keep the order of tests/conftest.py.
# Without byte code, every worker and every process that a test starts would compile all files again.
unset PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
