from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from raygym.core import Endpoint
from raygym.errors import ConfigError, RaygymError
from raygym.runtimes import host as module
from raygym.runtimes.host import Host, HostConfig
from raygym.wire.rewarder_server import Request, ResetRequested
from tests.support.hosted import ONE, PASSWORD, TWO, Hosted, ScriptedScreen, ScriptedTask

DESCRIBE, REWARD, RESET_REPLY = "v0.env.describe", "v0.env.reward", "v0.reply.env.reset"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "_PULSE_S", 0.01)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Hosted]]:
    begun: list[Hosted] = []

    def start(*problems: Exception | None, mode: str = "realtime", **config) -> Hosted:
        task = ScriptedTask(*problems, mode=mode)
        begun.append(Hosted(tmp_path, task, **config))
        return begun[-1]

    yield start
    for hosted in begun:
        hosted.close()


def test_its_ready_file_says_where_it_listens(begin, tmp_path):
    begin()
    assert json.loads((tmp_path / "ready.json").read_text()) == {
        "runtime": "scripted",
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "vnc": "unix:/somewhere/vnc.sock",
        "rewarder": f"unix:{tmp_path}/rewarder.sock",
        "protocol": 1,
    }
    assert not list(tmp_path.glob("*.part"))


def test_a_ready_file_of_one_that_was_killed_is_gone_before_the_screen_starts(tmp_path):
    class Screen(ScriptedScreen):
        async def start(self) -> Endpoint:
            assert not (tmp_path / "ready.json").exists()
            return await super().start()

    (tmp_path / "ready.json").write_text("{}")
    hosted = Hosted(tmp_path, ScriptedTask(), Screen())
    assert hosted.host.is_ready.is_set()
    hosted.close()


def test_its_manifest_says_what_it_can_do(begin):
    client = begin().join()
    assert client.seen[-1]["body"] == {
        "protocol": 1,
        "runtime": "scripted",
        "env_ids": [ONE, TWO],
        "modes": ["realtime"],
        "screen": [8, 8],
        "timing_strip": None,
    }


def test_a_reset_reaches_the_task_and_is_answered_when_it_runs(begin):
    hosted = begin()
    client = hosted.join()
    assert client.reset(TWO, seed=7, fps=12.5) == "1"
    assert hosted.task.resets == [(TWO, 7, 12.5)]
    assert client.methods()[-3:] == ["resetting", "running", RESET_REPLY]
    assert client.seen[-2]["body"] == {"env_id": TWO, "env_state": "running", "fps": 12.5}


def test_the_end_of_an_episode_begins_the_next(begin):
    hosted = begin()
    client = hosted.join()
    client.reset(ONE, seed=7)
    hosted.call(hosted.host.reward, 2.5, done=True, info={"seed": 7})
    client.until(DESCRIBE, env_state="running")
    done, resetting, running = client.seen[-3:]
    assert (done["headers"]["episode_id"], done["body"]["done"]) == ("1", True)
    assert resetting["headers"]["episode_id"] == running["headers"]["episode_id"] == "2"
    assert hosted.task.resets == [(ONE, 7, 50.0), (ONE, None, 50.0)]


def test_an_environment_may_be_played_from_the_start(begin):
    hosted = begin(env_id=TWO, fps=30.0)
    hosted.join(observer=True).until_running()
    assert hosted.task.resets == [(TWO, None, 30.0)]


def test_an_environment_that_the_task_lacks_is_a_mistake_of_the_caller(tmp_path):
    config = HostConfig(directory=tmp_path, password=PASSWORD, env_id="scripted.Three-v0")
    with pytest.raises(ConfigError, match=r"Three-v0.*Known: scripted.One-v0, scripted.Two-v0"):
        Host(ScriptedTask(), ScriptedScreen(), config)


def test_rewards_of_no_episode_are_dropped(begin):
    hosted = begin()
    hosted.task.during_reset = lambda reports: reports.reward(1.0)
    client = hosted.join()
    hosted.call(hosted.host.reward, 2.0)
    client.reset(ONE)
    hosted.call(hosted.host.reward, 3.0)
    client.until(REWARD)
    rewards = [m["body"]["reward"] for m in client.seen if m["method"] == REWARD]
    assert rewards == [3.0]


def test_texts_of_a_beginning_episode_belong_to_it(begin):
    hosted = begin()
    hosted.task.during_reset = lambda reports: reports.text({"instruction": "drive"})
    client = hosted.join()
    client.reset(ONE)
    text = next(m for m in client.seen if m["method"] == "v0.env.text")
    assert text["body"] == {"text": {"instruction": "drive"}}
    assert text["headers"]["episode_id"] == "1"


