from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from raygym import cluster
from raygym.cluster import Cluster, ClusterError
from raygym.errors import ConfigError, MissingDependency
from tests.support.fake_store import FakeClock

TOP = Path(__file__).parents[2]
LOCAL = {
    "cluster_name": "mine",
    "provider": {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]},
    "auth": {"ssh_user": "me"},
}
AWS = {
    "cluster_name": "theirs",
    "provider": {"type": "aws", "region": "us-west-2"},
    "head_node_type": "head",
    "available_node_types": {"head": {}, "env": {"min_workers": 3}, "gpu": {"min_workers": 0}},
}


def status(nodes: int) -> str:
    """Returns what the head prints, in the middle of what ssh and Ray say around it."""
    rows = [{"address": f"10.0.0.{1 + n}"} for n in range(nodes)]
    text = json.dumps({"text": f"{nodes} nodes\nall well", "nodes": rows})
    return f"Warning: Permanently added\r\n{text}\r\nShared connection closed.\r\nINFO x\n"


STOPPED = "\x1b[0mraygym-stopped 10.0.0.1\r\nraygym-stopped 10.0.0.2\r\n"


class FakeRay:
    """Answers as ``ray`` would; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.environments: list[Mapping[str, str]] = []
        self.answers: dict[str, Callable[[Sequence[str]], tuple[int, str]]] = {}

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        timeout_s: float,
        **_: bool,
    ) -> subprocess.CompletedProcess[str]:
        self.asked.append(tuple(arguments))
        self.environments.append(environment)
        answer = self.answers.get(arguments[0], lambda _: (0, ""))
        code, output = answer(arguments)
        return subprocess.CompletedProcess(list(arguments), code, output)


class Desk:
    """A cluster, a fake Ray and what a person reads."""

    def __init__(self, path: Path, content: object) -> None:
        path.write_text(yaml.safe_dump(content))
        self.ray = FakeRay()
        self.said: list[str] = []
        self.clock = FakeClock()
        self.cluster = Cluster(
            cluster.read(path),
            run=self.ray,
            say=self.said.append,
            clock=self.clock,
            sleep=self.clock.pass_s,
        )

    def nodes_come(self, *counts: int) -> None:
        left = list(counts)
        self.ray.answers["exec"] = lambda _: (0, status(left.pop(0) if len(left) > 1 else left[0]))


@pytest.fixture
def local(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cluster.yaml", LOCAL)


@pytest.fixture
def aws(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "cluster.yaml", AWS)


def test_up_waits_until_all_nodes_are_there(local):
    local.nodes_come(1, 1, 2, 3)
    local.cluster.up(timeout_s=60)
    assert [line for line in local.said if "are there" in line] == [
        "1 of 3 nodes are there",
        "2 of 3 nodes are there",
        "3 of 3 nodes are there",
    ]
    assert local.said[-1] == "3 nodes\nall well"


def test_up_says_how_many_nodes_came_and_what_the_autoscaler_said_when_time_is_up(local):
    def answer(arguments):
        if "monitor" in arguments[-1]:
            return 0, "ssh: connect to host 10.0.0.3 port 22: No route to host\r\n"
        return 0, status(2)

    local.ray.answers["exec"] = answer
    with pytest.raises(ClusterError, match=r"2 of 3 nodes came within 30 s(?s:.*)No route to host"):
        local.cluster.up(timeout_s=30)


def test_up_ends_early_where_the_head_cannot_say_how_it_is(local):
    local.ray.answers["exec"] = lambda _: (127, "bash: raygym: command not found\r\n")
    with pytest.raises(ClusterError, match="raygym: command not found"):
        local.cluster.up(timeout_s=3600)
    assert sum(asked[0] == "exec" for asked in local.ray.asked) == 5


def test_one_look_that_fails_does_not_end_the_wait(local):
    answers = iter([(1, "timeout"), (0, status(1)), (1, "timeout"), (0, status(3))])
    local.ray.answers["exec"] = lambda _: next(answers)
    local.cluster.up(timeout_s=60)
    assert local.said[-1] == "3 nodes\nall well"


def test_up_that_fails_is_no_cluster(local):
    local.ray.answers["up"] = lambda _: (1, "")
    with pytest.raises(ClusterError, match="`ray up` failed with status 1"):
        local.cluster.up(timeout_s=60)
    assert [asked[0] for asked in local.ray.asked] == ["up"]


def test_the_autoscaler_that_starts_no_workers_is_switched_off_on_own_machines_only(local, aws):
    for desk in (local, aws):
        desk.nodes_come(9)
        desk.cluster.up(timeout_s=60)
    assert all(each["RAY_UP_enable_autoscaler_v2"] == "0" for each in local.ray.environments)
    assert "RAY_UP_enable_autoscaler_v2=0" in local.said[0]
    assert all("RAY_UP_enable_autoscaler_v2" not in each for each in aws.ray.environments)
    assert not any("autoscaler" in line for line in aws.said)


def test_up_waits_for_the_head_and_the_least_workers_of_each_kind(aws):
    aws.nodes_come(4)
    aws.cluster.up(timeout_s=60)
    assert "4 of 4 nodes are there" in aws.said


@pytest.mark.parametrize(("least", "nodes"), [(None, 3), (0, 1), (1, 2), (5, 3)])
def test_own_machines_are_all_wanted_unless_fewer_are_asked_for(tmp_path, least, nodes):
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(LOCAL if least is None else {**LOCAL, "min_workers": least}))
    assert cluster.read(path).nodes == nodes


def test_a_token_is_made_where_the_file_carries_one_and_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    mounts = {"file_mounts": {"~/.ray/auth_token": "~/.ray/auth_token"}}
    desk = Desk(tmp_path / "cluster.yaml", {**LOCAL, **mounts})
    desk.nodes_come(3)
    token = tmp_path / ".ray" / "auth_token"

    def make(_: Sequence[str]) -> tuple[int, str]:
        token.parent.mkdir()
        token.write_text("secret")
        return 0, "secret"

    desk.ray.answers["get-auth-token"] = make
    desk.cluster.up(timeout_s=60)
    assert token.stat().st_mode & 0o777 == 0o600
    assert str(token) in desk.said[0]
    assert not any("secret" in line for line in desk.said)
    desk.cluster.up(timeout_s=60)
    assert sum(asked[0] == "get-auth-token" for asked in desk.ray.asked) == 1


def test_a_token_that_should_come_from_elsewhere_is_not_made(tmp_path):
    mounts = {"file_mounts": {"~/.ray/auth_token": str(tmp_path / "token")}}
    desk = Desk(tmp_path / "cluster.yaml", {**LOCAL, **mounts})
    with pytest.raises(ConfigError, match="there is none"):
        desk.cluster.up(timeout_s=60)
    assert desk.ray.asked == []


def test_down_stops_ray_on_own_machines_first_as_ray_leaves_it_running_there(local):
    local.ray.answers["exec"] = lambda _: (
        0,
        STOPPED + "raygym-stopped 10.0.0.3\r\n",
    )
    local.cluster.down()
    stop, down = local.ray.asked
    assert stop[0] == "exec"
    assert re.search(r"me@10\.0\.0\.2 .*me@10\.0\.0\.3 ", stop[-1], re.DOTALL)
    assert down[:2] == ("down", "-y")
    assert local.said[-1] == "mine is down"


def test_down_names_the_machines_on_which_ray_may_still_run(local):
    # Ray shows the whole command, too.
    echoed = "INFO Running `ray stop && echo raygym-stopped 10.0.0.3`\r\n"
    local.ray.answers["exec"] = lambda _: (0, echoed + STOPPED)
    with pytest.raises(ClusterError, match=r"not known of 10\.0\.0\.3:"):
        local.cluster.down()
    assert local.ray.asked[-1][0] == "down"


def test_down_says_so_where_not_even_the_head_was_reached(local):
    local.ray.answers["exec"] = lambda _: (1, "ssh: No route to host\n")
    with pytest.raises(ClusterError, match=r"not known of 10\.0\.0\.1, 10\.0\.0\.2, 10\.0\.0\.3"):
        local.cluster.down()


def test_what_stops_own_machines_is_sound_shell(tmp_path):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    log = tmp_path / "log"
    for name, body in {
        "ray": 'echo "ray $*" >> "$LOG"',
        "ssh": 'echo "ssh ${@: -2}" >> "$LOG"; case "$*" in *10.0.0.3*) exit 255;; esac',
        "timeout": 'shift; "$@"',
        "rm": "",
    }.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    desk = Desk(tmp_path / "cluster.yaml", LOCAL)
    desk.ray.answers["exec"] = lambda asked: (
        0,
        subprocess.run(
            ["bash", "-c", asked[-1]],
            capture_output=True,
            text=True,
            env={"PATH": f"{bin_}:/usr/bin:/bin", "LOG": str(log), "HOME": str(tmp_path)},
            timeout=30,
        ).stdout,
    )
    with pytest.raises(ClusterError, match=r"not known of 10\.0\.0\.3:"):
        desk.cluster.down()
    assert sorted(log.read_text().splitlines()) == [
        "ray stop",
        "ssh me@10.0.0.2 bash --login -c 'ray stop'",
        "ssh me@10.0.0.3 bash --login -c 'ray stop'",
    ]


def test_down_that_fails_says_that_something_may_cost_money(aws):
    aws.ray.answers["down"] = lambda _: (1, "")
    with pytest.raises(ClusterError, match="costs money"):
        aws.cluster.down()


def test_down_of_what_a_provider_made_is_left_to_ray(aws):
    aws.cluster.down()
    assert [asked[0] for asked in aws.ray.asked] == ["down"]


def test_a_head_that_does_not_answer_is_said_with_what_came_instead(local):
    local.ray.answers["exec"] = lambda _: (1, "INFO noise\nRuntimeError: Head node not found\n")
    with pytest.raises(ClusterError, match="Head node not found") as caught:
        local.cluster.look()
    assert "noise" not in caught.value.message


@pytest.mark.parametrize("content", ["a: [", "just words", "cluster_name: x", "provider: aws"])
def test_a_file_that_is_no_clusters_is_refused(tmp_path, content):
    path = tmp_path / "cluster.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        cluster.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no cluster file"):
        cluster.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("name", "provider", "nodes"), [("cluster.yaml", "aws", 2), ("cluster.local.yaml", "local", 2)]
)
def test_the_files_at_the_top_are_read(name, provider, nodes):
    read = cluster.read(TOP / name)
    assert (read.provider, read.nodes) == (provider, nodes)
    assert read.token_source == Path("~/.ray/auth_token").expanduser()


def test_ray_that_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(MissingDependency, match="raygym\\[train\\]"):
        cluster.run_ray(["up"], environment={}, timeout_s=5, is_shown=False)


def test_ray_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "ray").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ray").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(ClusterError, match="`ray up` did not end"):
        cluster.run_ray(["up"], environment={}, timeout_s=0.2, is_shown=False)


def test_the_command_takes_cluster_yaml_unless_told_otherwise():
    parser = argparse.ArgumentParser()
    cluster.add_arguments(parser)
    assert parser.parse_args(["up"]).file == Path("cluster.yaml")
    assert parser.parse_args(["down", "other.yaml"]).file == Path("other.yaml")
    assert parser.parse_args(["status"]).file is None
