from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.errors import (
    ConfigError,
    HandshakeRefused,
    LocalProtocolError,
    RaygymError,
    RemoteEnvError,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.session import LockstepSession, MakeOptions
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import Trouble
from tests.support.remote_envs import told
from tests.support.rpc_peers import LoopChannel

ACTION = np.zeros(2, np.int64)


def opened(factory: Any = Trouble, count: int = 2) -> tuple[LockstepSession, LoopChannel]:
    channel = LoopChannel(factory)
    session = LockstepSession(channel, name="peer")
    session.hello(client_id="me", timeout_s=1)
    session.make(MakeOptions(count=count), timeout_s=1)
    return session, channel


class Scripted:
    """Answers with whatever it was given."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.is_closed = False

    def ask(self, _request: bytes, *, timeout_s: float) -> bytes:
        assert timeout_s > 0
        return self.answers.pop(0)

    def close(self) -> None:
        self.is_closed = True


def test_rows_hold_what_the_environments_gave():
    session, _ = opened()
    rows = session.reset(seeds=[5, None], timeout_s=1)
    assert rows.observations[0].tolist() == [[5, 0], [0, 0]]
    rows = session.step([ACTION], timeout_s=1)
    assert rows.rewards.tolist() == [1, 1]
    assert rows.terminated.tolist() == rows.truncated.tolist() == [False, False]
    assert (list(rows.infos), list(rows.finals), list(rows.failures)) == ([], [], [])
    rows = session.step([ACTION[:1]], envs=[1], timeout_s=1)
    assert rows.observations[0].tolist() == [[0, 2]]
    assert [picture.max() for picture in session.render(timeout_s=1)] == [1, 2]
    session.close()


def test_requests_are_numbered_and_say_who_asks():
    session, channel = opened()
    session.reset(timeout_s=1)
    assert [request.id for request in channel.requests] == [1, 2, 3]
    assert channel.requests[0].hello.client_id == "me"
    assert channel.requests[0].hello.version == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pb.Error.INVALID_ARGUMENT, ConfigError),
        (pb.Error.NOT_FOUND, ConfigError),
        (pb.Error.RESOURCE_EXHAUSTED, ConfigError),
        (pb.Error.FAILED_PRECONDITION, LocalProtocolError),
        (pb.Error.DEADLINE_EXCEEDED, StepTimeout),
        (pb.Error.UNAVAILABLE, SessionLost),
        (pb.Error.UNAUTHENTICATED, HandshakeRefused),
        (pb.Error.INTERNAL, RemoteEnvError),
        (pb.Error.UNKNOWN, RemoteEnvError),
        (99, RemoteEnvError),
    ],
)
def test_errors_of_the_far_end_are_raised_and_leave_the_session_open(code, kind):
    error = pb.Error(code=code, message="no good")
    session = LockstepSession(
        Scripted(pb.Response(id=1, error=error).SerializeToString()), name="p"
    )
    with pytest.raises(kind, match="p: no good"):
        session.hello(timeout_s=1)
    assert not session.is_closed


def test_what_may_succeed_later_is_no_error_of_a_setting():
    error = pb.Error(code=pb.Error.RESOURCE_EXHAUSTED, message="all in use", is_passing=True)
    session = LockstepSession(
        Scripted(pb.Response(id=1, error=error).SerializeToString()), name="p"
    )
    with pytest.raises(RemoteUnreachable, match="p: all in use"):
        session.hello(timeout_s=1)


def test_an_error_that_was_raised_there_comes_with_type_and_traceback():
    error = pb.Error(message="no good", type="mod.Kind", traceback="line 1")
    session = LockstepSession(
        Scripted(pb.Response(id=1, error=error).SerializeToString()), name="p"
    )
    with pytest.raises(RemoteEnvError, match=r"mod\.Kind: no good") as caught:
        session.hello(timeout_s=1)
    assert (caught.value.type, caught.value.remote_traceback) == ("mod.Kind", "line 1")


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff",
        b"",
        pb.Response(id=2, welcome=pb.Welcome(version=1)).SerializeToString(),
        pb.Response(id=1, batch=pb.Batch()).SerializeToString(),
        pb.Response(id=1, welcome=pb.Welcome(version=2)).SerializeToString(),
    ],
)
def test_an_answer_that_makes_no_sense_closes_the_session(answer):
    channel = Scripted(answer)
    session = LockstepSession(channel, name="peer")
    with pytest.raises(RemoteProtocolError, match="peer"):
        session.hello(timeout_s=1)
    assert session.is_closed
    assert channel.is_closed


def _no_rewards(batch: pb.Batch) -> None:
    batch.rewards = b""


def _short_ends(batch: pb.Batch) -> None:
    batch.truncated = b"\0"


def _one_info(batch: pb.Batch) -> None:
    batch.infos.add().map.SetInParent()


def _one_row(batch: pb.Batch) -> None:
    del batch.envs[1:]


def _no_leaf(batch: pb.Batch) -> None:
    del batch.observations[:]


def _offset(batch: pb.Batch) -> None:
    batch.observations[0].array.ClearField("data")
    batch.observations[0].array.offset = 2**40


def _dtype(batch: pb.Batch) -> None:
    batch.observations[0].array.dtype = "<f8"


def _strange_failure(batch: pb.Batch) -> None:
    batch.failures.add(env=0, outcome="ok")


def _far_failure(batch: pb.Batch) -> None:
    batch.failures.add(env=2, outcome="timeout")


def _far_final(batch: pb.Batch) -> None:
    batch.finals.add(env=7)


@pytest.mark.parametrize(
    "damage",
    [
        _no_rewards,
        _short_ends,
        _one_info,
        _one_row,
        _no_leaf,
        _offset,
        _dtype,
        _strange_failure,
        _far_failure,
        _far_final,
    ],
)
def test_a_batch_that_makes_no_sense_closes_the_session(damage):
    session, channel = opened()
    session.reset(timeout_s=1)
    channel.change = lambda response: damage(response.batch)
    with pytest.raises(RemoteProtocolError, match="the conversation was closed"):
        session.step([ACTION], timeout_s=1)
    assert session.is_closed
    assert channel.is_closed


def test_pictures_too_few_close_the_session():
    session, channel = opened()
    session.reset(timeout_s=1)
    channel.change = lambda response: response.pictures.pictures.pop()
    with pytest.raises(RemoteProtocolError, match="1 pictures came for 2"):
        session.render(timeout_s=1)
    assert session.is_closed


def test_spaces_that_make_no_sense_close_the_session():
    channel = LoopChannel(Trouble)
    session = LockstepSession(channel, name="peer")
    session.hello(timeout_s=1)
    channel.change = lambda response: response.made.observation_space.Clear()
    with pytest.raises(RemoteProtocolError):
        session.make(MakeOptions(), timeout_s=1)
    assert session.is_closed


def test_whatever_the_channel_raises_closes_the_session():
    session, channel = opened()
    channel.trouble = StepTimeout("late")
    with pytest.raises(StepTimeout):
        session.reset(timeout_s=1)
    assert session.is_closed


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "x"])
def test_seeds_that_cannot_be_sent_are_refused(seed):
    session, _ = opened()
    with pytest.raises(ConfigError, match="seed"):
        session.reset(seeds=[seed, 1], timeout_s=1)
    assert not session.is_closed


@given(st.data())
def test_damaged_answers_raise_nothing_but_raygyms_own_errors(data):
    session, channel = opened(told)
    answers = []
    channel.change = lambda response: answers.append(response.SerializeToString())
    session.reset(seeds=[1, 2], timeout_s=1)
    damaged = bytearray(answers[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    script = Scripted(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    session._channel = script
    session._id = pb.Response.FromString(answers[0]).id - 1
    try:
        rows = session.reset(seeds=[1, 2], timeout_s=1)
    except RaygymError:
        return
    assert len(rows.rewards) == 2
