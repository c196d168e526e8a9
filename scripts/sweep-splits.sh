#!/usr/bin/env bash
# Models x splits x modes x methods x seeds: the loops are those that change what must be read anew (the model, the forget set);
# what is inside them is left to `unierase sweep`, which makes shared stages once and gives one table per model and split.
#
#   scripts/sweep-splits.sh benchmark.data_dir=PATH/TO/tofu
#   MODELS="tofu_llama_3_2_1b_full" SPLITS="forget01" JOBS=2 scripts/sweep-splits.sh
#   LAUNCHER=slurm JOBS=16 scripts/sweep-splits.sh launcher.partition=gpu launcher.minutes=480      as Slurm job arrays
#   scripts/sweep-splits.sh --dry-run                           shows the plans; UNIERASE="echo unierase" only the commands
set -euo pipefail
read -ra unierase <<<"${UNIERASE:-unierase}"
read -ra models <<<"${MODELS:-tofu_llama_3_2_1b_full tofu_llama_3_2_3b_full}"
read -ra splits <<<"${SPLITS:-forget01 forget05 forget10}"
methods="${METHODS:-unierase,npo_gd,ga_gd}"
modes="${MODES:-batch}"
seeds="${SEEDS:-range(0,3)}"
failed=0

for model in "${models[@]}"; do
  for split in "${splits[@]}"; do
    "${unierase[@]}" sweep "model=$model" train=none benchmark=tofu "benchmark.split=$split" \
      "mode=$modes" "method=$methods" "seed=$seeds" \
      --launcher "${LAUNCHER:-local}" --jobs "${JOBS:-1}" "$@" || failed=$((failed + 1))
  done
done

[ "$failed" -eq 0 ] || { echo "$failed sweeps had failures; the same command runs those runs again" >&2; exit 1; }
