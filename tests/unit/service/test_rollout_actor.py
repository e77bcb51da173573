from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from raygym.core import Rollout
from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.service.actor_answers import ActorConfig, Answer
from raygym.service.random_policy import RandomActions
from raygym.service.rollout_actor import RolloutActor
from raygym.vector.supervision import Supervision
from tests.support.clocks import Clock
from tests.support.fake_slots import FakePolicy, FakeSlots

LONG_S = 20.0
QUICK = Supervision(first_retry_s=0.001, longest_retry_s=0.002)


@pytest.fixture
def make() -> Iterator[Callable[..., RolloutActor]]:
    """Makes actors, which are closed afterwards."""
    actors: list[RolloutActor] = []

    def make_actor(slots: Any = None, **settings: Any) -> RolloutActor:
        rest = {name: settings.pop(name) for name in ("clock", "end") if name in settings}
        policy = settings.pop("policy_factory", lambda _: FakePolicy())
        config = {"number": 0, "first_slot": 4, "num_slots": 2, "rollout_steps": 3, **settings}
        actors.append(
            RolloutActor(
                ActorConfig(**config),
                slots or (lambda _first, count: FakeSlots(count)),
                policy,
                **rest,
            )
        )
        return actors[-1]

    yield make_actor
    for actor in actors:
        assert actor.close(timeout_s=LONG_S)


def take(actor: RolloutActor, *arguments: Any) -> Rollout:
    answer = actor.rollout(*arguments, timeout_s=LONG_S)
    assert answer.rollout is not None, answer.failure
    return answer.rollout


def until(actor: RolloutActor, condition: Callable[[Answer], bool], **question: Any) -> Answer:
    deadline_s = time.monotonic() + LONG_S
    while not condition(answer := actor.rollout(timeout_s=0.01, **question)):
        assert time.monotonic() < deadline_s
    return answer


def test_it_plays_its_slots_under_their_own_numbers(make):
    actor = make(prefetch=0, columns=2)
    rollout = take(actor)
    assert rollout.traces.slots.tolist() == [4, 5]
    assert rollout.observations[:, 0, 2].tolist() == [0, 1, 2]
    assert take(actor).observations[:, 0, 2].tolist() == [3, 4, 0]


def test_weights_are_taken_over_before_the_rollout_that_they_came_with(make):
    policies: list[FakePolicy] = []

    def factory(number: int) -> FakePolicy:
        assert number == 0
        policies.append(FakePolicy())
        return policies[-1]

    actor = make(prefetch=0, policy_factory=factory)
    assert take(actor, {"w": 1}, 5).weights_version == 5
    assert policies[0].weights == {"w": 1}
    assert take(actor).weights_version == 5
    other = FakePolicy()
    assert take(actor, other, 6).weights_version == 6
    assert other.batches


def test_weights_for_a_policy_that_takes_none_are_refused(make):
    class Fixed(FakePolicy):
        set_weights = None  # type: ignore[assignment]

    actor = make(prefetch=0, policy_factory=lambda _: Fixed())
    answer = until(actor, lambda a: bool(a.failure), weights={}, version=1)
    assert isinstance(answer.fatal, ConfigError)
    assert "has no set_weights" in str(answer.fatal)


def test_it_plays_ahead_and_stops_once_enough_rollouts_wait(make):
    policy = FakePolicy()
    actor = make(prefetch=3, columns=2, policy_factory=lambda _: policy)
    take(actor)
    deadline_s = time.monotonic() + LONG_S
    while len(policy.batches) < 3 * (1 + 3):
        assert time.monotonic() < deadline_s
        actor.touch()
    # Its thread waits for room now: no rollout beyond these was begun.
    assert actor._changed.acquire()
    waiting = len(actor._rollouts)
    actor._changed.release()
    assert waiting <= 3
    assert len(policy.batches) <= 3 * (1 + 3) + 3


def test_in_real_time_the_oldest_rollout_is_dropped_and_counted(make):
    actor = make(prefetch=1, waits_for_learner=False)
    take(actor)
    answer = until(actor, lambda a: a.rollouts_dropped > 2)
    assert answer.rollouts_waiting <= 1


def test_finishing_hands_out_what_waits_and_then_nothing(make):
    actor = make(prefetch=2)
    take(actor)
    until(actor, lambda a: a.rollout is None, plays_on=False)
    assert actor.rollout(timeout_s=LONG_S, plays_on=False).rollout is None
    assert actor.rollout(timeout_s=LONG_S).rollout is not None


