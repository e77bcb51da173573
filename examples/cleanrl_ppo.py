"""PPO in one file, after CleanRL's manner, over raygym.make_vec. Needs torch only.

python examples/cleanrl_ppo.py [ENV_ID] [STEPS]

Plays 8 environments side by side; CartPole-v1 is learned in well under a minute on 2 cores.
An observation of uint8 pictures gets a convolutional network, any other a small dense one.

Vector environments in NEXT_STEP mode return the last observation of an episode as it is; the
step after it resets the environment and ignores its action. Such a step is not experience,
and neither is one whose outcome is not "ok", because something failed: both are masked. What
follows in `advantages` from that mask alone is right for ends, time limits and failures.
"""

import sys
from collections import deque

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import raygym

NUM_ENVS, NUM_STEPS, EPOCHS, MINIBATCHES = 8, 32, 10, 2
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, LEARNING_RATE = 0.98, 0.8, 0.2, 0.0, 0.5, 1e-3


class Agent(nn.Module):
    """A network for the policy and one for the value."""

    def __init__(self, envs: gymnasium.vector.VectorEnv) -> None:
        super().__init__()
        space = envs.single_observation_space
        self.is_picture = space.dtype == np.uint8 and len(space.shape) == 3
        self.policy = nn.Sequential(
            *self.layers(space), nn.LazyLinear(int(envs.single_action_space.n))
        )
        self.value = nn.Sequential(*self.layers(space), nn.LazyLinear(1))
        self(torch.as_tensor(envs.observation_space.sample()))
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(part.weight, 2**0.5)
                nn.init.zeros_(part.bias)
        nn.init.orthogonal_(self.policy[-1].weight, 0.01)

    def layers(self, space: gymnasium.spaces.Box) -> list[nn.Module]:
        """Returns the layers below a head."""
        if not self.is_picture:
            return [nn.Flatten(), nn.LazyLinear(64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
        convolutions = [nn.Conv2d(space.shape[2], 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2)]
        return [*convolutions, nn.ReLU(), nn.Flatten(), nn.LazyLinear(256), nn.ReLU()]

    def forward(self, observations: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        """Returns the distribution of actions and the values of observations [B, ...]."""
        seen = observations.float()
        if self.is_picture:
            seen = seen.permute(0, 3, 1, 2) / 255
        return Categorical(logits=self.policy(seen)), self.value(seen)[:, 0]


def advantages(rewards, values, terminated, mask, last_value):
    """Generalised advantage estimation over [T, B] in NEXT_STEP mode.

    After a step that ended an episode, or before one that failed, the next mask is False: there
    the sum stops, at the value of the next observation unless the episode reached its own end.
    """
    found = torch.zeros_like(rewards)
    following = torch.zeros_like(last_value)
    next_value = last_value
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + GAMMA * next_value * ~terminated[t] - values[t]
        found[t] = delta + GAMMA * LAMBDA * following
        following, next_value = found[t] * mask[t], values[t]
    return found


def update(agent, optimizer, batch):
    """Takes EPOCHS passes over a batch: a dict of tensors [N, ...]."""
    count = len(batch["actions"])
    for _ in range(EPOCHS):
        for picked in torch.randperm(count).chunk(MINIBATCHES):
            part = {name: rows[picked] for name, rows in batch.items()}
            distribution, values = agent(part["observations"])
            gain = (part["advantages"] - part["advantages"].mean()) / (
                part["advantages"].std() + 1e-8
            )
            ratio = (distribution.log_prob(part["actions"]) - part["log_probabilities"]).exp()
            policy_loss = -torch.min(gain * ratio, gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            value_loss = 0.5 * (values - part["returns"]).pow(2).mean()
            loss = policy_loss + VALUE * value_loss - ENTROPY * distribution.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def has_failed(infos, num_envs):
    """Returns bool[N]: which steps failed, by the outcome in their infos."""
    outcomes = infos.get("outcome", [None] * num_envs)
    return np.array([outcome not in (None, "ok") for outcome in outcomes])


def main() -> None:
    """Learns, printing the mean return of the last 100 episodes."""
    env_id = sys.argv[1] if len(sys.argv) > 1 else "CartPole-v1"
    total_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 70_000
    torch.set_num_threads(1)
    torch.manual_seed(1)
    envs = raygym.make_vec(env_id, NUM_ENVS)
    try:
        learn(envs, total_steps)
    finally:
        envs.close()


def learn(envs: gymnasium.vector.VectorEnv, total_steps: int) -> None:
    """Runs PPO for a number of environment steps."""
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    returns: deque[float] = deque(maxlen=100)
    scores = np.zeros(NUM_ENVS)
    observations, _ = envs.reset(seed=1)
    was_over = np.zeros(NUM_ENVS, bool)
    iterations = max(1, total_steps // (NUM_ENVS * NUM_STEPS))
    for iteration in range(1, iterations + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - (iteration - 1) / iterations)
        steps = []
        for _ in range(NUM_STEPS):
            seen = torch.as_tensor(observations.copy())
            with torch.no_grad():
                distribution, values = agent(seen)
            actions = distribution.sample()
            observations, rewards, terminated, truncated, infos = envs.step(actions.numpy())
            failed = has_failed(infos, NUM_ENVS)
            mask = ~was_over & ~failed
            now = (rewards.astype(np.float32), terminated.copy(), mask)
            log_probabilities = distribution.log_prob(actions)
            steps.append((seen, actions, log_probabilities, values, *map(torch.as_tensor, now)))
            scores += rewards
            was_over = terminated | truncated
            returns.extend(scores[was_over & mask])
            scores[was_over] = 0
        seen, actions, log_probabilities, values, rewards, terminated, mask = map(
            torch.stack, zip(*steps, strict=True)
        )
        with torch.no_grad():
            last_value = agent(torch.as_tensor(observations.copy()))[1]
        gains = advantages(rewards, values, terminated, mask, last_value)
        batch = {
            "observations": seen,
            "actions": actions,
            "log_probabilities": log_probabilities,
            "advantages": gains,
            "returns": gains + values,
        }
        update(agent, optimizer, {name: rows[mask] for name, rows in batch.items()})
        if iteration % 40 == 0 or iteration == iterations:
            mean = np.mean(returns) if returns else float("nan")
            print(f"{iteration * NUM_ENVS * NUM_STEPS} steps: mean return {mean:.1f}", flush=True)


if __name__ == "__main__":
    main()
