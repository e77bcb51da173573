"""Plays an environment that another process hosts, at random.

python -m raygym.runtimes gym-core --env CartPole-v1 --rpc-port 50051 --directory /tmp/cartpole
python examples/remote_agent.py "grpc://127.0.0.1:50051?token=$(cat /tmp/cartpole/token)"
"""

import argparse
from pathlib import Path

import raygym


def main() -> None:
    """Plays episodes and prints a line about each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="grpc://host:port or grpcs://host:port, with ?token=...")
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--render-mode", choices=["rgb_array"])
    parser.add_argument("--ca", type=Path, help="authority of the server's certificate (PEM)")
    parser.add_argument("--cert", type=Path, help="this client's certificate (PEM)")
    parser.add_argument("--key", type=Path, help="its private key (PEM)")
    given = parser.parse_args()
    tls = raygym.TlsFiles(ca=given.ca, cert=given.cert, key=given.key)
    env = raygym.RemoteEnv(given.address, tls=tls, render_mode=given.render_mode)
    env.action_space.seed(given.seed)
    try:
        for episode in range(given.episodes):
            env.reset(seed=given.seed + episode)
            score, steps, is_over = 0.0, 0, False
            while not is_over:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                score, steps, is_over = score + reward, steps + 1, terminated or truncated
            picture = env.render()
            seen = "" if picture is None else f", last picture {picture.shape}"
            print(f"episode {episode}: score {score:g} in {steps} steps{seen}")
    finally:
        env.close()


if __name__ == "__main__":
    main()
