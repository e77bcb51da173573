"""Plots the learning curve of a run of raygym.train from its TensorBoard files.

python examples/plot_learning.py LOGDIR OUT.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

mpl.use("Agg")
import matplotlib.pyplot as plt

TAG = "global/episode_reward"
WINDOW = 10


def scores(logdir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns minutes since the start and score of each episode, both float64[N]."""
    folders = sorted({path.parent for path in logdir.rglob("events.out.tfevents.*")})
    points = []
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        if TAG in events.Tags()["scalars"]:
            points += [(event.wall_time, event.value) for event in events.Scalars(TAG)]
    if not points:
        sys.exit(f"{logdir}: no episode is in its TensorBoard files yet")
    times, values = np.array(sorted(points)).T
    return (times - times[0]) / 60, values


def main() -> None:
    """Plots."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    minutes, values = scores(Path(sys.argv[1]))
    window = min(WINDOW, len(values))
    mean = np.convolve(values, np.ones(window) / window, mode="valid")
    _, axes = plt.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes.plot(minutes, values, ".", color="#9aa5b1", label="episode")
    axes.plot(minutes[window - 1 :], mean, color="#d6336c", label=f"mean of {window} episodes")
    axes.set_xlabel("minutes since the first episode's end")
    axes.set_ylabel("score")
    axes.set_ylim(bottom=0 if values.min() >= 0 else None)
    axes.grid(alpha=0.3)
    axes.legend()
    plt.savefig(sys.argv[2])
    print(f"{len(values)} episodes, last mean {mean[-1]:.1f}: {sys.argv[2]}")


if __name__ == "__main__":
    main()