def test_answers_carry_the_reports_of_all_slots_and_no_step_twice(make):
    actor = make(prefetch=1)
    steps = 0
    for _ in range(5):
        steps += sum(r.steps for r in actor.rollout(timeout_s=LONG_S).reports)
    answer = until(actor, lambda a: a.rollout is None, plays_on=False)
    steps += sum(r.steps for r in answer.reports)
    assert {report.slot for report in answer.reports} <= {4, 5}
    assert [report.state for report in answer.slots] == ["running", "running"]
    assert steps > 0
    assert answer.is_made


def test_a_failed_start_is_tried_again_and_its_error_told(make):
    tries: list[int] = []

    def factory(_first: int, count: int) -> FakeSlots:
        tries.append(count)
        if len(tries) < 3:
            raise RemoteFailedToStart("no screen; log: 123")
        return FakeSlots(count)

    actor = make(factory, supervision=QUICK)
    assert until(actor, lambda a: a.rollout is not None).error == ""
    assert tries == [2, 2, 2]

    def never(_first: int, _count: int) -> FakeSlots:
        raise RemoteFailedToStart("no screen; log: 123")

    answer = until(make(never, supervision=QUICK), lambda a: a.start_failures > 4)
    assert answer.error == "RemoteFailedToStart: no screen; log: 123"
    assert not answer.is_made
    assert answer.failure == ""


def test_a_wrong_setting_is_told_as_the_error_itself(make):
    def factory(_first: int, _count: int) -> FakeSlots:
        raise ConfigError("no such game")

    answer = make(factory).rollout(timeout_s=LONG_S)
    assert isinstance(answer.fatal, ConfigError)
    assert answer.failure == "no such game"


def test_any_other_error_comes_with_its_traceback_and_closes_the_slots(make):
    slots = FakeSlots(2)
    actor = make(
        lambda _first, _count: slots,
        policy_factory=lambda _: FakePolicy(actions=lambda _: 1 // 0),
    )
    answer = actor.rollout(timeout_s=LONG_S)
    assert "ZeroDivisionError" in answer.failure
    assert answer.fatal is None
    assert actor.close(timeout_s=LONG_S)
    assert slots.is_closed


def test_slots_that_never_answer_do_not_keep_it_from_answering(make):
    clock = Clock()
    entered, may_end = threading.Event(), threading.Event()

    class Stuck(FakeSlots):
        def recv(self, **_: Any) -> Any:
            entered.set()
            may_end.wait(LONG_S)
            return super().recv(at_least=1, timeout_s=0.0)

    actor = make(lambda _first, count: Stuck(count), clock=clock)
    actor.touch()
    assert entered.wait(LONG_S)
    clock.now_s += 50.0
    answer = actor.rollout(timeout_s=0.01)
    may_end.set()
    assert answer.rollout is None
    assert answer.stuck_s == 50.0


def test_an_orphan_closes_its_slots_and_then_ends(make):
    clock, slots = Clock(), FakeSlots(2)
    ended = threading.Event()
    codes: list[tuple[int, bool]] = []

    def end(code: int) -> None:
        codes.append((code, slots.is_closed))
        ended.set()

    actor = make(lambda *_: slots, clock=clock, end=end, orphan_timeout_s=60.0)
    take(actor)
    clock.now_s += 59.0
    actor.touch()
    clock.now_s += 59.0
    assert not ended.is_set()
    clock.now_s += 2.0
    assert ended.wait(LONG_S)
    assert codes == [(1, True)]


def test_random_actions_fit_any_space():
    discrete = RandomActions(gymnasium.spaces.Discrete(3, start=5), seed=1, number=0)
    acted = discrete.act(np.zeros((50, 2)), ())
    assert set(acted.actions.tolist()) == {5, 6, 7}
    assert np.allclose(acted.log_probabilities, -np.log(3))
    assert discrete.values(np.zeros((4, 2)), ()).tolist() == [0.0] * 4
    again = RandomActions(gymnasium.spaces.Discrete(3, start=5), seed=1, number=0)
    assert again.act(np.zeros((50, 2)), ()).actions.tolist() == acted.actions.tolist()
    box = RandomActions(gymnasium.spaces.Box(-1, 1, (2,), np.float32), seed=1, number=0)
    assert box.act(np.zeros((5, 2)), ()).actions.shape == (5, 2)
    box.set_weights(None, 3)
    assert box.weights_version == 3