def test_a_failed_episode_ends_with_its_reason_and_the_next_begins(begin):
    hosted = begin()
    client = hosted.join()
    client.reset(ONE)
    hosted.call(hosted.host.failed, "browser_crashed", "signal 9")
    ended = client.until(REWARD)
    info = {"outcome": "env_failure", "reason": "browser_crashed", "detail": "signal 9"}
    assert ended["body"] == {"reward": 0.0, "done": True, "info": info}
    client.until(DESCRIBE, env_state="running")
    assert len(hosted.task.resets) == 2


def test_a_failure_during_a_reset_is_left_to_the_reset(begin):
    hosted = begin()
    hosted.task.during_reset = lambda reports: reports.failed("browser_crashed", "signal 9")
    client = hosted.join()
    client.reset(ONE)
    assert REWARD not in client.methods()
    assert len(hosted.task.resets) == 1


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_a_failure_of_the_environment(begin, reward):
    hosted = begin()
    client = hosted.join()
    client.reset(ONE)
    hosted.call(hosted.host.reward, reward)
    body = client.until(REWARD)["body"]
    assert (body["reward"], body["done"], body["info"]["reason"]) == (0.0, True, "bad_reward")


def test_a_reset_that_fails_is_tried_again_within_the_same_episode(begin):
    hosted = begin(RaygymError("no page"), RaygymError("no page"))
    client = hosted.join()
    assert client.reset(ONE, seed=3) == "1"
    assert hosted.task.resets == [(ONE, 3, 50.0)] * 3
    assert client.methods().count("resetting") == 1


def test_what_cannot_be_repaired_is_refused_and_ends_the_remote(begin):
    hosted = begin(*[RaygymError("no page")] * 5)
    client = hosted.join()
    client.ask_reset(ONE)
    refusal = client.until("v0.reply.error")
    assert refusal["body"]["message"] == f"{ONE} could not be started in 5 attempts: no page"
    farewell = client.until("v0.connection.close")
    assert "no page" in farewell["body"]["message"]
    assert hosted.exit_code() == 4
    assert len(hosted.task.resets) == 5


def test_a_reset_that_takes_too_long_has_failed(begin):
    hosted = begin(reset_timeout_s=0.02)
    hosted.call(hosted.task.may_go_on.clear)
    client = hosted.join()
    client.ask_reset(ONE)
    assert "not done within 0.02 s" in client.until("v0.reply.error")["body"]["message"]
    assert hosted.exit_code() == 4


@pytest.mark.parametrize("problem", [ConfigError("game.yaml: no swf"), KeyError("a mistake")])
def test_what_no_second_try_can_mend_ends_the_remote_at_once(begin, problem):
    hosted = begin(problem)
    hosted.join().ask_reset(ONE)
    assert hosted.exit_code() == 4
    assert len(hosted.task.resets) == 1


def test_resets_that_wait_are_joined_and_each_is_answered(begin):
    hosted = begin()
    hosted.call(hosted.task.may_go_on.clear)
    client = hosted.join()
    asked = [client.ask_reset(ONE)]
    client.until(DESCRIBE, env_state="resetting")
    asked += [client.ask_reset(ONE, seed=1), client.ask_reset(TWO, seed=2), client.send("x")]
    asked.append(client.send("v0.control.ping"))
    client.until("v0.reply.control.ping")  # so the resets before it wait by now
    hosted.call(hosted.task.may_go_on.set)
    replies = [client.until(RESET_REPLY)["headers"] for _ in range(3)]
    assert [r["parent_message_id"] for r in replies] == asked[:3]
    assert [r["episode_id"] for r in replies] == ["1", "2", "2"]
    assert hosted.task.resets == [(ONE, None, 50.0), (TWO, 2, 50.0)]


def test_a_client_s_reset_stands_in_for_the_one_after_an_end(begin):
    hosted = begin()
    client = hosted.join()
    client.reset(ONE)
    hosted.call(hosted.task.may_go_on.clear)
    client.ask_reset(TWO, seed=5)
    client.until(DESCRIBE, env_state="resetting")
    hosted.call(hosted.host.reward, 1.0, done=True)
    hosted.call(hosted.task.may_go_on.set)
    assert client.until(RESET_REPLY)["headers"]["episode_id"] == "2"
    assert hosted.task.resets == [(ONE, None, 50.0), (TWO, 5, 50.0)]


