"""Slots in processes, and what comes of processes that die, hang, slow down or never start."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.vector.process_slots import ProcessSlots
from raygym.vector.slots import Ready
from raygym.vector.supervision import Supervision
from raygym.vector.vector_env import SlotVectorEnv
from raygym.vector.worker_process import WorkerProcess
from tests.support.varied_env import VariedEnv
from tests.support.worker_envs import (
    DIE,
    END,
    EXIT,
    HANG,
    LOSE,
    NOTHING,
    RAISE,
    WRONG_SHAPE,
    FaultyEnv,
    NeverEnv,
    cart_or_ice,
    never_from_second,
)

ANSWER_S = 60.0
QUICK = Supervision(step_timeout_s=2.0, first_retry_s=0.05, longest_retry_s=0.1)

Make = Callable[..., ProcessSlots]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes slots of FaultyEnv, or of another factory, that are closed in the end."""
    made: list[ProcessSlots] = []

    def make(num_slots: int, **settings: Any) -> ProcessSlots:
        slow_after = settings.pop("slow_after", None)
        factory = settings.pop(
            "factory", partial(FaultyEnv, directory=tmp_path, slow_after=slow_after)
        )
        made.append(ProcessSlots(factory, num_slots, **{"supervision": QUICK, **settings}))
        return made[-1]

    yield make
    for slots in made:
        slots.close()


def begin(slots: ProcessSlots, ids: list[int] | None = None) -> Ready:
    ids = list(range(slots.num_slots)) if ids is None else ids
    slots.reset(ids)
    return slots.recv(at_least=len(ids), timeout_s=ANSWER_S)


def step(slots: ProcessSlots, actions: dict[int, int]) -> Ready:
    slots.send(list(actions), list(actions.values()))
    ready = slots.recv(at_least=len(actions), timeout_s=ANSWER_S)
    assert sorted(ready.slots.tolist()) == sorted(actions)
    return ready


def row(ready: Ready, slot: int) -> int:
    return ready.slots.tolist().index(slot)


def assert_cut(ready: Ready, slot: int, outcome: str, reason: str) -> None:
    at = row(ready, slot)
    assert ready.truncated[at]
    assert not ready.terminated[at]
    assert ready.rewards[at] == 0.0
    assert ready.infos[at]["outcome"] == outcome
    assert reason in ready.infos[at]["reason"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_are_those_of_the_environments(make: Make) -> None:
    slots = make(3, num_processes=2)
    ready = begin(slots)
    assert ready.slots.tolist() == [0, 1, 2]
    assert ready.is_first.all()
    assert ready.observations.tolist() == [[0, 1, 1, 0], [1, 1, 1, 0], [2, 1, 1, 0]]
    assert (ready.rewards == 0.0).all()
    ready = step(slots, {2: NOTHING, 0: END})
    assert ready.observations[row(ready, 2)].tolist() == [2, 1, 1, 1]
    assert ready.terminated[row(ready, 0)]
    assert not ready.terminated[row(ready, 2)]
    assert not ready.is_first.any()
    slots.reset([0], seeds=[7])
    ready = slots.recv(timeout_s=ANSWER_S)
    assert ready.observations.tolist() == [[0, 1, 2, 0]]
    assert ready.infos == [{"seed": 7}]
    assert [report.state for report in slots.reports()] == ["running"] * 3
    assert [report.starts for report in slots.reports()] == [1] * 3


@pytest.mark.parametrize(
    ("mode", "observation", "action"),
    [
        *((mode, "box", "discrete") for mode in AutoresetMode),
        (AutoresetMode.NEXT_STEP, "multi binary", "floats"),
        (AutoresetMode.SAME_STEP, "dict", "tuple"),
        (AutoresetMode.DISABLED, "text", "dict"),
    ],
)
def test_each_row_is_that_of_gymnasiums_vector_environment(
    make: Make, mode: AutoresetMode, observation: str, action: str
) -> None:
    factory = partial(VariedEnv, observation=observation, action=action)
    ours = SlotVectorEnv(make(3, factory=factory, num_processes=2), autoreset_mode=mode)
    theirs = SyncVectorEnv([partial(factory, i) for i in range(3)], autoreset_mode=mode)
    ours.action_space.seed(2)
    assert data_equivalence(ours.reset(seed=4), theirs.reset(seed=4))
    for _ in range(12):
        actions = ours.action_space.sample()
        mine, their = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine, their), f"{mine}\nis not\n{their}"
        is_over = mine[2] | mine[3]
        if mode is AutoresetMode.DISABLED and is_over.any():
            mine, their = (env.reset(options={"reset_mask": is_over}) for env in (ours, theirs))
            assert data_equivalence(mine, their)


