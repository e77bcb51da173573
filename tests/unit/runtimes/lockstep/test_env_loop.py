from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import StepTimeout
from raygym.gym_ids import ANY_ENV
from raygym.machine import machine_id
from raygym.runtimes.lockstep.answers import refused
from raygym.runtimes.lockstep.env_loop import EnvLoop
from raygym.runtimes.lockstep.limits import Limits
from raygym.wire.leaves import (
    leaf_spaces,
    leaves_from_messages,
    leaves_to_messages,
    single_from_messages,
    stack_values,
    unstack_values,
)
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_from_message
from raygym.wire.values import (
    map_from_message,
    map_to_message,
    value_from_message,
    value_to_message,
)
from tests.support.lockstep import Client, Trouble, observations


class InHand:
    """Carries requests to an EnvLoop by a call."""

    def __init__(self, loop: EnvLoop) -> None:
        self.loop = loop

    def exchange(self, data: bytes) -> bytes:
        return self.loop.handle_bytes(data)

    def close(self) -> None:
        self.loop.close()


def make_trouble(_env_id, kwargs):
    return Trouble(**kwargs)


def talk(factory=make_trouble, **options: Any) -> Client:
    client = Client(InHand(EnvLoop(factory, **options)))
    client.hello()
    return client


def length(steps: int) -> pb.Map:
    return map_to_message({"length": steps})


# Hello and Make


def test_welcome_says_what_the_server_is():
    loop = EnvLoop(
        make_trouble,
        env_ids=["a", "b"],
        runtime="some",
        limits=Limits(max_envs=3, max_message_bytes=9999),
        local_socket="/s",
    )
    welcome = Client(InHand(loop)).hello()
    assert (welcome.version, welcome.runtime) == (1, "some")
    assert (list(welcome.env_ids), list(welcome.modes)) == (["a", "b"], ["lockstep"])
    assert (welcome.max_envs, welcome.max_message_bytes) == (3, 9999)
    assert (welcome.machine, welcome.local_socket) == (machine_id(), "/s")


def test_a_client_that_speaks_no_version_of_ours_is_refused():
    client = Client(InHand(EnvLoop(make_trouble)))
    error = client.ask(hello=pb.Hello(version=0)).error
    assert error.code == pb.Error.FAILED_PRECONDITION
    assert "version 0" in error.message


def test_a_client_of_a_later_version_is_answered_with_ours():
    client = Client(InHand(EnvLoop(make_trouble)))
    assert client.ask(hello=pb.Hello(version=7)).welcome.version == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"make": pb.Make()}, "Hello first"),
        ({"reset": pb.Reset()}, "Make first"),
        ({"step": pb.Step()}, "Make first"),
        ({"render": pb.Render()}, "Make first"),
    ],
)
def test_requests_out_of_order_are_refused_and_do_nothing(body, words):
    client = Client(InHand(EnvLoop(make_trouble)))
    error = client.ask(**body).error
    assert (error.code, words in error.message) == (pb.Error.FAILED_PRECONDITION, True)
    client.hello()
    client.make()


@pytest.mark.parametrize("body", [{"hello": pb.Hello(version=1)}, {"make": pb.Make()}])
def test_hello_and_make_come_once(body):
    client = talk()
    client.make()
    assert client.ask(**body).error.code == pb.Error.FAILED_PRECONDITION


def test_made_describes_spaces_and_metadata():
    made = talk().make()
    assert space_from_message(made.observation_space) == Trouble.observation_space
    assert space_from_message(made.action_space) == Trouble.action_space
    assert map_from_message(made.metadata)["render_fps"] == 30


@pytest.mark.parametrize(
    ("fields", "limits", "code", "words"),
    [
        ({"env_id": "other"}, {}, pb.Error.NOT_FOUND, "'other'"),
        ({"count": 9}, {"max_envs": 8}, pb.Error.RESOURCE_EXHAUSTED, "at most 8"),
        ({"kwargs": length(3)}, {"are_kwargs_allowed": False}, pb.Error.INVALID_ARGUMENT, "length"),
        ({"frame_skip": 2**31}, {}, pb.Error.INVALID_ARGUMENT, "frame_skip"),
        ({"autoreset": 9}, {}, pb.Error.INVALID_ARGUMENT, "mode 9"),
        ({"picture": pb.Picture(is_grey=True)}, {}, pb.Error.INVALID_ARGUMENT, "uint8[H, W"),
    ],
)
def test_a_make_that_makes_no_sense_is_refused_and_another_works(fields, limits, code, words):
    client = talk(limits=Limits(**limits))
    error = client.ask(make=pb.Make(**fields)).error
    assert (error.code, words in error.message) == (code, True), error
    client.make()


