"""Steps through remote-gym's own client; each number on its input is so many steps to time.

.peers/remote_gym/bin/python benchmarks/remote_gym_steps.py PORT '{"kind": "cartpole"}'
"""

import json
import sys
import time

from remote_gym import RemoteEnvironment


def main() -> None:
    """Answers each line with the seconds that the steps took."""
    env = RemoteEnvironment("127.0.0.1", int(sys.argv[1]), remote_args=json.loads(sys.argv[2]))
    env.reset()
    actions = [0, 1]
    print("ready", flush=True)
    for line in sys.stdin:
        steps = int(line)
        began_s = time.perf_counter()
        for i in range(steps):
            env.step(actions[i & 1])
        print(time.perf_counter() - began_s, flush=True)
    env.close()


if __name__ == "__main__":
    main()
