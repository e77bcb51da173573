"""How much of this machine the near end needs: many remotes in one process, in real time.

python benchmarks/near_end.py [--env flashgames.NeonRace-v0 ...] [--remotes 4] [--fps 25]

Catch costs its remotes little, so its row shows what the near end can do where the far ends of
a Flash game share too few cores with it.
"""

from __future__ import annotations

import argparse
import os
import time

import raygym


def measure(env_id: str, remotes: int, fps: float, duration_s: float) -> list[str]:
    """Steps for a while; returns the cells of one row of the table."""
    observation = raygym.ObservationConfig(height_px=128, width_px=200, is_grey=True)
    env = raygym.make_vec(env_id, remotes=remotes, fps=fps, observation=observation)
    try:
        env.reset(seed=1)
        steps = frames = acted = 0
        lags_ms: list[float] = []
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        while time.perf_counter() - began_s < duration_s:
            *_, infos = env.step(env.action_space.sample())
            steps += 1
            acted += int(infos["running"].sum())
            frames += int((infos["stats"]["vnc_updates"] > 0).sum())
            lags = infos["observation_lag_ms"][infos["_observation_lag_ms"]]
            lags_ms += [float(lag) for lag in lags]
        elapsed_s = time.perf_counter() - began_s
        cores = (time.process_time() - began_cpu_s) / elapsed_s
    finally:
        env.close()
    lag = f"{sorted(lags_ms)[len(lags_ms) // 2]:.1f}" if lags_ms else "-"
    return [
        env_id,
        str(remotes),
        f"{fps:g}",
        f"{acted / elapsed_s:.1f}",
        f"{frames / elapsed_s:.1f}",
        f"{cores:.2f}",
        lag,
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="+", default=["flashgames.NeonRace-v0", "test.Catch-v0"])
    parser.add_argument("--remotes", type=int, default=4)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")
    print(
        "| environment | remotes | fps asked | steps/s in all | new frames/s in all | "
        "near end, cores | observation lag p50, ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for env_id in given.env:
        cells = measure(env_id, given.remotes, given.fps, given.seconds)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
