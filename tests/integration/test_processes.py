from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from raygym.errors import MissingDependency
from raygym.runtimes.processes import Process, find_program, spawn, usage
from tests.support.loop_thread import LoopThread
from tests.support.process_tree import all_end, command

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    it = LoopThread()
    yield it
    it.close()


async def start(*words: str, **options) -> Process:
    return spawn(words, environment=ENVIRONMENT, **options)


async def start_and_hear(code: str) -> tuple[Process, str]:
    """Starts Python and returns the first line that it prints to its descriptor 5."""
    read_end, write_end = os.pipe()
    process = await start(sys.executable, "-S", "-E", "-c", code, fds={5: write_end})
    os.close(write_end)
    with os.fdopen(read_end) as file:
        return process, file.readline().strip()


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", -9), ("true", 0)])
def test_the_exit_code_is_told_once_it_ends(loop, script, code):
    process = loop.run(start("sh", "-c", script))
    assert loop.run(process.wait()) == code
    assert loop.run(process.wait()) == code
    assert not process.is_running


def test_a_descriptor_of_the_caller_may_be_its_output_and_stays_the_callers(loop):
    read_end, write_end = os.pipe()
    process = loop.run(start("echo", "heard", fds={1: write_end}))
    os.close(write_end)
    with os.fdopen(read_end) as file:
        assert file.read() == "heard\n"
    assert loop.run(process.wait()) == 0


def test_its_descriptors_and_variables_are_those_given_and_no_others(loop):
    code = (
        "import os; os.environ.pop('LC_CTYPE', None); "
        "os.write(5, (' '.join(sorted(os.listdir('/proc/self/fd'), key=int)) "
        "+ '|' + ','.join(os.environ)).encode())"
    )
    leak = os.dup(2)
    os.set_inheritable(leak, True)
    process, said = loop.run(start_and_hear(code))
    os.close(leak)
    assert loop.run(process.wait()) == 0
    fds, variables = said.split("|")
    assert fds.split() == ["0", "1", "2", "3", "5"], "3 is the folder that is listed"
    assert set(variables.split(",")) - {"PWD"} == {"PATH"}, "a shell adds PWD"


def test_ending_it_ends_what_it_started(loop):
    process = loop.run(start("sh", "-c", "sleep 60 & sleep 60"))
    deadline = time.monotonic() + 5
    while len(below := usage(process.pid).pids) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.run(process.end())
    assert len(below) == 3
    assert all_end(below)


def test_what_it_started_ends_with_it_when_it_is_killed_from_outside(loop):
    process = loop.run(start("sh", "-c", "sleep 60 & exec sleep 61"))
    deadline = time.monotonic() + 5
    while len(below := usage(process.pid).pids) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert loop.run(process.wait()) == -signal.SIGKILL
    assert all_end(below)


def test_one_that_does_not_listen_to_sigterm_is_killed_after_the_patience(loop):
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "os.write(5, b'ready\\n'); time.sleep(60)"
    )
    process, said = loop.run(start_and_hear(code))
    assert said == "ready"
    loop.run(process.end(patience_s=0.1))
    assert loop.run(process.wait()) == -signal.SIGKILL


def test_a_stopped_one_is_killed_too(loop):
    process = loop.run(start("sleep", "60"))
    os.kill(process.pid, signal.SIGSTOP)
    loop.run(process.end(patience_s=0.1))
    assert not process.is_running


def test_it_ends_with_the_thread_that_started_it():
    loop = LoopThread()
    process = loop.run(start("sleep", "60"))
    deadline = time.monotonic() + 5
    while command(process.pid)[:1] != ["sleep"] and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.close()
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == -signal.SIGKILL


def test_its_owners_death_is_told_with_the_signal_that_was_chosen():
    loop = LoopThread()
    process = loop.run(start("sleep", "60", on_owner_death="TERM"))
    deadline = time.monotonic() + 5
    while command(process.pid)[:1] != ["sleep"] and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.close()
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == -signal.SIGTERM


def test_a_program_that_is_absent_is_named_with_its_package():
    with pytest.raises(MissingDependency, match=r"no-such-program.*install .*some-package"):
        find_program("no-such-program", package="some-package")


def test_usage_counts_the_memory_and_time_of_a_group(loop):
    code = (
        "import os, time; b = bytearray(64 << 20); [i for i in range(10**6)]; "
        "os.write(5, b'ready\\n'); time.sleep(60)"
    )
    process, _ = loop.run(start_and_hear(code))
    used = usage(process.pid)
    assert used.pids == (process.pid,)
    assert 64 << 20 < used.pss_bytes < 256 << 20
    assert 0 < used.cpu_s < 30
    loop.run(process.kill())
    assert usage(process.pid).pids == ()