def test_of_several_ids_one_must_be_named():
    asked = []

    def factory(env_id, kwargs):
        asked.append(env_id)
        return Trouble(**kwargs)

    client = talk(factory, env_ids=["a", "b"])
    assert "a, b" in client.ask(make=pb.Make()).error.message
    client.make(env_id="b", count=2)
    assert asked == ["b", "b"]


def test_the_only_id_need_not_be_named():
    asked = []

    def factory(env_id, kwargs):
        asked.append((env_id, kwargs))
        return Trouble(**kwargs)

    talk(factory, env_ids=["a"]).make(render_mode="rgb_array", kwargs=length(4))
    assert asked == [("a", {"length": 4, "render_mode": "rgb_array"})]


def test_where_any_id_is_taken_the_factory_is_asked():
    asked = []

    def factory(env_id, kwargs):
        asked.append(env_id)
        if env_id == "nope":
            raise refused(pb.Error.NOT_FOUND, "make: there is no nope")
        return Trouble(**kwargs)

    client = talk(factory, env_ids=[ANY_ENV])
    assert client.ask(make=pb.Make(env_id="nope")).error.message == "make: there is no nope"
    assert "say which" in client.ask(make=pb.Make()).error.message
    client.make(env_id="b")
    assert asked == ["nope", "b"]


def test_a_bare_name_of_a_socket_is_told_to_all_who_came_and_so_is_memory(tmp_path):
    options = {"local_socket": "lockstep.sock", "memory_directory": tmp_path}
    client = Client(InHand(EnvLoop(make_trouble, **options)))
    assert client.hello(machine="another").local_socket == "lockstep.sock"
    made = client.make(count=1000, wants_shared_memory=True)
    assert [path.name for path in tmp_path.iterdir()] == [made.shared_memory]
    client.close()
    assert list(tmp_path.iterdir()) == []


def test_a_factory_that_raises_halfway_closes_what_it_made():
    closed = []

    class Counted(Trouble):
        def close(self):
            closed.append(self)

    made: list[Counted] = []

    def factory(_env_id, _kwargs):
        if len(made) == 2:
            raise LookupError("enough")
        made.append(Counted())
        return made[-1]

    error = talk(factory).ask(make=pb.Make(count=3)).error
    assert (error.type, error.message) == ("LookupError", "enough")
    assert 'raise LookupError("enough")' in error.traceback
    assert closed == made


def test_environments_of_different_spaces_cannot_share_a_conversation():
    turns = iter([2, 3])

    def factory(_env_id, _kwargs):
        env = Trouble()
        env.action_space = spaces.Discrete(next(turns))
        return env

    error = talk(factory).ask(make=pb.Make(count=2)).error
    assert "different spaces" in error.message
    assert "Discrete(3)" in error.message


def test_a_space_that_the_protocol_cannot_say_is_named():
    def factory(_env_id, _kwargs):
        env = Trouble()
        env.observation_space = spaces.Sequence(spaces.Discrete(2))
        return env

    assert "Sequence" in talk(factory).ask(make=pb.Make()).error.message


# Reset


def test_reset_gives_each_environment_its_seed_and_options():
    client = talk()
    client.make(count=3)
    options = value_to_message([{"level": 1}, {}, {"level": np.float32(3)}])
    batch = client.reset(seeds=[4, -1, 6], options=options)
    infos = [value_from_message(info) for info in batch.infos]
    assert [info.get("seed") for info in infos] == [4, None, 6]
    assert infos[0]["options"] == {"level": 1}
    assert infos[2]["options"]["level"] == np.float32(3)
    assert observations(batch).tolist() == [[4, 0], [0, 0], [6, 0]]
    assert np.frombuffer(batch.rewards).tolist() == [0, 0, 0]
    assert (batch.terminated, batch.truncated) == (bytes(3), bytes(3))


def test_reset_of_some_leaves_the_others_alone_and_keeps_the_order_asked_for():
    client = talk()
    client.make(count=3)
    client.reset()
    client.step(0, 0, 0)
    batch = client.reset(envs=[2, 0], seeds=[7, 8], options=value_to_message({"a": 1}))
    assert list(batch.envs) == [2, 0]
    assert observations(batch).tolist() == [[7, 0], [8, 0]]
    assert observations(client.step(0, 0, 0).batch)[:, 1].tolist() == [1, 2, 1]


