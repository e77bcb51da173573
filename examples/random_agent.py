"""Plays NeonRace at random for a while and says how old what it saw was.

python examples/random_agent.py [ENV_ID] [STEPS]
"""

import sys

import raygym


def main() -> None:
    """Plays, printing a line at each episode's end."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "flashgames.NeonRace-v0"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    env = raygym.make(env_id, client_id="random-agent")
    try:
        env.reset(seed=0)
        for step in range(1, steps + 1):
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            if terminated or truncated or step == steps:
                reaction = info["reaction_time_ms"]
                print(
                    f"step {step}: score {info['episode_score']:.1f}, outcome {info['outcome']}, "
                    f"reaction time {'unknown' if reaction is None else f'{reaction:.0f} ms'}"
                )
                env.reset()
    finally:
        env.close()


if __name__ == "__main__":
    main()
