from __future__ import annotations

import gymnasium
import pytest

from raygym.errors import (
    HandshakeRefused,
    RemoteProtocolError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.session import LockstepSession
from tests.support.lockstep import Trouble
from tests.support.rpc_peers import LoopServer


def refused() -> RemoteUnreachable:
    return RemoteUnreachable("nothing listens", problem="refused")


def lost_link() -> tuple:
    server = LoopServer(Trouble)
    link = server.link()
    channel = server.channels[0]
    channel.trouble = SessionLost("gone")
    with pytest.raises(SessionLost) as caught:
        link.session.reset(timeout_s=1)
    assert link.forget_if_lost(caught.value)
    return server, link


def test_a_session_that_lives_is_kept():
    link = LoopServer(Trouble).link()
    assert link.ensure() is link.session
    assert not link.forget_if_lost(RuntimeError())
    assert link.sessions_lost == 0


def test_the_first_connection_is_tried_once():
    server = LoopServer(Trouble)
    server.refusals = [refused(), refused()]
    with pytest.raises(RemoteUnreachable):
        server.link()
    assert len(server.refusals) == 1
    assert server.slept_s == []


def test_a_lost_session_is_replaced_with_pauses_that_grow():
    server, link = lost_link()
    server.refusals = [refused() for _ in range(7)]
    link.ensure()
    assert server.slept_s == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1, 1])
    assert link.sessions_lost == 1
    assert link.session is not None


def test_it_gives_up_at_the_deadline():
    server, link = lost_link()
    server.refusals = [refused() for _ in range(1000)]
    with pytest.raises(RemoteUnreachable):
        link.ensure()
    assert sum(server.slept_s) == pytest.approx(10.0)


def test_what_time_does_not_mend_is_raised_at_once():
    server, link = lost_link()
    server.refusals = [HandshakeRefused("no", problem="token_wrong")]
    with pytest.raises(HandshakeRefused):
        link.ensure()
    server.refusals = [RemoteUnreachable("no", problem="not_grpc")]
    with pytest.raises(RemoteUnreachable):
        link.ensure()
    assert server.slept_s == []


def test_other_spaces_than_before_are_refused():
    class Other(Trouble):
        action_space = gymnasium.spaces.Discrete(3)

    server, link = lost_link()
    server.factory = Other
    with pytest.raises(RemoteProtocolError, match="came back with other spaces"):
        link.ensure()
    assert server.channels[-1].is_closed


def ask(session: LockstepSession):
    return session.reset(seeds=[7], timeout_s=1)


def test_a_reset_that_finds_its_session_lost_is_asked_once_more():
    server = LoopServer(Trouble)
    link = server.link()
    server.channels[0].trouble = SessionLost("gone")
    assert link.reset(ask).observations[0].tolist() == [[7, 0]]
    assert link.sessions_lost == 1


def test_a_reset_that_loses_a_new_session_too_raises():
    server, link = lost_link()
    plain_open = server.open

    def open_broken(*, timeout_s: float) -> LockstepSession:
        session = plain_open(timeout_s=timeout_s)
        channel = server.channels[-1]
        channel.change = lambda _response: setattr(channel, "trouble", SessionLost("again"))
        return session

    link._open_session = open_broken
    with pytest.raises(SessionLost, match="again"):
        link.reset(ask)
    link._open_session = plain_open
    assert link.reset(ask).observations[0].tolist() == [[7, 0]]


def test_a_reset_beyond_its_deadline_is_not_repeated():
    server = LoopServer(Trouble)
    link = server.link()
    server.channels[0].trouble = StepTimeout("late")
    with pytest.raises(StepTimeout):
        link.reset(ask)
    assert len(server.channels) == 1
    assert link.session is None
    link.close()
    link.close()


def test_shared_memory_that_cannot_be_mapped_is_done_without():
    server = LoopServer(Trouble)

    def no_such_memory(response):
        if response.HasField("made") and server.channels[-1].requests[-1].make.wants_shared_memory:
            response.made.shared_memory = "/proc/0/fd/0"
            response.made.shared_memory_bytes = 10

    plain_open = server.open

    def open_with_memory(*, timeout_s: float) -> LockstepSession:
        session = plain_open(timeout_s=timeout_s)
        server.channels[-1].change = no_such_memory
        return session

    server.open = open_with_memory
    link = server.link()
    assert len(server.channels) == 2
    assert server.channels[0].is_closed
    assert not link.session.is_sharing_memory
    link.reset(ask)
