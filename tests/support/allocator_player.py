"""A process that plays on a remote that an allocator lends, until it is killed.

``python -m tests.support.allocator_player URL CLIENT_ID`` says the remote's name, and then a dot
for each episode.
"""

from __future__ import annotations

import sys

import raygym


def main() -> None:
    """Plays for ever."""
    env = raygym.make("test.Catch-v0", remotes=sys.argv[1], client_id=sys.argv[2])
    _, info = env.reset()
    print(info["remote_id"], flush=True)
    while True:
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            print(".", flush=True)
            env.reset()


if __name__ == "__main__":
    main()