def test_infos_are_left_out_where_all_are_empty():
    client = talk()
    client.make(count=2)
    assert len(client.reset().infos) == 0
    assert len(client.step(0, 8).batch.infos) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"envs": [0, 0]}, "twice"),
        ({"envs": [2]}, "no environment 2"),
        ({"seeds": [1]}, "1 seeds for 2"),
        ({"seeds": [1, -2]}, "0 or more"),
        ({"options": value_to_message([{}])}, "1 options for 2"),
        ({"options": value_to_message("x" * 2)}, "Map"),
        ({"options": value_to_message([1, 2])}, "Map"),
    ],
)
def test_a_reset_that_makes_no_sense_is_refused(fields, words):
    client = talk()
    client.make(count=2)
    error = client.ask(reset=pb.Reset(**fields)).error
    assert (error.code, words in error.message) == (pb.Error.INVALID_ARGUMENT, True), error


def test_a_reset_that_raises_is_a_failure_and_the_next_one_makes_the_environment_anew():
    client = talk()
    client.make(count=2)
    batch = client.reset(options=value_to_message([{"raise": True}, {}]))
    assert [(f.env, f.outcome, f.error.type) for f in batch.failures] == [
        (0, "env_failure", "RuntimeError")
    ]
    assert batch.truncated == bytes([1, 0])
    assert not client.reset().failures


def test_a_reset_that_comes_too_late_is_told_as_a_timeout():
    class Slow(Trouble):
        def reset(self, *, seed=None, options=None):
            raise StepTimeout("no answer within 1 s")

    client = talk(lambda _env_id, _kwargs: Slow())
    client.make()
    (failure,) = client.reset().failures
    assert (failure.outcome, failure.error.message) == ("timeout", "no answer within 1 s")


# Step


def test_a_step_before_any_reset_is_refused():
    client = talk()
    client.make()
    error = client.step(0).error
    assert (error.code, "reset it first" in error.message) == (pb.Error.FAILED_PRECONDITION, True)


def test_next_step_resets_with_the_step_after_an_end_and_ignores_its_action():
    client = talk()
    client.make(count=2, kwargs=length(1), autoreset=pb.NEXT_STEP)
    client.reset()
    assert client.step(0, 8).batch.terminated == bytes([1, 0])
    batch = client.step(99, 0).batch
    assert observations(batch).tolist() == [[0, 0], [0, 2]]
    assert np.frombuffer(batch.rewards).tolist() == [0, 1]
    assert batch.terminated == bytes([0, 1])


def test_same_step_resets_at_once_and_gives_the_last_observation_and_info_apart():
    client = talk()
    client.make(count=2, kwargs=length(1), autoreset=pb.SAME_STEP)
    client.reset()
    batch = client.step(0, 8).batch
    assert observations(batch).tolist() == [[0, 0], [0, 1]]
    assert np.frombuffer(batch.rewards).tolist() == [1, 0.5]
    assert batch.terminated == bytes([1, 0])
    [final] = batch.finals
    last = single_from_messages(Trouble.observation_space, final.observation)
    assert (final.env, last.tolist(), value_from_message(final.info)) == (0, [0, 1], {})


def test_a_disabled_autoreset_refuses_steps_after_an_end_until_a_reset():
    client = talk()
    client.make(count=2, kwargs=length(1), autoreset=pb.DISABLED)
    client.reset()
    client.step(0, 8)
    error = client.step(0, 0).error
    assert (error.code, "environment 0" in error.message) == (pb.Error.FAILED_PRECONDITION, True)
    assert client.step(0, envs=[1]).batch.terminated == bytes([1])
    client.reset(envs=[0])
    assert not client.step(8, envs=[0]).batch.failures


@pytest.mark.parametrize("autoreset", [pb.NEXT_STEP, pb.SAME_STEP])
def test_an_environment_that_raised_is_made_anew_by_the_next_step(autoreset):
    client = talk()
    client.make(count=2, autoreset=autoreset)
    client.reset(seeds=[3, 4])
    client.step(0, 0)
    batch = client.step(1, 0).batch
    assert [f.env for f in batch.failures] == [0]
    assert observations(batch).tolist() == [[0, 1], [0, 2]]
    assert batch.truncated == bytes([1, 0])
    batch = client.step(0, 0).batch
    assert observations(batch).tolist() == [[0, 0], [0, 3]]
    assert not batch.failures


