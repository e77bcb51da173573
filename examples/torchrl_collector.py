"""TorchRL's collector over raygym.make_vec; see requirements.txt for its version.

python examples/torchrl_collector.py [ENV_ID] [STEPS]

TorchRL resets single slots itself: that is Gymnasium's DISABLED mode. A reader of infos adds
("next", "is_whole"): False for a step that failed, so that a loss can leave it out.
"""

import sys

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import Categorical, Composite
from torchrl.envs import GymWrapper
from torchrl.envs.gym_like import BaseInfoDictReader

import raygym

NUM_ENVS = 8
FRAMES_PER_BATCH = 400


class WholeReader(BaseInfoDictReader):
    """Reads from infos which steps did not fail."""

    def __call__(self, info_dict: dict, tensordict: TensorDictBase) -> TensorDictBase:
        """Adds ``is_whole``, bool[NUM_ENVS]."""
        outcomes = info_dict.get("outcome", [None] * NUM_ENVS)
        is_whole = [outcome in (None, "ok") for outcome in outcomes]
        return tensordict.set("is_whole", torch.tensor(is_whole))

    @property
    def info_spec(self) -> Composite:
        """What is added."""
        is_whole = Categorical(2, shape=(NUM_ENVS,), dtype=torch.bool)
        return Composite({"is_whole": is_whole}, shape=(NUM_ENVS,))

    def reset(self) -> None:
        """Nothing is kept."""


def main() -> None:
    """Collects steps of random actions and says how the episodes went."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "CartPole-v1"
    total_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
    envs = GymWrapper(raygym.make_vec(env_id, NUM_ENVS, autoreset_mode="Disabled"))
    envs.set_info_dict_reader(WholeReader())
    collector = Collector(envs, None, frames_per_batch=FRAMES_PER_BATCH, total_frames=total_steps)
    whole = ends = 0
    rewards = []
    try:
        for batch in collector:
            is_whole = batch["next", "is_whole"]
            whole += int(is_whole.sum())
            ends += int(batch["next", "done"].sum())
            rewards.append(batch["next", "reward"][is_whole].mean().item())
    finally:
        collector.shutdown()
    print(f"{whole} whole steps, {ends} episodes: mean reward of a step {np.mean(rewards):.2f}")


if __name__ == "__main__":
    main()