def test_long_infos_come_whole(make: Make) -> None:
    slots = make(1, factory=partial(VariedEnv, observation="text"))
    slots.reset([0], options={"x" * 200_000: 1})
    assert slots.recv(timeout_s=ANSWER_S).infos[0]["options"] == ["x" * 200_000]


def test_a_slot_is_not_asked_twice(make: Make) -> None:
    slots = make(2)
    with pytest.raises(ConfigError, match=r"episodes of slots \[0\] are over"):
        slots.send([0], [NOTHING])
    slots.reset([0])
    with pytest.raises(ConfigError, match=r"slots \[0\] have not answered"):
        slots.reset([0, 1])


def test_recv_returns_at_its_timeout_and_when_nothing_is_due(make: Make) -> None:
    slots = make(1)
    assert len(slots.recv().slots) == 0
    begin(slots)
    slots.send([0], [HANG])
    assert len(slots.recv(timeout_s=0.0).slots) == 0


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (RAISE, "ZeroDivisionError: one over nothing"),
        (EXIT, "SystemExit: 3"),
        (WRONG_SHAPE, "shape (4, 1)"),
    ],
)
def test_an_environment_that_raises_is_cut_alone_and_made_anew(
    make: Make, action: int, said: str
) -> None:
    slots = make(2, num_processes=1)
    begin(slots)
    step(slots, {0: NOTHING, 1: NOTHING})
    pids = slots.pids
    ready = step(slots, {0: action, 1: NOTHING})
    assert_cut(ready, 0, "env_failure", said)
    assert "Traceback" in ready.infos[row(ready, 0)]["reason"]
    assert ready.observations[row(ready, 0)].tolist() == [0, 1, 1, 1], "the last one"
    assert not ready.truncated[row(ready, 1)]
    assert begin(slots, [0]).observations.tolist() == [[0, 2, 1, 0]]
    assert slots.pids == pids
    report = slots.reports()[0]
    assert report.cuts == {"env_failure": 1}
    assert (report.remotes_started, report.remotes_lost) == (2, 0)
    assert step(slots, {1: NOTHING}).observations.tolist() == [[1, 1, 1, 3]]


def test_a_process_that_dies_again_and_again_is_started_later_and_later(make: Make) -> None:
    slots = make(1, supervision=Supervision(first_retry_s=0.2, longest_retry_s=10.0))
    for tries in range(1, 4):
        begin(slots)
        sent_s = time.monotonic()
        assert_cut(step(slots, {0: DIE}), 0, "env_failure", "SIGSEGV")
        slots.reset([0])
        slots.recv(timeout_s=ANSWER_S)
        assert time.monotonic() - sent_s > 0.2 * 2 ** (tries - 1)
        step(slots, {0: END})


def test_a_failure_that_the_environment_tells_itself_is_counted_and_passed_on(make: Make) -> None:
    slots = make(1)
    begin(slots)
    assert_cut(step(slots, {0: LOSE}), 0, "infra_failure", "lost")
    assert begin(slots).observations.tolist() == [[0, 1, 2, 0]], "the same environment"
    assert slots.reports()[0].cuts == {"infra_failure": 1}


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_process_that_dies_cuts_its_slots_and_no_others(make: Make, is_killed: bool) -> None:
    slots = make(4, num_processes=2)
    begin(slots)
    dead = slots.pids[0]
    assert dead is not None
    if is_killed:
        slots.send([0, 2], [HANG, NOTHING])
        assert slots.recv(timeout_s=ANSWER_S).slots.tolist() == [2]
        os.kill(dead, signal.SIGKILL)
        ready = slots.recv(timeout_s=ANSWER_S)
    else:
        ready = step(slots, {0: DIE, 2: NOTHING})
    assert_cut(ready, 0, "env_failure", "SIGKILL" if is_killed else "SIGSEGV")
    assert ("in step" in ready.infos[row(ready, 0)]["reason"]) is not is_killed
    assert_cut(step(slots, {1: NOTHING}), 1, "env_failure", f"pid {dead}")
    assert not step(slots, {2: NOTHING, 3: NOTHING}).truncated.any()
    again = begin(slots, [0, 1])
    assert sorted(again.observations.tolist()) == [[0, 2, 1, 0], [1, 2, 1, 0]]
    assert dead not in slots.pids
    assert not is_alive(dead)
    reports = slots.reports()
    assert [(r.remotes_started, r.remotes_lost, r.remote_id) for r in reports] == [
        (2, 1, "r-0"),
        (2, 1, "r-1"),
        (1, 0, "r-2"),
        (1, 0, "r-3"),
    ]


