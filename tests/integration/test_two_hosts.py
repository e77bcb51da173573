"""A cluster of two hosts, from ``raygym cluster up`` to ``down``, one of which is lost on the way.

The hosts are namespaces of this machine, each with an ssh server; a third is where a person sits.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from tests.support.hosts import Host, Hosts, needs
from tests.support.process_tree import command, descendants

TOP = Path(__file__).parents[2]
SLOTS = 2
"""Of each host."""
COMMAND_S = 120.0
START_OPTIONS = "--num-cpus=2 --object-store-memory=100000000 --disable-usage-stats"
TRAIN = (
    f"python -m raygym.train --env test.Catch-v0 --backend process "
    f"--workers {2 * SLOTS} --minutes 20 --logdir ~/run"
)
_STEPS = re.compile(r"^\d.* min +steps (\d+)", re.MULTILINE)


class Story:
    """Two hosts, and a third where commands are given."""

    def __init__(self, hosts: Hosts, file: Path, say: Callable[[str], None]) -> None:
        self.hosts = hosts
        self.say = say
        self.laptop, self.head, self.worker = hosts
        self.file = file

    def give(self, *words: str, timeout_s: float = COMMAND_S) -> CompletedProcess[str]:
        """Gives a command at the laptop; its output is printed."""
        started_s = time.monotonic()
        done = self.laptop.run(words, timeout_s=timeout_s)
        took_s = time.monotonic() - started_s
        self.say(f"$ {' '.join(words)}  # {done.returncode}, {took_s:.0f} s")
        return done

    def on_head(self, line: str, *, timeout_s: float = COMMAND_S) -> str:
        """Runs a line of shell on the head, as a login does."""
        return self.head.run(["bash", "--login", "-c", line], timeout_s=timeout_s).stdout

    def slots(self) -> dict[str, Any]:
        """Returns what the head says of the slots; nothing where it does not answer."""
        said = self.on_head("raygym cluster status --json")
        found = re.findall(r'^\{"text".*\}$', said, re.MULTILINE)
        return dict(json.loads(found[-1])) if found else {"running": -1, "said": said}

    def slots_become(
        self, what: str, is_so: Callable[[dict[str, Any]], bool], *, within_s: float
    ) -> dict[str, Any]:
        """Waits until the slots are as wanted, and prints them."""
        deadline_s = time.monotonic() + within_s
        while not is_so(slots := self.slots()):
            assert time.monotonic() < deadline_s, f"{what}: {slots}\n{self.evidence()}"
            time.sleep(2)  # asking takes processor time from what is waited for
        self.say(f"--- slots per host {what}\n{slots['text']}")
        return slots

    def steps_pass(self, count: int, *, within_s: float) -> int:
        """Waits until the run has made so many steps; returns how many it has."""
        deadline_s = time.monotonic() + within_s
        while (made := self._steps()) < count:
            assert time.monotonic() < deadline_s, f"{made} of {count} steps\n{self.evidence()}"
            time.sleep(0.5)
        return made

    def evidence(self) -> str:
        """Returns the ends of the logs that tell what went wrong."""
        logs = [*self._logs("job-driver-*.log"), *self._logs("monitor.out")]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)

    def ray_runs_on(self, host: Host) -> list[str]:
        """Returns the processes of Ray on a host."""
        names = [command(pid)[0] for pid in descendants(host.init_pid) if command(pid)]
        return [name for name in names if re.search(r"raylet|gcs_server|ray::", name)]

    def _steps(self) -> int:
        told = "".join(log.read_text() for log in self._logs("job-driver-train.log"))
        return max((int(steps) for steps in _STEPS.findall(told)), default=0)

    def _logs(self, pattern: str) -> Sequence[Path]:
        return sorted((self.head.home / "tmp-ray").glob(f"session_2*/logs/{pattern}"))


@pytest.fixture
def story(tmp_path: Path, tell: Callable[[str], None]) -> Iterator[Story]:
    def say(text: str) -> None:
        for line in text.splitlines():
            tell(line)

    if obstacle := needs():
        pytest.fail(f"two hosts cannot be made here: {obstacle}")
    variables = {
        "PYTHONPATH": str(TOP),
        "RAYGYM_ENV_SLOTS": str(SLOTS),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with Hosts(tmp_path, ["laptop", "head", "worker"], variables=variables) as hosts:
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(cluster_of(hosts)))
        yield Story(hosts, file, say)


def cluster_of(hosts: Hosts) -> dict[str, Any]:
    """Returns cluster.local.yaml for these hosts, which have everything but Ray's processes."""
    config: dict[str, Any] = yaml.safe_load((TOP / "cluster.local.yaml").read_text())
    _, head, worker = hosts
    config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
    token = "~/.ray/auth_token"
    config["file_mounts"] = {token: config["file_mounts"][token]}
    config["setup_commands"] = [each for each in config["setup_commands"] if "~/.profile" in each]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[key] = [
            each.replace("ray start", f"ray start {START_OPTIONS}") for each in config[key]
        ]
    return config


def per_host(slots: dict[str, Any]) -> dict[str, int]:
    return {node["address"]: node["running"] for node in slots.get("nodes", ())}


@pytest.mark.alone
@pytest.mark.timeout(1400)
def test_training_goes_on_when_one_of_two_hosts_is_lost(story):
    file, head, worker = str(story.file), story.head, story.worker
    up = story.give("raygym", "cluster", "up", file, "--timeout", "240", timeout_s=360)
    assert up.returncode == 0, up.stdout
    assert "2 of 2 nodes are there" in up.stdout
    assert "RAY_UP_enable_autoscaler_v2=0" in up.stdout
    nobody_gets_in_without_the_token(story)

    submit = f"ray job submit --no-wait --submission-id train -- {TRAIN}"
    done = story.give("ray", "exec", file, submit)
    assert done.returncode == 0, done.stdout
    both = {head.address: SLOTS, worker.address: SLOTS}
    story.slots_become("before the loss", lambda slots: per_host(slots) == both, within_s=180)
    story.steps_pass(1, within_s=180)

    worker.kill()
    lost = story.slots_become(
        "after the loss",
        lambda slots: per_host(slots) == {head.address: SLOTS} and slots["waiting"] == SLOTS,
        within_s=180,
    )
    assert lost["lacking"] == ["env_slots"]
    assert "2 of 2 slots run, 2 wait for env_slots (2 of 2 taken)" in lost["text"]
    story.steps_pass(story.steps_pass(1, within_s=1) + 100, within_s=120)

    story.hosts.start(worker)
    story.slots_become("when it is back", lambda slots: per_host(slots) == both, within_s=240)

    down = story.give("raygym", "cluster", "down", file)
    assert down.returncode == 0, down.stdout
    assert story.ray_runs_on(head) == story.ray_runs_on(worker) == []


def nobody_gets_in_without_the_token(story: Story) -> None:
    """Checks that the dashboard cannot be reached from elsewhere, nor used without the token."""
    from_elsewhere = f"exec 3<>/dev/tcp/{story.head.address}/8265"
    done = story.laptop.run(["timeout", "10", "bash", "-c", from_elsewhere], timeout_s=20)
    assert done.returncode == 1, done.stdout
    assert "refused" in done.stdout
    ask = (
        "import urllib.error, urllib.request\n"
        "try: urllib.request.urlopen('http://127.0.0.1:8265/api/jobs/', timeout=30)\n"
        "except urllib.error.HTTPError as error: print(error.code)"
    )
    done = story.head.run(["python", "-c", ask], timeout_s=60)
    assert done.stdout.strip() == "401"
