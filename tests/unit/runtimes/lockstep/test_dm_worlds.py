"""The states of dm_env_rpc: worlds, joining, sequences, settings, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf import any_pb2
from gymnasium import spaces

from raygym.runtimes.lockstep.dm_worlds import MAX_WORLDS_PER_STREAM
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.unit.runtimes.lockstep.dm_peer import Peer, Server

INVALID = pb.Error.INVALID_ARGUMENT
FAILED = pb.Error.FAILED_PRECONDITION
LEFT = {1: np.int64(0)}


def assert_refused(answer: Any, code: int, *parts: str) -> None:
    assert isinstance(answer, dm.Status), answer
    assert answer.code == code
    for part in parts:
        assert part in answer.message


def test_a_sequence_starts_ignoring_actions_runs_ends_and_starts_again() -> None:
    server = Server()
    peer = server.joined()
    states = [peer.step({1: np.int64(2)}, 1).state for _ in range(6)]
    assert states == [
        dm.RUNNING,
        dm.RUNNING,
        dm.RUNNING,
        dm.TERMINATED,
        dm.RUNNING,
        dm.RUNNING,
    ]
    assert len(server.made[0].seeds) == 2
    assert server.made[0].actions == [[2]] * 4


def test_a_cut_episode_is_interrupted() -> None:
    peer = Server(end=dm.INTERRUPTED).joined()
    assert [peer.step(LEFT).state for _ in range(4)][-1] == dm.INTERRUPTED


def test_only_what_was_requested_comes_back_and_once() -> None:
    peer = Server().joined()
    assert not peer.step().observations
    observations = peer.step(LEFT, 2, 2).observations
    assert set(observations) == {2}
    assert set(peer.step(LEFT, 1, 2).observations) == {1, 2}


def test_the_picture_is_offered_and_sent_only_where_the_environment_renders() -> None:
    assert 3 not in Server().joined().reset().specs.observations
    peer = Server(picture_shape=(4, 5, 3)).joined()
    spec = peer.reset().specs.observations[3]
    assert (spec.name, list(spec.shape), spec.dtype) == ("rendering", [4, 5, 3], dm.UINT8)
    picture = peer.step({}, 3).observations[3]
    assert (list(picture.shape), len(picture.uint8s.array)) == ([4, 5, 3], 60)


def test_reset_sends_the_same_specs_and_begins_anew() -> None:
    server = Server()
    peer = server.peer()
    peer.create()
    specs = peer.join(peer.world).specs
    peer.step()
    assert peer.reset().specs == specs
    assert peer.reset().specs == specs
    assert peer.step().state == dm.RUNNING
    assert len(server.made[0].seeds) == 2


def test_a_seed_counts_for_one_sequence_wherever_it_is_set() -> None:
    server = Server()
    peer = server.peer()
    peer.create(seed=np.int32(1))
    peer.join(peer.world)
    peer.step()
    peer.reset(seed=np.uint64(2))
    peer.step()
    peer.reset_world(peer.world, seed=np.int64(3))
    peer.step()
    peer.reset()
    peer.step()
    peer.leave()
    peer.join(peer.world, seed=np.int64(4))
    peer.step()
    assert server.made[0].seeds == [1, 2, 3, None, 4]


@pytest.mark.parametrize("seed", [-1, 1.0, "one", [1, 2]])
def test_a_seed_that_is_no_number_from_0_is_refused(seed: Any) -> None:
    assert_refused(Server().joined().reset(seed=np.asarray(seed)[()]), INVALID, "seed")


@pytest.mark.parametrize("request_name", ["create", "join", "reset", "reset_world"])
def test_an_unknown_setting_is_refused_by_name(request_name: str) -> None:
    peer = Server().peer()
    if request_name == "create":
        answer = peer.create(nonsense=1)
    else:
        peer.create()
        if request_name == "reset":
            peer.join(peer.world)
            answer = peer.reset(nonsense=1)
        else:
            answer = getattr(peer, request_name)(peer.world, nonsense=1)
    assert_refused(answer, INVALID, "nonsense", "seed")


def test_remote_gyms_arguments_name_an_environment_and_its_keywords() -> None:
    server = Server()
    kwargs = {"size": 4, "render_mode": "rgb_array"}
    server.peer().create(args=json.dumps({"entrypoint": "Maze-v0", "entrypoint_kwargs": kwargs}))
    server.peer().create(args="{}")
    server.peer().create(env_id="Other-v0", render_mode="rgb_array")
    maze, default, other = server.settings
    assert (maze.env_id, maze.kwargs, maze.render_mode) == ("Maze-v0", {"size": 4}, "rgb_array")
    assert (default.env_id, default.kwargs, default.render_mode) == ("", {}, "")
    assert (other.env_id, other.render_mode) == ("Other-v0", "rgb_array")


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"entrypoint_kwargs": 3}', "object"),
        ('{"entrypoint": 3}', "strings"),
        ('{"entrypoint": "\\ud800"}', "strings"),
        ('{"\\ud800": 3}', "ud800"),
        ('{"repo": "https://example.org/x.git"}', "repositories"),
        ('{"colour": 1}', "colour"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(args: str, part: str) -> None:
    assert_refused(Server().peer().create(args=args), INVALID, "args", part)


def test_settings_of_the_wrong_type_are_refused() -> None:
    peer = Server().peer()
    assert_refused(peer.create(env_id=3), INVALID, "env_id", "string")
    assert_refused(peer.create(seed=dm.Tensor()), INVALID, "seed")


def test_worlds_have_names_of_their_own_and_a_stream_not_too_many() -> None:
    server = Server()
    peer = server.peer()
    names = {peer.create().world_name for _ in range(MAX_WORLDS_PER_STREAM)}
    assert len(names) == MAX_WORLDS_PER_STREAM
    assert_refused(peer.create(), pb.Error.RESOURCE_EXHAUSTED, "destroy")
    peer.destroy(peer.world)
    assert isinstance(peer.create(), dm.CreateWorldResponse)


def test_an_unknown_world_cannot_be_joined_reset_or_destroyed() -> None:
    peer = Server().peer()
    for answer in (peer.join("x"), peer.reset_world("x"), peer.destroy("x")):
        assert_refused(answer, pb.Error.NOT_FOUND, "'x'")


def test_a_stream_joins_one_world_and_a_world_has_one_player() -> None:
    server = Server()
    peer = server.joined()
    assert_refused(peer.join(peer.world), FAILED, "joined")
    assert_refused(server.peer().join(peer.world), FAILED, "player")


def test_a_stream_may_join_the_world_of_another_and_loses_it_with_that() -> None:
    server = Server()
    owner, guest = server.peer(), server.peer()
    owner.create()
    guest.join(owner.world)
    assert guest.step().state == dm.RUNNING
    assert_refused(owner.destroy(owner.world), FAILED, "player")
    owner.hang_up()
    assert server.made[0].is_closed
    assert_refused(guest.step(), FAILED, "JoinWorld")


def test_only_its_creator_destroys_a_world() -> None:
    server = Server()
    owner = server.peer()
    owner.create()
    assert_refused(server.peer().destroy(owner.world), FAILED, "another stream")
    assert isinstance(owner.destroy(owner.world), dm.DestroyWorldResponse)
    assert server.made[0].is_closed


def test_a_stream_that_ends_takes_its_worlds_along() -> None:
    server = Server()
    peer = server.joined()
    peer.create()
    peer.hang_up()
    assert [world.is_closed for world in server.made] == [True, True]


def test_reset_world_by_another_stream_interrupts_the_player_once() -> None:
    server = Server()
    player = server.joined()
    player.step()
    player.step(LEFT)
    server.peer().reset_world(player.world, seed=np.int64(5))
    answer = player.step(LEFT, 1)
    assert answer.state == dm.INTERRUPTED
    assert np.frombuffer(answer.observations[1].floats.array, "<f4").tolist() == [1.0]
    assert player.step().state == dm.RUNNING
    assert server.made[0].seeds == [None, 5]


def test_leaving_is_allowed_at_any_time_and_destroying_not_while_joined() -> None:
    peer = Server().joined()
    assert_refused(peer.destroy(peer.world), FAILED, "leave")
    assert isinstance(peer.leave(), dm.LeaveWorldResponse)
    assert isinstance(peer.leave(), dm.LeaveWorldResponse)
    assert_refused(peer.step(), FAILED, "JoinWorld")
    assert_refused(peer.reset(), FAILED, "JoinWorld")


def test_a_failed_environment_is_refused_until_a_reset() -> None:
    peer = Server(fails=True).joined()
    peer.step()
    peer.step(LEFT)
    assert_refused(peer.step(LEFT), pb.Error.UNKNOWN, "no ball")
    assert_refused(peer.step(LEFT), FAILED, "Reset")
    peer.reset()
    assert peer.step().state == dm.RUNNING


def test_extensions_and_empty_requests_are_unimplemented() -> None:
    peer = Server().peer()
    assert_refused(peer.send(extension=any_pb2.Any()), pb.Error.UNIMPLEMENTED, "extension")
    assert_refused(peer.send(), pb.Error.UNIMPLEMENTED, "payload")


def running(action_space: spaces.Space[Any], **settings: Any) -> Peer:
    peer = Server(action_space=action_space).joined(**settings)
    peer.step()
    return peer


BOX = spaces.Box(-1, 1, (2, 2), np.float32)


@pytest.mark.parametrize(
    ("space", "sent", "part"),
    [
        (BOX, np.zeros((2, 2), np.float64), "float64"),
        (BOX, np.zeros((2, 2, 1), np.float32), "[2, 2, 1]"),
        (BOX, np.full((2, 2), 1.5, np.float32), "Box"),
        (BOX, np.full((2, 2), np.nan, np.float32), "Box"),
        (BOX, dm.Tensor(shape=[-1, -1], floats=dm.Packed(array=b"\0" * 16)), "-1"),
        (BOX, dm.Tensor(), "payload"),
        (spaces.Discrete(3), np.int64(3), "Discrete(3)"),
        (spaces.Discrete(3), np.int64(-1), "Discrete(3)"),
        (spaces.Discrete(3), np.int32(1), "int32"),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 3]), "MultiDiscrete"),
        (spaces.MultiBinary(3), np.array([0, 1, 2], np.int8), "MultiBinary"),
        (spaces.Text(3), np.int32(1), "Text"),
        (spaces.Text(3), "abcd", "Text"),
    ],
)
def test_an_action_outside_its_space_is_refused_and_nothing_is_done(
    space: spaces.Space[Any], sent: Any, part: str
) -> None:
    peer = running(space)
    assert_refused(peer.step({1: sent}), INVALID, part, "uid 1")
    assert peer.server.made[0].steps == 0


def test_unknown_uids_are_refused_by_number() -> None:
    peer = running(spaces.Discrete(3))
    assert_refused(peer.step({9: np.int64(0)}), INVALID, "9", "'action'")
    assert_refused(peer.step({}, 7), INVALID, "7", "'reward'")


def test_one_element_and_one_free_axis_stand_for_the_whole_action() -> None:
    peer = running(BOX)
    peer.step({1: dm.Tensor(shape=[2, 2], floats=dm.Packed(array=np.float32(0.5).tobytes()))})
    peer.step({1: dm.Tensor(shape=[-1, 2], floats=dm.Packed(array=np.zeros(4, "<f4").tobytes()))})
    first, second = peer.server.made[0].actions
    assert np.array_equal(first[0], np.full((2, 2), 0.5, np.float32))
    assert np.array_equal(second[0], np.zeros((2, 2), np.float32))


NESTED = spaces.Dict(
    {
        "gears": spaces.Tuple([spaces.Discrete(3, start=5), spaces.MultiBinary(2)]),
        "pedal": spaces.Box(0.25, 1, (1,), np.float32),
        "say": spaces.Text(4, min_length=2, charset="ab"),
    }
)


def test_leaves_of_nested_actions_have_dotted_names_and_neutral_values() -> None:
    peer = running(NESTED)
    specs = peer.reset().specs.actions
    names = {spec.name: uid for uid, spec in specs.items()}
    assert set(names) == {"action.gears.0", "action.gears.1", "action.pedal", "action.say"}
    peer.step()
    peer.step({names["action.pedal"]: np.array([0.5], np.float32)})
    gear, bits, pedal, text = peer.server.made[0].actions[0]
    assert (gear, bits.tolist(), pedal.tolist(), text) == (5, [0, 0], [0.5], "aa")
    peer.step()
    assert peer.server.made[0].actions[1][2].tolist() == [0.25]


@pytest.mark.parametrize(
    ("space", "sent", "is_told", "acted"),
    [
        (spaces.Discrete(3, start=-1), np.int64(0), (0, 2), -1),
        (spaces.MultiDiscrete([2, 2], start=[1, 5]), np.array([1, 1]), (0, 1), [2, 6]),
    ],
)
def test_starts_are_shifted_for_peers_that_do_not_know_them(
    space: spaces.Space[Any], sent: Any, is_told: tuple[int, int], acted: Any
) -> None:
    peer = running(space)
    spec = peer.reset().specs.actions[1]
    assert (spec.min.int64s.array[0], spec.max.int64s.array[0]) == is_told
    peer.step()
    peer.step({1: sent})
    assert np.asarray(peer.server.made[0].actions[0][0]).tolist() == acted


def test_starts_stay_for_peers_that_say_that_they_know_them() -> None:
    peer = running(spaces.Discrete(3, start=-1), raygym__caps="spaces")
    assert peer.reset().specs.actions[1].min.int64s.array[0] == -1
    peer.step()
    peer.step({1: np.int64(-1)})
    assert peer.server.made[0].actions == [[-1]]


def test_unbounded_floats_say_so_because_remote_gym_needs_bounds() -> None:
    peer = running(spaces.Box(-np.inf, np.inf, (3,), np.float32))
    spec = peer.reset().specs.actions[1]
    assert np.frombuffer(spec.min.floats.array, "<f4").tolist() == [-np.inf]
    assert np.frombuffer(spec.max.floats.array, "<f4").tolist() == [np.inf]
