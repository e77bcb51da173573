from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from raygym.core import Remote
from raygym.errors import (
    ConfigError,
    RemoteEnvError,
    RemoteFailedToStart,
)
from raygym.remote_env.lockstep_env import LockstepConfig, LockstepEnv
from raygym.remote_env.lockstep_remote import LockstepRemote
from raygym.remote_env.rpc.session import MakeOptions
from tests.support.in_hand import InHandBackend, InHandConnect
from tests.support.lockstep import Trouble

SPACES = Trouble.observation_space, Trouble.action_space


class Played:
    """An environment in lock-step, and what is behind it."""

    def __init__(
        self,
        *,
        spaces: Any = SPACES,
        failing_starts: int = 0,
        failing_connections: int = 0,
        frame_skip: int = 1,
        **kwargs: Any,
    ) -> None:
        self.backend = InHandBackend(failing_starts)
        self.connect = InHandConnect(lambda _id, given: Trouble(**given), failing_connections)
        self.pauses: list[float] = []
        self.is_closed = False
        remote = LockstepRemote(
            self.backend, "test", client_id="me", connect=self.connect, start_timeout_s=5
        )
        options = MakeOptions(
            render_mode="rgb_array",
            frame_skip=frame_skip,
            env_kwargs={"render_mode": "rgb_array", **kwargs},
        )
        self.env = LockstepEnv(
            remote,
            LockstepConfig(name="test.Trouble-v0", options=options, fps=30),
            spaces=spaces,
            close_also=self._close,
            sleep=self.pauses.append,
        )

    def _close(self) -> None:
        self.is_closed = True

    def lose(self) -> None:
        self.connect.channels[-1].is_cut = True


def test_the_first_reset_starts_the_remote_and_close_gives_it_back() -> None:
    played = Played()
    assert played.backend.started == []
    assert played.env.remote_id is None
    observation, info = played.env.reset(seed=7)
    assert observation.tolist() == [7, 0]
    assert (played.env.remotes_started, info["remote_id"], info["seed"]) == (1, "r-1", 7)
    played.env.close()
    played.env.close()
    assert (played.backend.released, played.backend.removed) == (["r-1"], [])
    assert played.is_closed


def test_a_lost_remote_is_removed_and_not_given_back() -> None:
    played = Played()
    played.env.reset()
    played.lose()
    assert played.env.step(0)[3]
    played.env.close()
    assert (played.backend.released, played.backend.removed) == ([], ["r-1"])


def test_a_remote_that_was_taken_away_ends_the_episode_as_preempted(monkeypatch) -> None:
    monkeypatch.setattr("raygym.remote_env.tenancy._LOOK_EVERY_S", 0.0)
    played = Played()
    before, _ = played.env.reset()
    played.backend.taken.add("r-1")
    observation, reward, terminated, truncated, info = played.env.step(0)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert observation.tolist() == before.tolist()
    assert info["outcome"] == "preempted"
    assert "the lease of r-1 was lost" in info["reason"]
    _, info = played.env.reset()
    assert (info["remote_id"], info["outcome"], played.env.remotes_lost) == ("r-2", "ok", 1)
    assert info["claim_causes"] == "preempted"


def test_a_remote_that_was_taken_away_between_episodes_is_not_used_again(monkeypatch) -> None:
    monkeypatch.setattr("raygym.remote_env.tenancy._LOOK_EVERY_S", 0.0)
    played = Played()
    played.env.reset()
    played.backend.taken.add("r-1")
    assert played.env.reset()[1]["remote_id"] == "r-2"


def test_a_worn_remote_is_replaced_at_the_end_of_an_episode() -> None:
    played = Played()
    played.env.reset()
    played.env.step(0)
    played.backend.worn.add("r-1")
    _, info = played.env.reset()
    assert (info["remote_id"], played.env.remotes_lost) == ("r-2", 0)
    assert (played.backend.episodes, played.backend.removed) == ([("r-1", 1)], ["r-1"])
    assert info["claim_causes"] == "worn"


def test_without_known_spaces_the_remote_starts_at_once() -> None:
    played = Played(spaces=None)
    assert played.backend.started == ["r-1"]
    assert (played.env.observation_space, played.env.action_space) == SPACES
    played.env.reset()
    assert played.backend.started == ["r-1"]


def test_a_step_tells_the_outcome_and_the_account_of_the_episode() -> None:
    env = Played(length=3).env
    _, info = env.reset()
    assert (info["outcome"], info["episode_score"], info["episode_steps"]) == ("ok", 0.0, 0)
    told = [env.step(0)[1:] for _ in range(3)]
    assert [(step[0], step[1], step[2]) for step in told] == [
        (1.0, False, False),
        (1.0, False, False),
        (1.0, True, False),
    ]
    assert [step[3]["episode_score"] for step in told] == [1.0, 2.0, 3.0]
    assert [step[3]["episode_steps"] for step in told] == [1, 2, 3]
    assert env.reset()[1]["episode_score"] == 0.0


def test_pictures_are_of_now_and_their_rate_is_that_of_the_steps() -> None:
    env = Played(frame_skip=3).env
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 10}
    assert env.render() is None
    env.reset()
    env.step(0)
    assert np.array_equal(env.render(), np.full((4, 6, 3), 3, np.uint8))


