"""The settings of the batched learner."""

from __future__ import annotations

from dataclasses import dataclass

from raygym.config import check_range
from raygym.policies.annealing import annealed


@dataclass(frozen=True, kw_only=True)
class BatchedConfig:
    """The constants of the batched learner."""

    gamma: float = 0.99
    """Discount of one step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation and of V-trace."""
    learning_rate: float = 1e-3
    """Step size of Adam at the start."""
    anneal_steps: int | None = 1_000_000
    """Environment steps, over all learners, in which the step size falls to
    ``final_learning_rate``, in a straight line; None for never."""
    final_learning_rate: float = 0.0
    """Step size after ``anneal_steps``."""
    clip: float = 0.1
    """How far the ratio of probabilities may leave 1 before the surrogate is flat."""
    value_weight: float = 0.5
    """Weight of the value loss, itself half the mean of squares."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus at the start."""
    final_entropy_weight: float | None = None
    """Weight of the entropy bonus after ``anneal_steps``; None leaves it as it was."""
    max_grad_norm: float = 0.5
    """Longest gradient; a longer one is scaled down to it."""
    adam_epsilon: float = 1e-5
    """What Adam adds to the root of the mean square."""
    rollout_steps: int = 128
    """Steps of one rollout, T."""
    epochs: int = 3
    """How often each rollout is learned from."""
    minibatch_steps: int = 128
    """Steps of one minibatch of one learner, about; whole columns with an LSTM."""
    rho_clip: float = 1.0
    """V-trace: largest ratio that a temporal difference is weighted with."""
    c_clip: float = 1.0
    """V-trace: largest ratio that what follows is weighted with."""
    normalises_input: bool = True
    """Whether the first rollout sets the mean and the scale of inputs (``FeedForward`` only);
    nothing else is learned from it."""

    def __post_init__(self) -> None:
        check = check_range
        check("BatchedConfig", "gamma", self.gamma, 0.0, 1.0)
        check("BatchedConfig", "gae_lambda", self.gae_lambda, 0.0, 1.0)
        check("BatchedConfig", "learning_rate", self.learning_rate, 0.0, 1.0)
        check("BatchedConfig", "final_learning_rate", self.final_learning_rate, 0.0, 1.0)
        if self.anneal_steps is not None:
            check("BatchedConfig", "anneal_steps", self.anneal_steps, 1, 1e15)
        check("BatchedConfig", "clip", self.clip, 1e-6, 1e3)
        check("BatchedConfig", "value_weight", self.value_weight, 0.0, 1e3)
        check("BatchedConfig", "entropy_weight", self.entropy_weight, 0.0, 1e3)
        if self.final_entropy_weight is not None:
            check("BatchedConfig", "final_entropy_weight", self.final_entropy_weight, 0.0, 1e3)
        check("BatchedConfig", "max_grad_norm", self.max_grad_norm, 1e-6, 1e9)
        check("BatchedConfig", "adam_epsilon", self.adam_epsilon, 1e-12, 1.0)
        check("BatchedConfig", "rollout_steps", self.rollout_steps, 1, 10_000)
        check("BatchedConfig", "epochs", self.epochs, 1, 100)
        check("BatchedConfig", "minibatch_steps", self.minibatch_steps, 1, 1e7)
        check("BatchedConfig", "rho_clip", self.rho_clip, 0.0, 1e3)
        check("BatchedConfig", "c_clip", self.c_clip, 0.0, 1e3)

    def annealed(self, env_steps: int) -> tuple[float, float]:
        """Returns the step size and the weight of the entropy after so many steps."""
        last = self.entropy_weight
        if self.final_entropy_weight is not None:
            last = self.final_entropy_weight
        until = self.anneal_steps
        return (
            annealed(self.learning_rate, self.final_learning_rate, env_steps, until),
            annealed(self.entropy_weight, last, env_steps, until),
        )
