from __future__ import annotations

import time

import numpy as np
import pytest

from raygym.config import ObservationConfig
from raygym.core import Outcome
from raygym.errors import ConfigError, RemoteFailedToStart, SessionLost
from raygym.remote_env.controls import PROBE, KeyInput
from raygym.remote_env.slot import Slot
from raygym.remote_env.slot_config import SlotConfig
from raygym.remote_env.vnc_session import VncStats
from raygym.wire.keysyms import keysym
from raygym.wire.timing import TimingMark
from tests.unit.remote_env.fakes import SPEC, FakeConnection, FakeRemotes, batch, failed

LEFT, UP = keysym("ArrowLeft"), keysym("ArrowUp")


@pytest.fixture
def remotes() -> FakeRemotes:
    return FakeRemotes()


@pytest.fixture
def slot(remotes: FakeRemotes) -> Slot:
    slot = remotes.slot()
    slot.reset()
    return slot


@pytest.fixture
def connection(slot: Slot, remotes: FakeRemotes) -> FakeConnection:
    return remotes.connections[0]


def test_the_first_reset_starts_a_remote_and_gives_its_first_frame(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    assert slot.remote_id is None
    timestep = slot.reset(seed=7)
    assert remotes.seeds == [7]
    assert slot.remote_id == "r-0"
    assert (slot.remotes_started, slot.remotes_lost) == (1, 0)
    assert timestep.observation.tolist() == np.full((3, 4, 3), 10).tolist()
    assert (timestep.reward, timestep.outcome) == (0.0, Outcome.OK)
    assert timestep.info["episode_id"] == "0"


def test_an_observation_is_the_newest_frame_as_the_config_wants_it(remotes: FakeRemotes) -> None:
    config = ObservationConfig(height_px=2, width_px=2, is_grey=True)
    slot = remotes.slot(observation=config)
    slot.reset()
    remotes.connections[0].frame(200)
    assert slot.observe().observation.tolist() == [[[200], [200]], [[200], [200]]]
    assert slot.observation_space.shape == (2, 2, 1)


def test_rewards_are_summed_over_the_episode(slot: Slot, connection: FakeConnection) -> None:
    connection.batches.extend([batch(2.0), batch(0.5, game_state={"speed": 3})])
    slot.act(0)
    assert slot.observe().reward == 2.0
    info = slot.observe().info
    assert info["episode_score"] == 2.5
    assert info["episode_steps"] == 2
    assert info["game_state"] == {"speed": 3}


def test_the_seed_of_an_episode_stays_in_its_info(slot: Slot, connection: FakeConnection) -> None:
    connection.batches.extend([batch(seed=11), batch()])
    assert slot.observe().info["seed"] == 11
    assert slot.observe().info["seed"] == 11
    slot.reset(seed=3)
    assert slot.observe().info["seed"] is None


def test_actions_hold_keys_and_a_reset_releases_them(
    slot: Slot, connection: FakeConnection
) -> None:
    slot.act(2)
    assert connection.sent == [KeyInput(UP, True), KeyInput(LEFT, True)]
    connection.sent.clear()
    slot.reset()
    assert connection.sent == [KeyInput(UP, False), KeyInput(LEFT, False)]


def test_closing_releases_the_keys_and_gives_the_remote_back(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    slot.act(1)
    slot.close()
    slot.close()
    assert connection.sent[-1] == KeyInput(LEFT, False)
    assert connection.is_closed
    assert (remotes.running, remotes.released) == ([], ["r-0"])
    assert slot.remotes_lost == 0


def test_a_probe_joins_an_action_without_keys_where_there_is_a_strip(
    slot: Slot, connection: FakeConnection
) -> None:
    slot.act(0)
    assert connection.sent == []
    connection.mark = TimingMark(0, 0, 0)
    connection.frame(1)
    slot.observe()
    slot.act(0)
    assert connection.sent == list(PROBE)
    slot.act(0)
    assert connection.sent == list(PROBE)


def test_an_own_end_is_terminated_and_a_time_limit_truncated(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    slot.reset()
    remotes.connections[0].batches.append(batch(1.0, done=True))
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated, timestep.reward) == (True, False, 1.0)
    slot.reset()
    limit = batch(done=True, truncated=True, reason="time_limit")
    remotes.connections[0].batches.append(limit)
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated) == (False, True)
    assert timestep.outcome is Outcome.OK
    assert timestep.info["reason"] == "time_limit"


def test_an_end_that_the_remote_never_told_is_no_end_of_its_own(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.append(batch(done=True, **{"env_status.artificial.done": True}))
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated) == (False, True)


def test_an_outcome_of_no_known_kind_counts_as_a_failure(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.append(batch(done=True, outcome="exploded"))
    timestep = slot.observe()
    assert (timestep.truncated, timestep.outcome) == (True, Outcome.ENV_FAILURE)


def test_after_its_end_an_episode_gives_nothing_more(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.extend([batch(1.0, done=True), batch(5.0)])
    slot.observe()
    again = slot.observe()
    assert (again.terminated, again.reward, again.info["episode_score"]) == (True, 0.0, 1.0)


def test_a_broken_environment_truncates_and_keeps_its_remote(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    crash = batch(0.5, done=True, outcome="env_failure", reason="browser_crashed")
    connection.batches.append(crash)
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated) == (False, True)
    assert timestep.outcome is Outcome.ENV_FAILURE
    assert timestep.info["outcome"] == "env_failure"
    assert timestep.info["reason"] == "browser_crashed"
    assert timestep.reward == 0.5
    slot.reset()
    assert remotes.running == ["r-0"]


def test_a_lost_remote_truncates_with_only_the_rewards_that_came(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.append(batch(3.0))
    connection.lost = "the remote closed the connection"
    slot.act(1)
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated, timestep.reward) == (False, True, 3.0)
    assert timestep.outcome is Outcome.INFRA_FAILURE
    assert timestep.info["outcome"] == "infra_failure"
    assert timestep.info["reason"] == "the remote closed the connection"
    assert slot.remotes_lost == 1
    assert slot.observe().outcome is Outcome.INFRA_FAILURE
    assert slot.remotes_lost == 1


def test_the_end_of_an_episode_counts_even_if_the_remote_is_lost_with_it(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.append(batch(1.0, done=True))
    connection.lost = "closed"
    timestep = slot.observe()
    assert (timestep.terminated, timestep.truncated) == (True, False)
    assert timestep.outcome is Outcome.OK


def test_a_reset_replaces_a_lost_remote(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    connection.lost = "closed"
    slot.observe()
    timestep = slot.reset()
    assert timestep.outcome is Outcome.OK
    assert connection.is_closed
    assert remotes.running == ["r-1"]
    assert (slot.remotes_started, slot.remotes_lost) == (2, 1)
    slot.act(1)
    assert remotes.connections[1].sent == [KeyInput(LEFT, True)]


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_lost_remote_is_removed_and_not_given_back(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes, is_seen: bool
) -> None:
    connection.lost = "closed"
    if is_seen:
        slot.observe()
    slot.close()
    assert (remotes.running, remotes.released) == ([], [])


@pytest.fixture
def _is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raygym.remote_env.tenancy._LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("_is_asked_at_once")
def test_a_remote_that_was_taken_away_ends_the_episode_as_preempted(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    slot.reset()
    remotes.taken.add("r-0")
    timestep = slot.observe()
    assert (timestep.truncated, timestep.terminated) == (True, False)
    assert timestep.outcome is Outcome.PREEMPTED
    assert "the lease of r-0 was lost" in timestep.info["reason"]
    assert slot.reset().outcome is Outcome.OK
    assert slot.remote_id == "r-1"


@pytest.mark.usefixtures("_is_asked_at_once")
def test_a_remote_that_was_taken_away_between_episodes_is_not_used_again(
    remotes: FakeRemotes,
) -> None:
    slot = remotes.slot()
    slot.reset()
    remotes.taken.add("r-0")
    assert slot.reset().outcome is Outcome.OK
    assert (slot.remote_id, slot.remotes_lost) == ("r-1", 1)


def test_a_worn_remote_is_replaced_at_the_end_of_an_episode(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    remotes.worn.add("r-0")
    connection.batches.append(batch(1.0, done=True))
    assert slot.observe().terminated
    slot.reset()
    assert (slot.remote_id, remotes.running, slot.remotes_lost) == ("r-1", ["r-1"], 0)
    assert remotes.episodes == [("r-0", 1)]


def test_a_remote_lost_between_episodes_is_replaced_and_counted(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    connection.lost = "closed"
    slot.reset()
    assert remotes.running == ["r-1"]
    assert slot.remotes_lost == 1


def test_a_remote_lost_in_a_reset_is_replaced_and_counted(
    slot: Slot, connection: FakeConnection, remotes: FakeRemotes
) -> None:
    connection.reset_error = SessionLost("in the middle")
    slot.reset(seed=1)
    assert remotes.running == ["r-1"]
    assert (slot.remotes_started, slot.remotes_lost) == (2, 1)


def test_the_first_info_on_a_remote_tells_how_long_it_took_and_later_ones_do_not(
    remotes: FakeRemotes,
) -> None:
    slot = remotes.slot()
    info = slot.reset().info
    assert info["claim_s"] >= 0.0
    assert info["claim_causes"] == ""
    assert "claim_s" not in slot.observe().info
    assert "claim_s" not in slot.reset().info


@pytest.mark.usefixtures("_is_asked_at_once")
@pytest.mark.parametrize(
    ("what", "causes"),
    [
        ("lost", "infra_failure"),
        ("lost unseen", "infra_failure"),
        ("lost in the reset", "infra_failure"),
        ("taken", "preempted"),
        ("taken unseen", "preempted"),
        ("worn", "worn"),
        ("never ready after it", "worn,start_failed"),
    ],
)
def test_the_first_info_on_another_remote_tells_what_became_of_those_before(
    remotes: FakeRemotes, what: str, causes: str
) -> None:
    slot = remotes.slot()
    slot.reset()
    (connection,) = remotes.connections
    if what == "lost in the reset":
        connection.reset_error = SessionLost("in the middle")
    elif what.startswith("lost"):
        connection.lost = "closed"
    elif what.startswith("taken"):
        remotes.taken.add("r-0")
    else:
        remotes.worn.add("r-0")
        connection.batches.append(batch(1.0, done=True))
    if what.startswith("never"):
        remotes.ready_errors.append(failed("first picture failed"))
    if not what.endswith(("unseen", "reset")):
        slot.observe()
    assert slot.reset(seed=1).info["claim_causes"] == causes


def test_without_a_seed_the_episode_that_the_remote_began_itself_is_used(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.batches.append(batch(done=True))
    slot.observe()
    assert slot.reset().info["episode_id"] == "1"
    assert connection.log == ["await after 0"]


def test_with_a_seed_or_without_an_end_a_reset_is_asked_for(
    slot: Slot, connection: FakeConnection
) -> None:
    slot.reset()
    connection.batches.append(batch(done=True))
    slot.observe()
    slot.reset(seed=5)
    assert connection.log == ["reset None", "reset 5"]


def test_an_end_that_lies_back_is_followed_by_a_reset(
    slot: Slot, connection: FakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.batches.append(batch(done=True))
    slot.observe()
    now_s = time.monotonic()
    monkeypatch.setattr("raygym.remote_env.slot.time.monotonic", lambda: now_s + 5)
    slot.reset()
    assert connection.log == ["reset None"]


def test_starting_is_tried_again_with_growing_pauses(remotes: FakeRemotes) -> None:
    pauses: list[float] = []
    config = SlotConfig(spec=SPEC, screen_px=(8, 8), client_id="c", backoff_s=0.5)
    slot = Slot(config, remotes, make_ready=remotes.make_ready, sleep=pauses.append)  # type: ignore[arg-type]
    remotes.start_errors.append(failed("no memory"))
    remotes.ready_errors.append(failed("first picture failed"))
    slot.reset()
    assert pauses == [0.5, 1.0]
    assert remotes.running == ["r-1"]
    assert (slot.remotes_started, slot.remotes_lost) == (2, 1)


def test_after_the_last_try_all_causes_are_told_and_nothing_runs(remotes: FakeRemotes) -> None:
    slot = remotes.slot(start_tries=2)
    remotes.ready_errors.extend([failed("describe failed"), failed("first picture failed")])
    with pytest.raises(RemoteFailedToStart) as caught:
        slot.reset()
    assert "1. describe failed" in str(caught.value)
    assert "2. first picture failed" in str(caught.value)
    assert remotes.running == []


def test_a_mistake_of_the_caller_is_not_tried_again(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    remotes.ready_errors.append(ConfigError("no screen"))
    with pytest.raises(ConfigError, match="no screen"):
        slot.reset()
    assert len(remotes.connections) == 1
    assert remotes.running == []


def test_a_remote_that_comes_after_its_slot_was_abandoned_is_ended(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    remotes.on_start = slot.abandon
    with pytest.raises(RemoteFailedToStart, match=r"in 1 tries.*\n1\. r-0: its slot was closed"):
        slot.reset()
    assert (remotes.running, remotes.released) == ([], [])


def test_a_stopped_slot_tries_no_further_remote(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    remotes.ready_errors.extend([failed("a"), failed("b"), failed("c")])
    remotes.on_start = slot.stop
    with pytest.raises(RemoteFailedToStart, match="in 1 tries"):
        slot.reset()


def test_before_the_first_reset_nothing_is_sent_and_the_step_is_truncated(
    remotes: FakeRemotes,
) -> None:
    slot = remotes.slot()
    slot.act(1)
    timestep = slot.observe()
    assert timestep.truncated
    assert timestep.outcome is Outcome.INFRA_FAILURE
    assert not timestep.observation.any()
    assert slot.remotes_lost == 0


def test_the_stats_count_what_came_since_the_step_before(
    slot: Slot, connection: FakeConnection
) -> None:
    connection.vnc_stats = VncStats(updates=3, bytes=700, pixels=90, decode_s=0.5)
    connection.batches.append(batch(count=2))
    assert slot.observe().info["stats"] == {
        "vnc_updates": 3,
        "vnc_bytes": 700,
        "vnc_pixels": 90,
        "vnc_decode_s": 0.5,
        "rewards": 2,
    }
    assert set(slot.observe().info["stats"].values()) == {0}


def test_events_are_actions_where_the_config_says_so(remotes: FakeRemotes) -> None:
    slot = remotes.slot(actions="events")
    slot.reset()
    slot.act([("KeyEvent", "ArrowUp", True)])
    assert remotes.connections[0].sent == [KeyInput(UP, True)]
    with pytest.raises(ConfigError, match="off the 8x8 screen"):
        slot.act([("PointerEvent", 9, 0, 0)])


def test_a_picture_is_the_region_at_full_size(slot: Slot, connection: FakeConnection) -> None:
    connection.frame(77)
    slot.observe()
    picture = slot.picture()
    assert picture is not None
    assert picture.shape == (3, 4, 3)
    assert (picture == 77).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("actions", "keys"), ("start_timeout_s", 0), ("silence_timeout_s", -1), ("start_tries", 0)],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: object) -> None:
    settings = {"spec": SPEC, "screen_px": (8, 8), "client_id": "c", name: value}
    with pytest.raises(ConfigError, match=name):
        SlotConfig(**settings)  # type: ignore[arg-type]


def test_infos_name_the_lease_where_one_is_held(remotes: FakeRemotes) -> None:
    slot = remotes.slot()
    assert "lease_id" not in slot.reset().info
    slot.close()
    remotes.is_leasing = True
    slot = remotes.slot()
    assert slot.reset().info["lease_id"] == "r-1:7"
    assert slot.observe().info["lease_id"] == "r-1:7"


def test_an_abandoned_slot_ends_its_remote_instead_of_giving_it_back(
    slot: Slot, remotes: FakeRemotes
) -> None:
    slot.abandon()
    slot.close()
    assert (remotes.running, remotes.released) == ([], [])
    assert slot.remotes_lost == 1
