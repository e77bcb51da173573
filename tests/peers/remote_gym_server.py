"""Runs remote-gym's own server; prints its port, and ends when its standard input does.

.peers/remote_gym/bin/python tests/peers/remote_gym_server.py '{"kind": "cartpole"}' [FOLDER]

FOLDER holds a peer_envs.py that makes the environments; by default the one beside this file.
"""

import json
import os
import sys
from pathlib import Path

from remote_gym import create_remote_environment_server


class FreePort(int):
    """Port 0, and equal to any: the server insists on getting the port that it asked for."""

    assigned = 0

    def __eq__(self, other):
        self.assigned = int(other)
        return True

    __hash__ = int.__hash__


def main() -> None:
    os.chdir(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent)
    port = FreePort(0)
    server = create_remote_environment_server(
        default_args={
            "entrypoint": "peer_envs.py",
            "entrypoint_kwargs": json.loads(sys.argv[1]),
        },
        url="127.0.0.1",
        port=port,
        use_thread=True,
    )
    print(port.assigned, flush=True)
    sys.stdin.read()
    server.stop(0)
    # Its environment threads wait without a deadline for what never comes.
    os._exit(0)


if __name__ == "__main__":
    main()
