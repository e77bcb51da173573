from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from raygym.errors import ConfigError
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.stacked_slots import StackedSlots
from tests.support.slot_envs import LOSES, Made, SlotEnv


@pytest.fixture
def slots() -> StackedSlots:
    return StackedSlots(InlineSlots(Made(), 2), 3)


@pytest.mark.parametrize("frame_stack", [1, 2, 3, 4, 8, 5])
@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 3), (3, 2)])
def test_a_stack_of_any_size_holds_the_last_frames(frame_stack: int, shape) -> None:
    class Noise(SlotEnv):
        observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

        def _seen(self):
            random = np.random.default_rng([self.slot, self.steps])
            return random.integers(0, 256, shape, np.uint8)

    slots = StackedSlots(InlineSlots(Noise, 2), frame_stack)
    slots.reset([0, 1])
    slots.recv(at_least=2)
    for _ in range(10):
        slots.send([0, 1], [0, 0])
        ready = slots.recv(at_least=2)
    for row, env in enumerate(slots.slots.envs):
        frames = []
        for env.steps in range(10 - frame_stack + 1, 11):
            frames.append(env._seen())
        assert np.array_equal(ready.observations[row], np.concatenate(frames, axis=-1))


def stack(ready, row: int) -> list[int]:
    return ready.observations[row, 0, 0].tolist()


def test_the_first_frame_is_repeated_and_the_newest_is_last(slots) -> None:
    assert slots.single_observation_space.shape == (2, 2, 3)
    slots.reset([0, 1])
    ready = slots.recv(at_least=2)
    assert [stack(ready, 0), stack(ready, 1)] == [[0, 0, 0], [10, 10, 10]]
    for expected in ([0, 0, 1], [0, 1, 2], [1, 2, 3]):
        slots.send([0, 1], [0, 0])
        ready = slots.recv(at_least=2)
        assert stack(ready, 0) == expected
        assert stack(ready, 1) == [10 + number for number in expected]
        assert ready.observations[0] in slots.single_observation_space


def test_a_slot_alone_keeps_its_own_stack(slots) -> None:
    slots.reset([0, 1])
    slots.recv(at_least=2)
    slots.send([1], [0])
    assert stack(slots.recv(), 0) == [10, 10, 11]
    slots.send([1, 0], [0, 0])
    ready = slots.recv(at_least=2)
    assert [stack(ready, 0), stack(ready, 1)] == [[10, 11, 12], [0, 0, 1]]


def test_an_episode_begins_with_no_frame_of_the_one_before(slots) -> None:
    slots.reset([0, 1])
    slots.recv(at_least=2)
    slots.send([0, 1], [0, 0])
    slots.recv(at_least=2)
    slots.reset([0])
    assert stack(slots.recv(), 0) == [0, 0, 0]


def test_a_failed_step_leaves_the_stack_as_it_was(slots) -> None:
    slots.reset([0, 1])
    slots.recv(at_least=2)
    slots.send([0, 1], [0, 0])
    slots.recv(at_least=2)
    slots.send([0, 1], [LOSES, 0])
    ready = slots.recv(at_least=2)
    assert [stack(ready, 0), stack(ready, 1)] == [[0, 0, 1], [10, 11, 12]]


def test_vectors_are_stacked_along_their_only_axis() -> None:
    class Flat(SlotEnv):
        observation_space = gymnasium.spaces.Box(-1.0, 99.0, (2,), np.float32)

        def _seen(self):
            return np.array([self.steps, -1], np.float32)

    slots = StackedSlots(InlineSlots(Flat, 1), 2)
    slots.reset([0])
    slots.recv()
    slots.send([0], [0])
    assert slots.recv().observations.tolist() == [[0, -1, 1, -1]]


def test_what_cannot_be_stacked_is_refused() -> None:
    class Number(SlotEnv):
        observation_space = gymnasium.spaces.Discrete(3)

    with pytest.raises(ConfigError, match="must be Boxes"):
        StackedSlots(InlineSlots(Number, 1), 2)
    with pytest.raises(ConfigError, match="1 or more"):
        StackedSlots(InlineSlots(SlotEnv, 1), 0)


def test_reports_pictures_and_the_end_are_those_of_the_slots_below(slots) -> None:
    slots.reset([0, 1])
    slots.recv(at_least=2)
    assert [report.state for report in slots.reports()] == ["running", "running"]
    assert [picture.max() for picture in slots.render()] == [0, 1]
    slots.close()
    assert [report.state for report in slots.slots.reports()] == ["closed", "closed"]