@pytest.mark.parametrize("is_own_first", [True, False])
def test_of_two_resets_at_once_the_client_s_counts_and_the_host_s_own_is_done_with_it(
    begin, is_own_first
):
    hosted = begin()
    client = hosted.join()
    client.reset(ONE)
    asked = ResetRequested(TWO, 5, 50.0, Request(0, 77, 0.0, 0))

    def both() -> None:
        steps = [lambda: hosted.host.reward(1.0, done=True), lambda: hosted.host._on_reset(asked)]
        for step in steps if is_own_first else reversed(steps):
            step()

    hosted.call(both)
    client.until(DESCRIBE, env_state="running")
    assert hosted.task.resets == [(ONE, None, 50.0), (TWO, 5, 50.0)]


def test_a_quiet_episode_is_kept_audible_by_rewards_of_zero(begin, monkeypatch):
    monkeypatch.setattr(module, "_KEEP_ALIVE_S", 0.02)
    client = begin(env_id=ONE).join(observer=True)
    assert client.until(REWARD)["body"] == {"reward": 0.0, "done": False, "info": {}}


def test_where_the_client_owns_time_no_reward_is_made_up(begin, monkeypatch):
    monkeypatch.setattr(module, "_KEEP_ALIVE_S", 0.0)
    hosted = begin(mode="sync", env_id=ONE)
    client = hosted.join()
    client.reset(ONE)
    with pytest.raises(TimeoutError):
        client.next(0.1)


def test_a_lost_screen_ends_the_remote_and_clients_are_told(begin):
    hosted = begin()
    client = hosted.join()
    hosted.call(hosted.screen.lose, "Xvnc ended with signal 9")
    assert "signal 9" in client.until("v0.connection.close")["body"]["message"]
    with pytest.raises(ConnectionClosed):
        client.next()
    assert hosted.exit_code() == 3
    assert hosted.task.is_closed


def test_it_ends_when_nobody_came_for_a_while(begin):
    assert begin(idle_timeout_s=0.05).exit_code() == 0


def test_it_ends_a_while_after_the_last_client_left(begin):
    hosted = begin(idle_timeout_s=0.6)
    client = hosted.join(observer=True)
    with pytest.raises(TimeoutError):
        hosted.exit_code(0.8)
    client.close()
    assert hosted.exit_code() == 0


def test_who_only_looks_keeps_it_alive_as_well(begin):
    hosted = begin(idle_timeout_s=0.3)
    hosted.screen.viewers = 1
    with pytest.raises(TimeoutError):
        hosted.exit_code(0.5)
    hosted.screen.viewers = 0
    assert hosted.exit_code() == 0


def test_without_an_idle_timeout_it_waits(begin):
    hosted = begin(idle_timeout_s=0)
    with pytest.raises(TimeoutError):
        hosted.exit_code(0.2)


def test_it_ends_with_its_owner_and_leaves_no_directory(begin, tmp_path):
    read, write = os.pipe()
    hosted = begin(lifeline_fd=read)
    os.write(write, b"still here")
    with pytest.raises(TimeoutError):
        hosted.exit_code(0.05)
    os.close(write)
    assert hosted.exit_code() == 0
    os.close(read)
    assert not tmp_path.exists()


def test_a_stopped_host_closes_its_parts_and_leaves_no_file(begin, tmp_path):
    hosted = begin()
    client = hosted.join()
    hosted.call(hosted.host.stop)
    assert client.until("v0.connection.close")["body"]["message"] == "the remote was stopped"
    assert hosted.exit_code() == 0
    assert hosted.task.is_closed
    assert hosted.screen.is_closed
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_fails_to_close_does_not_keep_the_screen_open(begin, tmp_path):
    hosted = begin()
    hosted.task.close_problem = RaygymError("the browser will not die")
    hosted.call(hosted.host.stop)
    with pytest.raises(RaygymError, match="will not die"):
        hosted.exit_code()
    assert hosted.screen.is_closed
    assert list(tmp_path.iterdir()) == []


def test_a_stop_during_a_reset_does_not_wait_for_it(begin):
    hosted = begin()
    hosted.call(hosted.task.may_go_on.clear)
    client = hosted.join()
    client.ask_reset(ONE)
    client.until(DESCRIBE, env_state="resetting")
    hosted.call(hosted.host.stop)
    assert hosted.exit_code() == 0


@pytest.mark.parametrize(
    "config", [{"idle_timeout_s": -1}, {"reset_timeout_s": 0}, {"rewarder_port": 70000}]
)
def test_settings_out_of_range_are_named(tmp_path, config):
    with pytest.raises(ConfigError, match=next(iter(config))):
        HostConfig(directory=tmp_path, password=PASSWORD, **config)