def test_a_process_killed_while_idle_cuts_what_was_in_an_episode(make: Make) -> None:
    slots = make(2, num_processes=1)
    begin(slots)
    step(slots, {0: END})
    pid = slots.pids[0]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ready = step(slots, {1: NOTHING})
    assert_cut(ready, 1, "env_failure", "SIGKILL")
    assert begin(slots).observations[:, 1].tolist() == [2, 2]


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_hung_process_is_cut_at_the_deadline_and_replaced(make: Make, is_stopped: bool) -> None:
    slots = make(2, num_processes=2)
    begin(slots)
    hung = slots.pids[0]
    assert hung is not None
    if is_stopped:
        os.kill(hung, signal.SIGSTOP)
    slots.send([0, 1], [NOTHING if is_stopped else HANG, NOTHING])
    assert slots.recv(timeout_s=ANSWER_S).slots.tolist() == [1], "the other does not wait"
    ready = slots.recv(timeout_s=ANSWER_S)
    assert_cut(ready, 0, "timeout", "no answer to a step for 2 s")
    says_where = "in step" in ready.infos[0]["reason"]
    assert says_where is not is_stopped, "a stopped one cannot say what it was at"
    assert not is_alive(hung)
    assert begin(slots, [0]).observations.tolist() == [[0, 2, 1, 0]]


def test_those_that_share_a_process_with_a_hung_slot_are_cut_as_its_victims(make: Make) -> None:
    slots = make(2, num_processes=1)
    begin(slots)
    ready = step(slots, {0: HANG, 1: NOTHING})
    assert_cut(ready, 0, "timeout", "while busy with slot 0")
    assert_cut(ready, 1, "env_failure", "while busy with slot 0")


def test_time_spent_learning_is_not_held_against_a_slot(make: Make) -> None:
    slots = make(1, supervision=Supervision(step_timeout_s=0.05))
    begin(slots)
    slots.send([0], [NOTHING])
    worker = slots._crew.places[0].worker
    assert worker is not None
    await_answer(worker)
    overdue_s = worker.last_sent_s + 0.1
    while time.monotonic() < overdue_s:
        time.sleep(0.01)
    assert not slots.recv(timeout_s=ANSWER_S).truncated.any()


def test_what_has_come_is_returned_without_a_wait(make: Make) -> None:
    slots = make(1)
    begin(slots)
    for _ in range(3):
        slots.send([0], [NOTHING])
        worker = slots._crew.places[0].worker
        assert worker is not None
        await_answer(worker)
        assert slots.recv(timeout_s=0.0).slots.tolist() == [0]


def await_answer(worker: WorkerProcess) -> None:
    assert select.select([worker.channel], [], [], ANSWER_S)[0]


def test_a_reset_that_raises_is_tried_again_while_the_others_go_on(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "refuse").write_text("reset 0 3\n")
    slots = make(2, num_processes=1, supervision=Supervision(first_retry_s=0.5))
    slots.reset([0, 1])
    assert slots.recv(timeout_s=ANSWER_S).slots.tolist() == [1]
    report = slots.reports()[0]
    assert (report.state, report.failures_in_a_row) == ("retrying", 1)
    assert "no reset yet" in report.error
    assert not step(slots, {1: NOTHING}).truncated.any()
    ready = slots.recv(timeout_s=ANSWER_S)
    assert (ready.slots.tolist(), ready.is_first.tolist()) == ([0], [True])
    report = slots.reports()[0]
    assert (report.state, report.failures_in_a_row) == ("running", 0)


def test_a_slot_that_fails_again_and_again_is_quarantined_and_logged_once(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "refuse").write_text("reset 0 6\n")
    supervision = Supervision(first_retry_s=0.01, longest_retry_s=0.02, quarantine_after=3)
    slots = make(1, supervision=supervision)
    begin(slots)
    quarantined = [r for r in caplog.records if "slot.quarantined" in r.message]
    assert len(quarantined) == 1
    assert "no reset yet" in quarantined[0].message


def test_a_first_environment_that_fails_is_tried_again(make: Make, tmp_path: Path) -> None:
    (tmp_path / "refuse").write_text("make 0 2\n")
    assert begin(make(1)).observations.tolist() == [[0, 3, 1, 0]]


def test_a_first_environment_that_never_comes_ends_in_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "refuse").write_text("make 0 1000000\n")
    supervision = Supervision(quarantine_after=2, first_retry_s=0.1, longest_retry_s=0.1)
    with pytest.raises(RemoteFailedToStart, match="no make yet"):
        make(1, supervision=supervision)


def test_a_factory_that_can_never_work_is_told_at_once(make: Make) -> None:
    with pytest.raises(ConfigError, match="slot 0 makes no sense"):
        make(1, factory=NeverEnv)


