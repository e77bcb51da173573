"""Plays with remote-gym's own client; prints each thing that it saw as one line of JSON.

.peers/remote_gym/bin/python tests/peers/remote_gym_client.py PORT '{"entrypoint": "pictures"}' \
    '["reset", 1, 2, "reset", 0]' [rgb_array]

Numbers are actions. Observations and pictures are told as shape, dtype and SHA-256.
"""

import hashlib
import json
import sys

import numpy as np
from remote_gym import RemoteEnvironment


def digest(array):
    """Returns what identifies an array."""
    if array is None:
        return None
    array = np.ascontiguousarray(array)
    return [list(array.shape), array.dtype.str, hashlib.sha256(array.tobytes()).hexdigest()]


def main() -> None:
    port, args, moves = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    render_mode = sys.argv[4] if len(sys.argv) > 4 else None
    env = RemoteEnvironment("127.0.0.1", port, remote_args=args, render_mode=render_mode)
    spaces = {"actions": repr(env.action_space), "observations": repr(env.observation_space)}
    print(json.dumps(spaces))
    for move in moves:
        try:
            if move == "reset":
                told = {"observation": digest(env.reset()[0])}
            else:
                observation, reward, terminated, truncated, info = env.step(move)
                told = {
                    "observation": digest(observation),
                    "reward": float(reward),
                    "terminated": terminated,
                    "truncated": truncated,
                    "info": info,
                }
            told["picture"] = digest(env.render())
        except Exception as error:  # noqa: BLE001  what it raises is what is told
            told = {"error": str(error)}
        print(json.dumps(told))
    env.close()


if __name__ == "__main__":
    main()
