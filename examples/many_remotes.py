"""Drives several remotes from one process; none waits for another.

python examples/many_remotes.py [ENV_ID] [REMOTES] [STEPS]
"""

import sys
import time

import raygym


def main() -> None:
    """Steps all of them, then prints the rate and who was running."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "flashgames.DuskDrive-v0"
    remotes = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 250
    envs = raygym.make_vec(env_id, remotes=remotes, client_id="many")
    try:
        envs.reset(seed=0)
        began_s = time.monotonic()
        running = 0
        for _ in range(steps):
            *_, infos = envs.step(envs.action_space.sample())
            running += int(infos["running"].sum())
        elapsed_s = time.monotonic() - began_s
        print(f"{remotes} remotes: {running} steps that counted, {running / elapsed_s:.1f}/s")
    finally:
        envs.close()


if __name__ == "__main__":
    main()