def test_recv_raises_what_makes_a_slot_impossible(make: Make) -> None:
    slots = make(2, factory=never_from_second)
    slots.reset([0, 1])
    with pytest.raises(ConfigError, match="slot 1 makes no sense"):
        slots.recv(at_least=2, timeout_s=ANSWER_S)


def test_environments_of_different_spaces_are_refused(make: Make) -> None:
    slots = make(2, factory=cart_or_ice)
    slots.reset([0, 1])
    with pytest.raises(ConfigError, match="same spaces"):
        slots.recv(at_least=2, timeout_s=ANSWER_S)


def test_a_factory_that_does_not_pickle_is_refused(make: Make) -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigError, match="cannot be pickled"):
        make(1, factory=lambda _: print(lock))


@pytest.mark.parametrize("counts", [(0, None), (2, 3), (2, -1)])
def test_numbers_that_make_no_sense_are_refused(make: Make, counts: tuple[int, Any]) -> None:
    with pytest.raises(ConfigError, match="processes"):
        make(counts[0], num_processes=counts[1])


def test_a_slot_that_became_slow_is_cut_and_made_anew(make: Make) -> None:
    supervision = Supervision(slow_factor=8.0)
    slots = make(3, num_processes=3, slow_after=21, supervision=supervision)
    begin(slots)
    for _ in range(100):
        ready = step(slots, dict.fromkeys(range(3), NOTHING))
        if ready.truncated.any():
            break
    assert ready.truncated[ready.slots == 0].all()
    info = ready.infos[row(ready, 0)]
    assert info["outcome"] == "timeout"
    assert info["reason"].startswith("slow")
    assert ready.rewards[row(ready, 0)] == 1.0, "the step itself was taken"
    assert begin(slots, [0]).observations.tolist() == [[0, 2, 1, 0]]


def test_first_ready_batches_do_not_wait_for_a_slot_that_is_made_anew(
    make: Make, tmp_path: Path
) -> None:
    env = SlotVectorEnv(make(3, num_processes=3), batch_size=2)
    env.async_reset()
    while 0 not in (ids := env.recv()[4]["env_id"]):
        env.send([NOTHING] * 2, ids)
    (tmp_path / "refuse").write_text("reset 0 1000000\n")
    env.send(np.where(ids == 0, RAISE, NOTHING), ids)
    cuts: list[str] = []
    while not cuts:
        *_, truncated, infos = env.recv()
        cuts = infos["outcome"][truncated].tolist() if truncated.any() else []
        env.send([NOTHING] * 2, infos["env_id"])
    assert cuts == ["env_failure"]
    for _ in range(20):
        ids = env.recv()[4]["env_id"]
        assert sorted(ids.tolist()) == [1, 2]
        env.send([NOTHING] * 2, ids)


def test_close_is_bounded_and_leaves_nothing(make: Make) -> None:
    held = len(open_memory())
    slots = make(4, num_processes=2)
    assert len(open_memory()) > held
    begin(slots)
    pids = {pid for pid in slots.pids if pid is not None}
    os.kill(min(pids), signal.SIGSTOP)
    slots.send([0, 2], [HANG, HANG])
    began_s = time.monotonic()
    slots.close()
    slots.close()
    assert time.monotonic() - began_s < 30
    assert not any(is_alive(pid) for pid in pids)
    assert {report.state for report in slots.reports()} == {"closed"}
    assert len(open_memory()) == held
    with pytest.raises(ConfigError, match="closed"):
        slots.recv()


def open_memory() -> list[str]:
    """Returns the descriptors of shared memory that this process holds open."""
    names = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(fd.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in names if "memfd:raygym" in name]


DRIVER = """
import os, sys, time
from functools import partial
from pathlib import Path
from tests.support.worker_envs import HANG, FaultyEnv
from raygym.vector.process_slots import ProcessSlots
slots = ProcessSlots(partial(FaultyEnv, directory=Path(sys.argv[1])), 2, num_processes=2)
slots.reset([0, 1])
slots.recv(at_least=2)
slots.send([0], [HANG])
print(*slots.pids, flush=True)
if sys.argv[2] == "end":
    sys.exit()
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["end", "kill"])
def test_processes_die_with_their_parent(tmp_path: Path, how: str) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as driver:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        if how == "kill":
            driver.kill()
        driver.wait(ANSWER_S)
    assert len(pids) == 2
    for pid in pids:
        await_end(pid)


def await_end(pid: int) -> None:
    """Waits for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(ANSWER_S * 1e3), f"process {pid} lives on"
    os.close(fd)
