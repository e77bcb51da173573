"""An RLModule as the policy that acts in the service's actors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
import tree  # type: ignore[import-untyped]
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from raygym.core import Acted, Float32Array
from raygym.rllib.episodes import RAW_ACTIONS, STATE_PART

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ActingWeights:
    """What a learner tells the policies: weights, and whether to try things out."""

    state: dict[str, Array]
    """As ``RLModule.get_state`` returns it."""
    number: int = 0
    """RLlib's own count of weights (WEIGHTS_SEQ_NO), which each step keeps as its version."""
    is_exploring: bool = True
    """Whether actions are drawn; otherwise the likeliest is taken."""
    is_random: bool = False
    """Whether actions come from the action space, whatever the weights say."""


@dataclass(frozen=True, kw_only=True)
class RLModulePolicyFactory:
    """Makes the policy of an actor, in its process, where torch gets one thread; it pickles."""

    spec: RLModuleSpec
    """Of the module, with its spaces."""
    seed: int = 0
    """Seeds the actions drawn, with the actor's index."""
    is_unsquashed: bool = True
    """Whether continuous actions of -1 to 1 are stretched over the space, as RLlib does."""
    is_clipped: bool = False
    """Whether continuous actions are clipped to the space, where they are not stretched."""

    def __call__(self, index: int) -> RLModulePolicy:
        """Returns the policy of the actor with that index."""
        torch.set_num_threads(1)
        torch.manual_seed(int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]))
        return RLModulePolicy(
            self.spec.build(),
            np.random.default_rng(np.random.SeedSequence([self.seed, index])),
            is_unsquashed=self.is_unsquashed,
            is_clipped=self.is_clipped,
        )


class RLModulePolicy:
    """Acts as RLlib's own EnvRunner would, without its connectors.

    What an Acted carries beside the actions: ``action_dist_inputs``, each part of the recurrent
    state after the step, and the actions as they were drawn if the environment gets others.

    Args:
        module: A TorchRLModule; may be one for inference only.
        random: Source of the actions drawn.
        is_unsquashed: See RLModulePolicyFactory.
        is_clipped: See RLModulePolicyFactory.
    """

    def __init__(
        self,
        module: Any,
        random: np.random.Generator,
        *,
        is_unsquashed: bool = True,
        is_clipped: bool = False,
    ) -> None:
        self.weights_version = 0
        self.random = random
        self._module = module
        self._space: Any = module.action_space
        self._module.eval()
        self._is_unsquashed = is_unsquashed
        self._is_clipped = is_clipped
        self._is_exploring = True
        self._is_random = False
        self._is_continuous = isinstance(self._space, gymnasium.spaces.Box)
        self._distribution: Any = module.get_exploration_action_dist_cls()
        state = tree.map_structure(np.asarray, module.get_initial_state() or {})
        self._state_structure = state
        self._first_state = [np.asarray(part, np.float32) for part in tree.flatten(state)]

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the parts of the module's initial state, each float32[batch, ...]."""
        return tuple(np.repeat(part[None], batch, axis=0) for part in self._first_state)

    def act(self, observations: Array, state: tuple[Float32Array, ...]) -> Acted:
        """Chooses actions.

        Args:
            observations: [B, ...] of the observation space.
            state: As the last call returned it.

        Returns:
            Actions [B, ...], their log-probabilities float32[B], values of zero (RLlib's
            learners compute their own), the state after, and extras.
        """
        outputs, following = self._forward(observations, state)
        inputs: Array = outputs[Columns.ACTION_DIST_INPUTS]
        drawn, log_probabilities = self._draw(inputs)
        extras = {Columns.ACTION_DIST_INPUTS: inputs}
        for number, part in enumerate(following):
            extras[STATE_PART.format(number)] = part
        actions = drawn
        if self._is_continuous:
            extras[RAW_ACTIONS] = drawn
            actions = self._for_environment(drawn)
        return Acted(
            actions=actions,
            log_probabilities=log_probabilities,
            values=np.zeros(len(observations), np.float32),
            state=following,
            extras=extras,
        )

    def values(self, observations: Array, _state: tuple[Float32Array, ...]) -> Float32Array:
        """Returns zeros, float32[B]: RLlib's learners compute values of their own."""
        return np.zeros(len(observations), np.float32)

    def set_weights(self, weights: ActingWeights, _version: int) -> None:
        """Takes over weights, their number, and how to act on them."""
        self._module.set_state(weights.state)
        self._is_exploring = weights.is_exploring
        self._is_random = weights.is_random
        self.weights_version = weights.number

    def _forward(
        self, observations: Array, state: tuple[Float32Array, ...]
    ) -> tuple[dict[str, Array], tuple[Float32Array, ...]]:
        seen = convert_to_torch_tensor(np.ascontiguousarray(observations))
        batch: dict[str, Any] = {Columns.OBS: seen}
        if state:
            # A recurrent module takes a time axis: [B, T=1, ...].
            batch[Columns.OBS] = seen[:, None]
            parts = [torch.from_numpy(np.ascontiguousarray(part)) for part in state]
            batch[Columns.STATE_IN] = tree.unflatten_as(self._state_structure, parts)
        forward = (
            self._module.forward_exploration
            if self._is_exploring
            else self._module.forward_inference
        )
        outputs = forward(batch)
        inputs = outputs[Columns.ACTION_DIST_INPUTS].numpy()
        if not state:
            return {Columns.ACTION_DIST_INPUTS: inputs}, ()
        following = tuple(part.numpy() for part in tree.flatten(outputs[Columns.STATE_OUT]))
        return {Columns.ACTION_DIST_INPUTS: inputs[:, 0]}, following

    def _draw(self, inputs: Array) -> tuple[Array, Float32Array]:
        """Returns actions [B, ...] and their log-probabilities float32[B]."""
        if self._distribution is TorchCategorical and not self._is_random:
            return self._draw_categorical(inputs)
        distribution = self._distribution.from_logits(torch.from_numpy(inputs))
        if self._is_random:
            actions = torch.from_numpy(np.stack([self._space.sample() for _ in inputs]))
        elif self._is_exploring:
            actions = distribution.sample()
        else:
            actions = distribution.to_deterministic().sample()
        return actions.numpy(), distribution.logp(actions).float().numpy()

    def _draw_categorical(self, logits: Array) -> tuple[Array, Float32Array]:
        """Draws by the Gumbel-max trick, far quicker than a distribution of torch's."""
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        scores = log_probabilities
        if self._is_exploring:
            scores = scores + self.random.gumbel(size=scores.shape)
        actions = scores.argmax(axis=-1)
        taken = np.take_along_axis(log_probabilities, actions[:, None], axis=-1)[:, 0]
        return actions, taken.astype(np.float32)

    def _for_environment(self, drawn: Array) -> Array:
        fitted: Any = drawn
        if self._is_random:
            return drawn
        if self._is_unsquashed:
            fitted = unsquash_action(drawn, self._space)  # type: ignore[no-untyped-call]
        elif self._is_clipped:
            fitted = clip_action(drawn, self._space)  # type: ignore[no-untyped-call]
        return np.asarray(fitted, self._space.dtype)
