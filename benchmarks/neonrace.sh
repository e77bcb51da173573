#!/bin/sh
# Trains NeonRace for an hour with seeds 1, 2 and 3, in lock-step; takes three hours.
# Summaries, checkpoints and the curves come to runs/neonrace; nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
for seed in ${SEEDS:-1 2 3}; do
  "$python" -m raygym.train --env flashgames.NeonRace-v0 --algo batched --backend process \
    --minutes 60 --seed "$seed" --logdir "runs/neonrace/seed-$seed" \
    --summary "runs/neonrace/seed-$seed.json" "$@"
done
"$python" examples/plot_learning.py runs/neonrace/seed-*/ runs/neonrace/curve.png
