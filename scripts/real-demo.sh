#!/usr/bin/env bash
# A pretrained chat model forgets facts of the real world: fetches SmolLM2-135M-Instruct, asks it the shipped questions, makes it
# forget twenty that it knows, evaluates, and prints the table. A second run reuses finished stages. Arguments go to `unierase run`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prepare_environment gguf
file="$(bash scripts/real-model.sh | tail -n 1)"
model=(model=smollm2_135m_instruct model.path="$file")
prepared="$(.venv/bin/unierase prepare "${model[@]}" --json | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["path"])')"
exec .venv/bin/unierase run experiment=smollm2 "${model[@]}" benchmark.data_dir="$prepared" "$@"
