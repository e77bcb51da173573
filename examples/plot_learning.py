"""Plots the learning curves of one or more runs of raygym.train from their TensorBoard files.

python examples/plot_learning.py LOGDIR [LOGDIR ...] OUT.png
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

mpl.use("Agg")
import matplotlib.pyplot as plt

TAG = "global/episode_reward"
WINDOW, WINDOW_OF_SEVERAL = 10, 100


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


def draw(axes: plt.Axes, logdir: Path, *, is_alone: bool) -> str:
    """Draws one run, its episodes too if it ``is_alone``, and says how it ended."""
    minutes, values = scores(logdir)
    window = min(WINDOW if is_alone else WINDOW_OF_SEVERAL, len(values))
    mean = np.convolve(values, np.ones(window) / window, mode="valid")
    if is_alone:
        axes.plot(minutes, values, ".", color="#9aa5b1", label="episode")
    label = f"mean of {window} episodes"
    axes.plot(
        minutes[window - 1 :],
        mean,
        color="#d6336c" if is_alone else None,
        label=label if is_alone else f"{logdir.name}, {label}",
    )
    return f"{logdir}: {len(values)} episodes, last mean {mean[-1]:.1f}"


def main() -> None:
    """Plots."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    *logdirs, picture = map(Path, sys.argv[1:])
    _, axes = plt.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    for logdir in logdirs:
        print(draw(axes, logdir, is_alone=len(logdirs) == 1))
    axes.set_xlabel("minutes since the first episode's end")
    axes.set_ylabel("score")
    if axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    plt.savefig(picture)
    print(picture)


if __name__ == "__main__":
    main()
