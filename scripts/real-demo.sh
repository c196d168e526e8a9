#!/usr/bin/env bash
# Makes a pretrained chat model forget facts about the real world: downloads SmolLM2-135M-Instruct, asks it the shipped
# questions, erases twenty facts that it knows, evaluates, and prints the table. A second run reuses finished stages.
# Arguments go to `unierase run`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prepare_environment gguf
file="$(bash scripts/real-model.sh | tail -n 1)"
model=(model=smollm2_135m_instruct model.path="$file")
told="$(.venv/bin/unierase prepare "${model[@]}" --json)"
prepared="$(.venv/bin/python -c 'import json, sys; print(json.loads(sys.argv[1])["path"])' "$told")"
exec .venv/bin/unierase run experiment=smollm2 "${model[@]}" benchmark.data_dir="$prepared" "$@"
