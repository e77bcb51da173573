"""RLlib's EnvRunner over the rollout service. T is time, B the number of slots."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)

from raygym.core import Outcome, Rollout
from raygym.errors import ConfigError, RaygymError
from raygym.rllib.episodes import EpisodeCutter
from raygym.rllib.policy import ActingWeights, RLModulePolicyFactory
from raygym.rllib.settings import KEY, ServiceSettings
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.rollout_service import RolloutService

log = logging.getLogger(__name__)

MOST_ROLLOUT_STEPS = 64
WAIT_S = 0.25
EPISODES_BY_OUTCOME = "raygym_episodes"
"""Metric: episodes of this iteration, by outcome."""
MASKED_STEPS = "raygym_steps_masked"
"""Metric: steps that failed and were left out."""


class NoRollouts(RaygymError):
    """The service gave no rollout for longer than ``patience_s``."""


class ServiceEnvRunner(EnvRunner, Checkpointable):
    """Pulls Rollouts from a RolloutService of its own and hands them to RLlib as episodes.

    RLlib's connectors on the environment's side do not apply: the service stacks frames and
    scales rewards, and RLModulePolicy acts.

    Args:
        config: As ``rollout_config`` leaves it.
        **kwargs: As RLlib calls it: ``worker_index``, ``num_workers``, ...

    Raises:
        ConfigError: ``config`` did not come from ``rollout_config``, or asks for a connector
            that would never be called.
    """

    make_service: Callable[..., Any] = staticmethod(RolloutService)
    """Makes the service; tests replace it."""

    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.settings = _settings(self.config)
        self.worker_index = self.worker_index or 0
        self.on_wait: Callable[[], None] = _nothing
        """Called before each wait for a rollout, by whoever samples; may raise to end it."""
        self.on_report: Callable[[ActorReport | ActorLost], None] = _ignore
        """Called with what the service's actors say, by whoever samples."""
        self.steps_lifetime = 0
        """Steps that this runner sampled and that count."""
        self._weights_seq_no = 0
        self._is_exploring: bool = self.config.explore
        self._is_random = False
        self.module: Any = None
        self.make_module()
        observation_space, action_space = self.get_spaces()[DEFAULT_MODULE_ID]
        self._cutter = EpisodeCutter(
            observation_space,
            action_space,
            state=_initial_state(self.module),
        )
        self.num_envs = self.settings.share(self.worker_index, self.config.num_env_runners)
        self._service: Any = None
        if self.worker_index > 0 or self.config.num_env_runners == 0:
            self.make_env()

    def make_env(self) -> None:
        """Starts the service; ends the one before, if there is one."""
        self.stop()
        settings = self.settings
        config = self.config
        seed = settings.seed if self._seed is None else self._seed
        self._cutter.forget()
        self._service = self.make_service(
            settings.env,
            self.num_envs,
            policy=RLModulePolicyFactory(
                spec=self._spec,
                seed=seed,
                is_unsquashed=config.normalize_actions,
                is_clipped=config.clip_actions,
            ),
            rollout_steps=self.rollout_steps(),
            slots_per_actor=settings.slots_per_actor,
            prefetch=settings.prefetch,
            frame_stack=settings.frame_stack,
            reward_scale=settings.reward_scale,
            seed=seed,
            make_kwargs=settings.make_kwargs,
            supervision=settings.supervision,
            actor_options=_actor_options(settings),
            show=settings.show_of(self.worker_index, config.num_env_runners),
        )
        self._tell_policies()

    def make_module(self) -> None:
        """Builds the RLModule, which holds the weights for the service's policies."""
        self._spec: RLModuleSpec = self.config.get_rl_module_spec(
            spaces=self.get_spaces(), inference_only=True
        )
        self.module = self._spec.build()

    def rollout_steps(self) -> int:
        """Returns T: the fragment in equal parts that are not longer than asked for."""
        fragment = self.config.get_rollout_fragment_length(self.worker_index)
        most = self.settings.rollout_steps or MOST_ROLLOUT_STEPS
        return math.ceil(fragment / math.ceil(fragment / most))

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        **_others: Any,
    ) -> list[SingleAgentEpisode]:
        """Returns episodes, and parts of them, of so many steps that count, or more.

        Args:
            num_timesteps: Steps; None takes ``rollout_fragment_length`` for each slot.
            num_episodes: Episodes that end, instead of steps.
            explore: Whether to draw actions; None as configured.
            random_actions: Whether to draw them from the action space.
            **_others: ``force_reset`` is ignored: the service interrupts no episode.

        Raises:
            NoRollouts: None came for ``patience_s``.
        """
        if self._service is None:
            raise ConfigError(
                "ServiceEnvRunner.sample: this runner has no environments: it is the driver's, "
                "beside remote ones; sample on those"
            )
        self._act_as(self.config.explore if explore is None else explore, random_actions)
        if num_timesteps is None and num_episodes is None:
            fragment = self.config.get_rollout_fragment_length(self.worker_index)
            num_timesteps = fragment * self.num_envs
        least_steps, least_ended = num_timesteps or 0, num_episodes or 0
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        steps = ended = 0
        episodes: list[SingleAgentEpisode] = []
        with self.metrics.log_time(SAMPLE_TIMER):
            for rollout in self._rollouts():
                self._note_masked(rollout)
                new = self._cutter.cut(rollout)
                episodes += new
                steps += sum(len(episode) for episode in new)
                ended += sum(episode.is_done for episode in new)
                if steps >= least_steps and ended >= least_ended:
                    break
        self.steps_lifetime += steps
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=steps)
        _as_rllib(SingleAgentEnvRunner._increase_sampled_metrics)(self, steps, ended)
        return episodes

    def assert_healthy(self) -> None:
        """Raises RaygymError unless the constructor went through."""
        if getattr(self, "module", None) is None:
            raise RaygymError("ServiceEnvRunner: its constructor did not end")

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """Returns the observation and the action space, under each of RLlib's names."""
        spaces = (self.config.observation_space, self.config.action_space)
        return {
            INPUT_ENV_SPACES: spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    def get_metrics(self) -> Any:
        """Returns RLlib's metrics since the last call; returns are of whole episodes only."""
        return self.metrics.reduce()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Returns weights, their version and the count of steps."""
        state = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(**kwargs)
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over a state, and passes newer weights on to the service."""
        if COMPONENT_RL_MODULE in state:
            number = state.get(WEIGHTS_SEQ_NO, 0)
            if number == 0 or number > self._weights_seq_no:
                weights = state[COMPONENT_RL_MODULE]
                if isinstance(weights, ray.ObjectRef):
                    weights = ray.get(weights)
                self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
                self._weights_seq_no = max(number, self._weights_seq_no)
                self._tell_policies()
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns what makes such a runner anew."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """Returns the module, which has files of its own in a checkpoint."""
        return [(COMPONENT_RL_MODULE, self.module)]

    def stop(self) -> None:
        """Ends the service and its environments; may be called twice."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def _rollouts(self) -> Iterator[Rollout]:
        """Yields rollouts as they come; also reads the reports that come between them."""
        waits_since_s = time.monotonic()
        while True:
            self.on_wait()
            rollout = self._service.next_rollout(timeout_s=WAIT_S)
            self._note_reports(self._service.reports())
            if rollout is not None:
                waits_since_s = time.monotonic()
                yield rollout
            elif time.monotonic() - waits_since_s > self.settings.patience_s:
                raise NoRollouts(
                    f"no rollout of {self.settings.env} came for {self.settings.patience_s:g} s; "
                    "the log says why its environments fail (slot.failed, actor.lost)"
                )

    def _note_reports(self, reports: Collection[ActorReport | ActorLost]) -> None:
        for report in reports:
            self.on_report(report)
            if isinstance(report, ActorLost):
                continue
            for episode in report.sampler.episodes:
                self.metrics.log_value((EPISODES_BY_OUTCOME, str(episode.outcome)), 1, reduce="sum")
                if episode.outcome is Outcome.OK:
                    _as_rllib(SingleAgentEnvRunner._log_episode_metrics)(
                        self, episode.steps, episode.score, episode.duration_s
                    )

    def _note_masked(self, rollout: Rollout) -> None:
        masked = int((~rollout.mask).sum())
        if masked:
            self.metrics.log_value(MASKED_STEPS, masked, reduce="sum")

    def _act_as(self, is_exploring: bool, is_random: bool) -> None:
        if (is_exploring, is_random) != (self._is_exploring, self._is_random):
            self._is_exploring, self._is_random = is_exploring, is_random
            self._tell_policies()

    def _tell_policies(self) -> None:
        if self._service is not None:
            weights = ActingWeights(
                state=self.module.get_state(),
                number=self._weights_seq_no,
                is_exploring=self._is_exploring,
                is_random=self._is_random,
            )
            self._service.set_policy(weights)


def _settings(config: AlgorithmConfig) -> ServiceSettings:
    settings = config.env_config.get(KEY)
    if not isinstance(settings, ServiceSettings):
        raise ConfigError(
            f"ServiceEnvRunner: env_config[{KEY!r}] is {settings!r}; make the configuration with "
            "raygym.rllib.rollout_config"
        )
    for name in ("_env_to_module_connector", "_module_to_env_connector"):
        if getattr(config, name, None) is not None:
            raise ConfigError(
                f"ServiceEnvRunner: {name[1:]} is never called, since the service's own actors "
                "act; stack frames and scale rewards with rollout_config"
            )
    return settings


def _actor_options(settings: ServiceSettings) -> dict[str, Any]:
    """Returns Ray's options of the service's actors.

    A trial of Tune keeps what it starts within its own placement group, which has no room for
    them; they would wait for ever.
    """
    options = dict(settings.actor_options or {})
    if ray.is_initialized() and ray.util.get_current_placement_group() is not None:
        options.setdefault("scheduling_strategy", "SPREAD")
    return options


def _as_rllib(method: Any) -> Callable[..., None]:
    """Returns a method of RLlib's runner, which asks nothing of its ``self`` but metrics."""
    return method  # type: ignore[no-any-return]


def _initial_state(module: Any) -> Any:
    return module.get_initial_state() if module.is_stateful() else None


def _nothing() -> None:
    """Waits on."""


def _ignore(_report: ActorReport | ActorLost) -> None:
    """Nobody asked for reports."""
