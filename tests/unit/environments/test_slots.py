from __future__ import annotations

import pytest

from raygym.config import ObservationConfig
from raygym.core import Remote
from raygym.environments import make_slots
from raygym.errors import ConfigError
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.stacked_slots import StackedSlots
from raygym.vector.supervision import Supervision
from raygym.vector.thread_slots import ThreadSlots
from tests.unit.remote_env.fakes import FakeRemotes

CART = "gym-core.CartPole-v1"
CATCH = "test.Catch-v0"
NEON = "flashgames.NeonRace-v0"


def test_environments_without_a_remote_are_stepped_right_here() -> None:
    slots = make_slots("CartPole-v1", 3)
    assert isinstance(slots, InlineSlots)
    slots.reset([0, 1, 2], [1, 2, 3])
    assert slots.recv(at_least=3).observations.shape == (3, 4)
    slots.close()


def test_they_may_be_stepped_in_threads() -> None:
    slots = make_slots(CART, 2, backend="local", vectorization="threads")
    assert isinstance(slots, ThreadSlots)
    slots.reset([0, 1])
    assert slots.recv(at_least=2, timeout_s=20).is_first.all()
    slots.close()


def test_frames_are_stacked() -> None:
    view = ObservationConfig(height_px=20, width_px=20, is_grey=True)
    slots = make_slots("ALE/Pong-v5", 2, observation=view, frame_stack=4)
    assert isinstance(slots, StackedSlots)
    assert slots.single_observation_space.shape == (20, 20, 4)
    slots.close()
    with pytest.raises(ConfigError, match="must be Boxes"):
        make_slots("FrozenLake-v1", 2, frame_stack=2)


@pytest.mark.parametrize("env_id", [CATCH, NEON])
def test_each_remote_has_a_thread_and_a_client_of_its_own(env_id: str) -> None:
    backend = FakeRemotes()
    slots = make_slots(env_id, 3, backend=backend, client_id="me")
    assert isinstance(slots, ThreadSlots)
    assert len(slots.envs) == 3
    assert {report.remotes_started for report in slots.reports()} == {0}
    slots.close()
    assert not backend.is_closed, "a Backend that was passed in belongs to the caller"


@pytest.mark.parametrize("env_id", [CATCH, NEON])
def test_clients_are_called_by_the_number_of_their_slot_among_all(env_id: str) -> None:
    clients: list[str] = []

    class Refusing(FakeRemotes):
        def start(self, runtime: str, *, client_id: str) -> Remote:
            clients.append(client_id)
            raise ConfigError("no remotes today")

    slots = make_slots(env_id, 1, first_slot=4, backend=Refusing(), client_id="me")
    slots.reset([0])
    with pytest.raises(ConfigError, match="no remotes today"):
        slots.recv(timeout_s=20)
    slots.close()
    assert clients == ["me-4"]


def test_a_backend_of_their_own_is_closed_with_them(monkeypatch) -> None:
    backend = FakeRemotes()
    monkeypatch.setattr(
        "raygym.environments.realtime.choose_backend", lambda *_args: (backend, True)
    )
    make_slots(CATCH, 2).close()
    assert backend.is_closed


def test_deadlines_lie_beyond_those_of_the_environments() -> None:
    slots = make_slots("CartPole-v1", 1, vectorization="threads", step_timeout_s=9)
    assert slots._supervision.step_timeout_s == 14.0
    assert slots._supervision.reset_timeout_s > 6 * 60
    slots.close()
    own = Supervision(step_timeout_s=3)
    slots = make_slots("CartPole-v1", 1, vectorization="threads", supervision=own)
    assert slots._supervision is own
    slots.close()


@pytest.mark.parametrize(
    ("env_id", "settings", "part"),
    [
        ("CartPole-v1", {"num_slots": 0}, "num_slots: expected 1 or more"),
        ("CartPole-v1", {"frame_stack": 0}, "frame_stack: expected 1 or more"),
        ("CartPole-v1", {"vectorization": "magic"}, "expected auto, inline, processes"),
        ("CartPole-v1", {"vectorization": "batched"}, "needs a remote"),
        ("CartPole-v1", {"vectorization": "inline", "num_processes": 2}, "num_processes"),
        (NEON, {"vectorization": "batched"}, "only gym-core in lock-step holds several"),
        (CART, {"vectorization": "batched", "mode": "realtime"}, "only gym-core in lock-step"),
        (CATCH, {"vectorization": "inline"}, "take threads"),
        (CATCH, {"vectorization": "processes", "backend": FakeRemotes()}, "take threads"),
        (NEON, {"remotes": "grpc://a:1,grpc://b:1", "num_slots": 3}, "as many addresses, got 2"),
    ],
)
def test_what_does_not_go_together_is_refused(env_id, settings, part) -> None:
    with pytest.raises(ConfigError, match=part):
        make_slots(env_id, **{"num_slots": 2, **settings})
