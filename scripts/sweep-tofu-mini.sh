#!/usr/bin/env bash
# Methods x seeds on the small TOFU model as a plain loop: one `unierase eval` each, then one table with the seeds pooled.
# What is finished is reused, so a loop that was interrupted is simply started again.
#
#   scripts/sweep-tofu-mini.sh model.path=PATH/TO/tofu-mini/full benchmark.data_dir=PATH/TO/tofu token.targets=PATH/TO/idk.jsonl
#   METHODS="unierase npo_gd" SEEDS="0 1 2" scripts/sweep-tofu-mini.sh ... eval=quick
#   UNIERASE="echo unierase" scripts/sweep-tofu-mini.sh         prints the commands and runs nothing
#
# The same without a loop, several at a time:
#   unierase sweep experiment=tofu_mini method=unierase,npo_gd,idk_ap seed=0,1 --jobs 2 model.path=... ...
set -euo pipefail
read -ra unierase <<<"${UNIERASE:-unierase}"
read -ra methods <<<"${METHODS:-unierase npo_gd idk_ap}"
read -ra seeds <<<"${SEEDS:-0 1}"
split="${SPLIT:-forget01}"
outputs="${OUTPUTS:-outputs}"
failed=0

for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    # One run that fails must not keep the others from being made.
    "${unierase[@]}" eval experiment=tofu_mini "benchmark.split=$split" "method=$method" "run.seed=$seed" \
      --outputs "$outputs" "$@" || failed=$((failed + 1))
  done
done

"${unierase[@]}" report "score/tofu-${split}_tofu_mini_*" --outputs "$outputs" || failed=$((failed + 1))
[ "$failed" -eq 0 ] || { echo "$failed commands failed; the same loop runs them again" >&2; exit 1; }
