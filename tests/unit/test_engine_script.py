"""The script that starts an engine, with every program that it runs played by a test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = (
    *("sh", "dirname", "tr", "sed", "cat", "env", "date", "sleep", "tail", "timeout", "mkdir"),
    *("rm", "mktemp", "chmod", "nohup", "setsid", "sort", "id", "kill"),
)
DOCKER = """
[ -e {state}/answers ] || {{ echo 'Cannot connect' >&2; exit 1; }}
case "$1 $2" in
    "version --format") echo 20.10 ;;
    "image inspect") [ -e {state}/base ] ;;
    "pull -q") [ -e {state}/registry ] && : >{state}/base ;;
    import*) [ -s "$2" ] && echo "$3" >{state}/base ;;
esac
"""
DOCKERD = """
echo "said by dockerd" >&2
echo started >>{state}/started
: >{state}/answers
trap 'rm -f {state}/answers; exit 0' TERM
while :; do sleep 0.05; done
"""
MMDEBSTRAP = """
for word in "$@"; do case $word in */root.tar) echo tar >"$word" ;; esac; done
echo "$*" >{state}/mmdebstrap
"""


class System:
    """A machine whose programs are a test's."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self._path = folder / "bin"
        self._path.mkdir()
        for tool in TOOLS:
            (self._path / tool).symlink_to(shutil.which(tool))
        # Whether the machine of the test runs a dockerd does not count.
        self.have(grep="exit 1", docker=DOCKER, dockerd=DOCKERD, mmdebstrap=MMDEBSTRAP)
        self.have(containerd="exit 0", iptables="exit 0")

    def have(self, **programs: str) -> None:
        for name, text in programs.items():
            path = self._path / name.replace("_", "-")
            path.unlink(missing_ok=True)
            path.write_text(f"#!/bin/sh\n{text.format(state=self.state)}\n")
            path.chmod(0o755)

    def lack(self, *programs: str) -> None:
        for name in programs:
            (self._path / name).unlink()

    def note(self, name: str) -> str:
        path = self.state / name
        return path.read_text() if path.exists() else ""

    def set(self, *names: str) -> None:
        for name in names:
            (self.state / name).touch()

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("sh"), str(ROOT / "scripts" / "engine"), *arguments],
            env={
                "PATH": str(self._path),
                "RAYGYM_ENGINE_STATE": str(self.state),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def system(tmp_path):
    made = System(tmp_path)
    yield made
    if (pid := made.note("pid").strip()) and made.note("started"):
        os.kill(int(pid), signal.SIGTERM)


def test_an_engine_that_answers_is_used_and_nothing_is_started(system):
    system.set("answers", "base")
    done = system.run()
    assert (done.returncode, done.stdout) == (0, "engine: ready: 20.10\n")
    assert not system.note("started")


def test_without_an_engine_one_is_started_once_and_stopped_by_stop(system):
    system.set("base")
    first, second = system.run(), system.run()
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "will start dockerd; its log is" in first.stdout
    assert second.stdout == "engine: ready: 20.10\n"
    assert system.note("started") == "started\n"
    assert system.note("log") == "said by dockerd\n"
    assert system.run("stop").stdout == "engine: stopped\n"
    assert not (system.state / "answers").exists()
    assert system.run("stop").stdout == "engine: none runs that this script started\n"
    assert not (system.state / "pid").exists()


def test_a_daemon_that_ends_at_once_is_reported_with_its_log(system):
    system.have(dockerd="echo 'no cgroups here' >&2; exit 1")
    done = system.run()
    assert done.returncode == 1
    assert "no cgroups here" in done.stderr
    assert "cannot go on: dockerd ended" in done.stderr


def test_stop_leaves_a_process_alone_that_only_has_the_same_id(system):
    (system.state / "pid").write_text(str(os.getpid()))
    assert system.run("stop").stdout == "engine: none runs that this script started\n"


def test_another_daemon_that_does_not_answer_is_not_replaced(system):
    system.have(grep="exit 0")
    done = system.run()
    assert done.returncode == 1
    assert "Cannot connect" in done.stderr
    assert "usermod -aG docker" in done.stderr
    assert not system.note("started")


def test_an_engine_elsewhere_is_never_replaced_by_one_here(system):
    done = system.run(DOCKER_HOST="tcp://far:2375")
    assert done.returncode == 1
    assert "DOCKER_HOST is tcp://far:2375, and nothing answers there" in done.stderr
    assert not system.note("started")


def test_a_registry_that_answers_brings_the_base_image(system):
    system.set("answers", "registry")
    done = system.run()
    assert done.returncode == 0
    assert not system.note("mmdebstrap")


def test_without_a_registry_the_base_image_is_made_from_packages(system):
    system.set("answers")
    done = system.run()
    assert done.returncode == 0, done.stderr
    assert system.note("base") == "debian:bookworm-slim\n"
    assert "--variant=minbase" in system.note("mmdebstrap")


def test_what_mmdebstrap_says_is_shown_when_it_fails(system):
    system.set("answers")
    system.have(mmdebstrap="echo 'no mirror'; exit 1")
    done = system.run()
    assert done.returncode == 1
    assert "no mirror" in done.stderr
    assert not system.note("base")


def test_missing_packages_are_installed_by_name(system):
    system.set("base")
    system.lack("containerd", "iptables")
    bin_folder = system._path
    system.have(
        apt_get=f'echo "$*" >>{{state}}/apt; for p in "$@"; do case $p in containerd | iptables)'
        f' printf "#!/bin/sh\\n" >{bin_folder}/$p; chmod 755 {bin_folder}/$p ;; esac; done'
    )
    done = system.run()
    assert done.returncode == 0, done.stderr
    assert "will install Debian packages: " in done.stdout
    assert "install -y -qq --no-install-recommends " in system.note("apt")


def test_a_system_without_apt_get_is_told_what_to_install(system):
    system.set("answers")
    system.have(docker=DOCKER)
    system.lack("mmdebstrap")
    done = system.run()
    assert done.returncode == 1
    assert "no apt-get; install by hand: mmdebstrap" in done.stderr


def test_an_unknown_word_is_refused(system):
    done = system.run("restart")
    assert done.returncode == 2
    assert "usage: scripts/engine [stop]" in done.stderr
