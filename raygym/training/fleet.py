"""The Ray actors of a run: one keeps the weights, the others play and compute gradients.

Gradients go from actor to actor as object refs, weights come back the same way; this process
sees neither.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError

from raygym.errors import ConfigError, RaygymError
from raygym.policies.a3c import A3CConfig, SharedParameters
from raygym.service.actor_answers import SlotsFactory
from raygym.service.env_actor import EnvActor
from raygym.service.placement import actor_options, has_waiting_slots, learner_options, named
from raygym.service.ray_running import ACTOR_CPUS, one_line
from raygym.service.reports import ActorLost, ActorReport
from raygym.service.sampler import SamplerConfig
from raygym.service.slot_making import slots_of_id
from raygym.service.slots_env_actor import SlotsActorConfig, SlotsEnvActor
from raygym.service.spectators import Show, label
from raygym.training.factories import make_policy
from raygym.training.plan import Plan
from raygym.vector.slots import Slots

log = logging.getLogger(__name__)

GRADIENT_TIMEOUT_S = 0.5
ANSWER_TIMEOUT_S = 120.0
"""An actor that is silent for longer is ended and replaced."""
_NICENESS = 5


class LearnerLost(RaygymError):
    """The actor that keeps the weights ended; the newest checkpoint is all that is left."""


@dataclass
class _Question:
    """A gradient that was asked for."""

    actor: int
    gradient: ObjectRef[Any]
    asked_s: float


class Fleet:
    """Spawns the actors, passes gradients and weights on, and replaces actors that end.

    Args:
        plan: The environment.
        learner: Constants of A3C.
        seed: The run's seed.
        parameters: State of ``SharedParameters`` in a checkpoint, or None.
        random_states: Of the slots in a checkpoint.
        show: Who looks on; None for nobody.
    """

    def __init__(
        self,
        plan: Plan,
        learner: A3CConfig,
        *,
        seed: int,
        parameters: Mapping[str, Any] | None = None,
        random_states: Mapping[int, Mapping[str, Any]] | None = None,
        show: Show | None = None,
    ) -> None:
        self._plan = plan
        self._show = show
        self._learner = learner
        self._seed = seed
        self._random_states = dict(random_states or {})
        self._parameters = _spawn(
            SharedParameters,
            plan.own_network(),
            learner,
            placement={**learner_options(), **named(f"weights, {plan.spec.id}")},
            seed=seed,
        )
        self._weights: ObjectRef[Any] = (
            self._parameters.weights.remote()
            if parameters is None
            else self._parameters.restore.remote(dict(parameters))
        )
        actors = plan.actors or plan.workers
        if plan.workers % actors:
            raise ConfigError(
                f"--num-slots {plan.workers} cannot be dealt out evenly to --workers {actors}; "
                "give a multiple"
            )
        self._slots_each = plan.workers // actors
        self._actors: dict[int, Any] = {n: self._spawn_actor(n) for n in range(actors)}
        self._placed: set[int] = set()
        self._questions: dict[ObjectRef[Any], _Question] = {}
        for number in self._actors:
            self._ask(number)

    def poll(self, *, timeout_s: float) -> Iterator[ActorReport | ActorLost]:
        """Waits for answers, passes their gradients on and asks again.

        Args:
            timeout_s: Longest wait for the first answer.

        Yields:
            A report for each slot of those that answered, or an ActorLost for each slot of an
            actor that ended and was replaced.

        Raises:
            LearnerLost: The weights are gone.
        """
        self._end_silent_actors()
        for number, answers in self._answers(timeout_s):
            if isinstance(answers[0], ActorLost):
                self._check_learner()
                self._placed.discard(number)
                self._actors[number] = self._spawn_actor(number)
            else:
                self._placed.add(number)
            self._ask(number)
            for answer in answers:
                if isinstance(answer, ActorReport):
                    self._random_states[answer.sampler.slot] = answer.sampler.random_state
                yield answer

    def drain(self, *, timeout_s: float) -> Iterator[ActorReport]:
        """Takes in the answers that are still due, for the end of a run; asks for no more."""
        deadline_s = time.monotonic() + timeout_s
        while self._questions and (left_s := deadline_s - time.monotonic()) > 0:
            for _, answers in self._answers(left_s):
                yield from (answer for answer in answers if isinstance(answer, ActorReport))

    def parameters(self, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Returns the state of ``SharedParameters``, for a checkpoint.

        Raises:
            LearnerLost: The weights are gone.
        """
        try:
            state: dict[str, Any] = ray.get(self._parameters.state.remote(), timeout=timeout_s)
        except RayError as error:
            raise _learner_lost(error) from error
        return state

    def replace(self, slot: int) -> None:
        """Ends the actor of a slot, so that the next ``poll`` finds it lost and replaces it."""
        ray.kill(self._actors[slot // self._slots_each])

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Ends all actors, their environments first; may be called twice."""
        closing: list[ObjectRef[Any]] = [
            actor.close.remote(timeout_s=timeout_s - 0.5) for actor in self._actors.values()
        ]
        if closing:
            with contextlib.suppress(RayError):
                ray.wait(closing, num_returns=len(closing), timeout=timeout_s)
        for actor in (*self._actors.values(), self._parameters):
            ray.kill(actor)
        self._actors.clear()
        self._questions.clear()

    def _spawn_actor(self, number: int) -> Any:
        learner, plan = self._learner, self._plan
        policy_factory = functools.partial(make_policy, plan.own_network(), learner, self._seed)
        random_state = self._random_states.get(number * self._slots_each)
        if self._slots_each > 1:
            slots = slots_of_id(
                plan.spec.id,
                frame_stack=plan.frame_stack,
                supervision=None,
                make_kwargs=plan.make_kwargs or {},
            )
            return _spawn(
                SlotsEnvActor,
                number,
                functools.partial(_slots_of_actor, slots, self._slots_each),
                self._slots_each,
                policy_factory,
                SlotsActorConfig(
                    rollout_steps=learner.rollout_steps,
                    reward_scale=plan.reward_scale,
                    seeds_every_episode=plan.seeds_every_episode,
                    seed=self._seed,
                    show=self._show,
                ),
                random_state,
                placement=self._placement(number),
            )
        return _spawn(
            EnvActor,
            number,
            plan.env_factory,
            policy_factory,
            SamplerConfig(
                rollout_steps=learner.rollout_steps,
                reward_scale=plan.reward_scale,
                seeds_every_episode=plan.seeds_every_episode,
                waits_for_learner=plan.mode == "lockstep",
            ),
            random_state,
            placement=self._placement(number),
            niceness=_NICENESS,
            show=self._show,
        )

    def _placement(self, number: int) -> dict[str, Any]:
        each = self._slots_each
        name = label(number * each, each, self._plan.spec.id)
        return {**actor_options(each), **named(name)}

    def _ask(self, number: int) -> None:
        gradient, report = (
            self._actors[number]
            .gradient.options(num_returns=2)
            .remote(self._weights, timeout_s=GRADIENT_TIMEOUT_S)
        )
        self._questions[report] = _Question(number, gradient, time.monotonic())

    def _answers(self, timeout_s: float) -> Iterator[tuple[int, list[ActorReport | ActorLost]]]:
        waiting = list(self._questions)
        first, rest = ray.wait(waiting, num_returns=1, timeout=timeout_s)
        more = ray.wait(rest, num_returns=len(rest), timeout=0)[0] if first and rest else []
        for ref in (*first, *more):
            question = self._questions.pop(ref)
            try:
                answer: ActorReport | list[ActorReport] = ray.get(ref, timeout=ANSWER_TIMEOUT_S)
            except RayError as error:
                log.warning("actor.lost actor=%d error=%s", question.actor, error)
                begin = question.actor * self._slots_each
                slots = range(begin, begin + self._slots_each)
                yield question.actor, [ActorLost(slot, one_line(error)) for slot in slots]
                continue
            reports = [answer] if isinstance(answer, ActorReport) else answer
            if any(report.has_gradient for report in reports):
                self._weights = self._parameters.apply.remote(question.gradient)
            yield question.actor, [*reports]

    def _end_silent_actors(self) -> None:
        now_s = time.monotonic()
        for question in self._questions.values():
            if now_s - question.asked_s > ANSWER_TIMEOUT_S:
                question.asked_s = now_s
                if question.actor not in self._placed and has_waiting_slots():
                    # The cluster has no place for it yet; another would wait as long.
                    continue
                log.warning("actor.silent actor=%d seconds=%.0f", question.actor, ANSWER_TIMEOUT_S)
                ray.kill(self._actors[question.actor])

    def _check_learner(self) -> None:
        try:
            ray.get(self._weights, timeout=ANSWER_TIMEOUT_S)
        except RayError as error:
            raise _learner_lost(error) from error


def _slots_of_actor(slots: SlotsFactory, each: int, number: int) -> Slots:
    return slots(number * each, each)


def _spawn(cls: type, *arguments: Any, placement: Mapping[str, Any], **options: Any) -> Any:
    """Makes an actor of a plain class; Ray's handle of it has no type worth naming."""
    return ray.remote(cls).options(num_cpus=ACTOR_CPUS, **placement).remote(*arguments, **options)


def _learner_lost(error: RayError) -> LearnerLost:
    what = "did not answer in time" if isinstance(error, GetTimeoutError) else "ended"
    return LearnerLost(
        f"the actor that keeps the weights {what} ({one_line(error)}); go on from the newest "
        "checkpoint with --resume"
    )
