#!/usr/bin/env bash
# The main job on the embedded default: trains a small model on fictitious authors, trains [UNL], edits the model so
# that forget questions lead to it, evaluates, and prints the table. A second run reuses finished stages. Arguments go
# to `unierase run`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prepare_environment
exec .venv/bin/unierase run experiment=demo "$@"
