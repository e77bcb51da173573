"""Plays one environment through a gateway until it is killed.

python -m tests.support.gateway_player HOST:PORT CLIENT_ID
"""

import sys

import raygym


def main() -> None:
    address, client_id = sys.argv[1:]
    env = raygym.make("gym-core.CartPole-v1", remotes=f"grpc://{address}", client_id=client_id)
    env.reset(seed=1)
    print("plays", flush=True)
    while True:
        _, _, is_terminated, is_truncated, _ = env.step(0)
        if is_terminated or is_truncated:
            env.reset()


if __name__ == "__main__":
    main()
