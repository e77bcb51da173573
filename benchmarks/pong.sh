#!/bin/sh
# Trains Pong from pixels with seeds 1, 2 and 3, four ways; takes up to two and a half hours.
# Curves and tables come to runs/pong; nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" benchmarks/pong.py --run deterministic --minutes 8 --stop-at 20 "$@"
"$python" benchmarks/pong.py --run a3c --minutes 12 --stop-at 18 "$@"
"$python" benchmarks/pong.py --run remotes --minutes 12 --stop-at 18 "$@"
"$python" benchmarks/pong.py --run sticky --minutes 20 --stop-at 18 "$@"