def test_an_env_that_raises_cuts_the_episode_and_keeps_its_remote() -> None:
    played = Played()
    played.env.reset()
    before = played.env.step(0)[0]
    observation, reward, terminated, truncated, info = played.env.step(1)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert np.array_equal(observation, before)
    assert info["outcome"] == "env_failure"
    assert "ValueError: told to raise" in info["reason"]
    played.env.reset()
    assert played.env.step(0)[4]["outcome"] == "ok"
    assert (played.env.remotes_started, played.env.remotes_lost) == (1, 0)


def test_a_lost_remote_cuts_the_episode_counts_at_once_and_is_replaced() -> None:
    played = Played()
    played.env.reset(seed=1)
    before = played.env.step(0)[0]
    played.lose()
    observation, reward, terminated, truncated, info = played.env.step(0)
    assert (reward, terminated, truncated, info["outcome"]) == (0.0, False, True, "infra_failure")
    assert np.array_equal(observation, before)
    assert played.env.remotes_lost == 1
    with pytest.raises(ConfigError, match="call reset first"):
        played.env.step(0)
    _, info = played.env.reset()
    assert (info["remote_id"], played.backend.removed) == ("r-2", ["r-1"])
    assert (played.env.remotes_started, played.env.remotes_lost) == (2, 1)
    assert info["claim_causes"] == "infra_failure"
    assert "claim_s" not in played.env.reset()[1]


def test_a_remote_lost_between_episodes_is_replaced_by_the_reset_itself() -> None:
    played = Played()
    played.env.reset()
    played.lose()
    assert played.env.reset()[1]["remote_id"] == "r-2"
    assert (played.env.remotes_started, played.env.remotes_lost) == (2, 1)


def test_a_start_that_fails_is_tried_again_after_ever_longer_pauses() -> None:
    played = Played(failing_starts=1, failing_connections=1)
    assert played.env.reset()[1]["claim_causes"] == "start_failed"
    assert played.pauses == [0.5, 1.0]
    assert (played.env.remotes_started, played.env.remotes_lost) == (2, 1)
    assert played.backend.removed == ["r-1"]


def test_when_no_remote_gets_ready_the_error_names_all_causes_and_the_log() -> None:
    played = Played(failing_starts=1, failing_connections=2)
    with pytest.raises(RemoteFailedToStart) as caught:
        played.env.reset()
    text = str(caught.value)
    assert "test.Trouble-v0 for me: no remote got ready in 3 tries" in text
    assert "1. told not to start a test for me" in text
    assert "told not to connect to r-1" in text
    assert "log of r-1" in text
    assert played.backend.removed == ["r-1", "r-2"]


def test_an_error_of_the_environments_own_reset_is_raised_at_once() -> None:
    played = Played()
    with pytest.raises(RemoteEnvError, match="told to raise in reset") as caught:
        played.env.reset(options={"raise": True})
    assert caught.value.type == "RuntimeError"
    assert played.backend.started == ["r-1"]
    played.env.reset()


def test_a_remote_with_other_spaces_is_refused() -> None:
    other = gymnasium.spaces.Discrete(3)
    played = Played(spaces=(Trouble.observation_space, other))
    with pytest.raises(RemoteFailedToStart, match="does it run the same version"):
        played.env.reset()
    played.env.close()
    assert played.backend.removed == played.backend.started


def test_a_step_before_any_reset_is_refused() -> None:
    with pytest.raises(ConfigError, match="call reset first"):
        Played().env.step(0)


def test_an_action_outside_the_space_is_refused_and_harms_nothing() -> None:
    env = Played().env
    env.reset()
    with pytest.raises(ConfigError, match=r"Discrete\(10\)"):
        env.step(10)
    assert env.step(0)[0].tolist() == [0, 1]


def test_infos_name_the_lease_where_one_is_held() -> None:
    played = Played()
    assert "lease_id" not in played.env.reset()[1]
    played.env.close()
    played.backend.is_leasing = True
    assert played.env.reset()[1]["lease_id"] == "r-2:7"
    assert played.env.step(0)[4]["lease_id"] == "r-2:7"
    played.env.close()


def test_a_remote_that_comes_after_its_environment_was_abandoned_is_ended(monkeypatch) -> None:
    played = Played()
    start = played.backend.start

    def start_meanwhile(*args: Any, **kwargs: Any) -> Remote:
        played.env.abandon()
        return start(*args, **kwargs)

    monkeypatch.setattr(played.backend, "start", start_meanwhile)
    with pytest.raises(RemoteFailedToStart, match=r"r-1 .*given up while it started"):
        played.env.reset()
    assert played.backend.started == played.backend.removed == ["r-1"]
    assert played.connect.channels == []


def test_an_abandoned_environment_ends_its_remote_instead_of_giving_it_back() -> None:
    played = Played()
    played.env.reset()
    played.env.abandon()
    played.env.close()
    assert (played.backend.removed, played.backend.released) == (["r-1"], [])
    assert played.env.remotes_lost == 1
    assert played.is_closed