def test_an_environment_that_raised_waits_for_a_reset_where_autoreset_is_disabled():
    client = talk()
    client.make(autoreset=pb.DISABLED)
    client.reset()
    client.step(1)
    assert client.step(0).error.code == pb.Error.FAILED_PRECONDITION
    assert not client.reset().failures


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        (1, "ValueError", "told to raise"),
        (5, "SystemExit", "told to exit"),
        (6, "", "not in its space"),
        (7, "TypeError", "NoneType"),
    ],
)
def test_what_an_environment_does_wrong_is_its_failure_alone(action, kind, words):
    client = talk()
    client.make(count=2)
    client.reset()
    batch = client.step(0, action).batch
    [failure] = batch.failures
    assert (failure.env, failure.outcome, failure.error.type) == (1, "env_failure", kind)
    assert words in failure.error.message
    assert (batch.terminated, batch.truncated) == (bytes(2), bytes([0, 1]))
    assert observations(batch)[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    "step",
    [
        lambda self, action: None,
        lambda self, action: (np.zeros(2, np.float32), 0.0, False, False),
        lambda self, action: (None, 0.0, False, False, {}),
        lambda self, action: ("text", 0.0, False, False, {}),
        lambda self, action: (np.zeros(2, np.float32), 0.0, False, False, [1]),
        lambda self, action: (np.zeros(2, np.float32), "much", False, False, {}),
        lambda self, action: (np.zeros(2, np.float32), 0.0, np.zeros(2), False, {}),
    ],
)
def test_a_step_that_returns_something_else_is_a_failure(monkeypatch, step):
    monkeypatch.setattr(Trouble, "step", step)
    client = talk()
    client.make()
    client.reset()
    assert [f.env for f in client.step(0).batch.failures] == [0]
    assert not client.reset().failures


def test_an_exception_that_cannot_even_be_printed_is_a_failure(monkeypatch):
    class Nasty(Exception):
        def __str__(self):
            raise RuntimeError

    def step(self, action):
        raise Nasty

    monkeypatch.setattr(Trouble, "step", step)
    client = talk()
    client.make()
    client.reset()
    assert client.step(0).batch.failures[0].error.type.endswith("Nasty")


@pytest.mark.parametrize(
    ("space", "leaf", "words"),
    [
        (spaces.Discrete(3, start=1), np.array([4]), "Discrete(3, start=1)"),
        (spaces.Discrete(3, start=1), np.array([0]), "Discrete(3, start=1)"),
        (spaces.Box(-1, 1, (2,)), np.array([[0, 2]], np.float32), "Box(-1.0, 1.0, (2,), float32)"),
        (spaces.Box(-1, 1, (2,)), np.array([[0, np.nan]], np.float32), "NaN"),
        (spaces.Box(-1, 1, (2,)), np.array([[0, 0]], np.float64), "float32"),
        (spaces.Box(-1, 1, (2,)), np.zeros((1, 3), np.float32), "Box(-1.0, 1.0, (2,), float32)"),
        (spaces.MultiDiscrete([2, 3]), np.array([[1, 3]]), "MultiDiscrete([2 3])"),
        (spaces.MultiBinary(2), np.array([[1, 2]], np.int8), "MultiBinary(2)"),
        (spaces.Text(2), ["abc"], "Text"),
    ],
)
def test_an_action_that_is_not_in_its_space_is_refused_with_the_space(space, leaf, words):
    taken = []

    class Taking(Trouble):
        action_space = space

        def step(self, action):
            taken.append(action)
            return super().step(0)

    client = talk(lambda _env_id, _kwargs: Taking())
    client.make()
    client.reset()
    error = client.ask(step=pb.Step(actions=leaves_to_messages([leaf]))).error
    assert (error.code, words in error.message) == (pb.Error.INVALID_ARGUMENT, True), error
    assert taken == []


def test_a_step_with_too_few_leaves_is_refused():
    client = talk()
    client.make()
    client.reset()
    assert client.ask(step=pb.Step()).error.code == pb.Error.INVALID_ARGUMENT


def test_an_environment_may_change_its_action():
    class Changing(Trouble):
        action_space = spaces.Box(-1, 1, (2,))

        def step(self, action):
            action *= 2
            return super().step(0)

    client = talk(lambda _env_id, _kwargs: Changing())
    client.make(count=2)
    client.reset()
    batch = client.step([0, 0], [1, 1], dtype=np.float32).batch
    assert not batch.failures


