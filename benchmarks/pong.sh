#!/bin/sh
# Trains Pong from pixels with seeds 1, 2 and 3 under both sets of rules; takes up to 90 minutes.
# Curves and tables come to runs/pong; nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" benchmarks/pong.py --rules deterministic --minutes 8 --stop-at 20 "$@"
"$python" benchmarks/pong.py --rules sticky --minutes 20 --stop-at 18 "$@"