def test_frame_skip_adds_rewards_and_stops_at_an_end():
    client = talk()
    client.make(frame_skip=4, kwargs=length(6))
    client.reset()
    batch = client.step(0).batch
    assert (np.frombuffer(batch.rewards).tolist(), observations(batch)[0, 1]) == ([4], 4)
    batch = client.step(0).batch
    assert (np.frombuffer(batch.rewards).tolist(), batch.terminated) == ([2], bytes([1]))


EVERYTHING = spaces.Dict(
    {
        "box": spaces.Box(-1, 1, (2, 3), np.float64),
        "deep": spaces.Tuple([spaces.Discrete(5, start=-2), spaces.Text(4, min_length=0)]),
        "bits": spaces.MultiBinary([2, 2]),
        "many": spaces.MultiDiscrete([3, 4]),
        "small": spaces.Box(-128, 127, (), np.int8),
        "flags": spaces.Box(0, 1, (3,), np.bool_),
    }
)


@given(seed=st.integers(0, 2**31), count=st.integers(1, 3))
def test_values_of_any_space_pass_both_ways(seed, count):
    class Mirror(Trouble):
        """Shows what it is told."""

        observation_space = action_space = EVERYTHING

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

        def step(self, action):
            return action, 0.0, False, False, {}

    EVERYTHING.seed(seed)
    client = talk(lambda _env_id, _kwargs: Mirror())
    client.make(count=count)
    client.reset()
    actions = [EVERYTHING.sample() for _ in range(count)]
    messages = leaves_to_messages(stack_values(EVERYTHING, actions))
    batch = client.ask(step=pb.Step(actions=messages)).batch
    assert not batch.failures
    leaves = leaves_from_messages(batch.observations, leaf_spaces(EVERYTHING), count)
    for action, seen in zip(actions, unstack_values(EVERYTHING, leaves, count), strict=True):
        assert EVERYTHING.contains(seen)
        # Gymnasium samples a Box without axes as a numpy scalar.
        assert data_equivalence({**action, "small": np.asarray(action["small"])}, seen)


# Render


def test_render_gives_pictures_on_demand():
    client = talk()
    client.make(count=2, render_mode="rgb_array")
    client.reset()
    client.step(0, 0)
    client.step(0, envs=[1])
    pictures = client.ask(render=pb.Render(envs=[1, 0])).pictures.pictures
    assert [list(picture.shape) for picture in pictures] == [[4, 6, 3], [4, 6, 3]]
    assert [picture.data[0] for picture in pictures] == [2, 1]


@pytest.mark.parametrize("rendered", [None, "text", [1], np.zeros((2, 2)), np.zeros((2, 2, 3))])
def test_what_is_no_picture_has_an_empty_shape(monkeypatch, rendered):
    monkeypatch.setattr(Trouble, "render", lambda self: rendered)
    client = talk()
    client.make()
    client.reset()
    [picture] = client.ask(render=pb.Render()).pictures.pictures
    assert (list(picture.shape), picture.data) == ([], b"")


def test_a_rendering_that_raises_is_an_error_and_the_episode_goes_on(monkeypatch):
    def render(self):
        raise OSError("no screen")

    monkeypatch.setattr(Trouble, "render", render)
    client = talk()
    client.make()
    client.reset()
    error = client.ask(render=pb.Render()).error
    assert (error.type, error.message) == ("OSError", "no screen")
    assert observations(client.step(0).batch)[0, 1] == 1


# Bytes


@given(data=st.binary(max_size=300))
def test_any_bytes_get_a_response(data):
    loop = EnvLoop(make_trouble)
    response = pb.Response.FromString(loop.handle_bytes(data))
    assert response.WhichOneof("body") in ("error", "welcome")


def test_an_answer_beyond_the_limit_is_a_clear_error():
    client = talk(limits=Limits(max_message_bytes=1024))
    client.make(count=900)
    error = client.ask(reset=pb.Reset()).error
    assert (error.code, "1024" in error.message) == (pb.Error.RESOURCE_EXHAUSTED, True)
    assert len(client.reset(envs=[0, 1]).envs) == 2


def test_closing_closes_each_environment_once(monkeypatch):
    closed = []
    monkeypatch.setattr(Trouble, "close", lambda self: closed.append(self))
    client = talk()
    client.make(count=2)
    client.close()
    client.close()
    assert len(closed) == 2
