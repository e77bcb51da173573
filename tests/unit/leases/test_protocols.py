from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from raygym.errors import ConfigError
from raygym.leases.protocols import Holder, Want

HERE = Holder.this_process()


def test_this_process_is_not_dead():
    assert HERE.pid == os.getpid()
    assert not HERE.is_dead()


def test_a_process_that_ended_is_dead_before_and_after_it_is_reaped():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        holder = replace(HERE, pid=process.pid, started_ticks=1)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert holder.is_dead()
        assert replace(holder, started_ticks=0).is_dead()
    assert holder.is_dead()


def test_another_process_of_the_same_id_does_not_stand_in_for_a_dead_one():
    assert replace(HERE, started_ticks=HERE.started_ticks + 1).is_dead()


@pytest.mark.parametrize("elsewhere", [{"node": "another"}, {"pid_namespace": "pid:[1]"}])
def test_a_process_that_cannot_be_seen_from_here_is_not_called_dead(elsewhere):
    assert not replace(HERE, started_ticks=1, **elsewhere).is_dead()


def test_a_node_may_be_named_otherwise_than_by_its_host_name():
    here = replace(HERE, node="node-7")
    assert not here.is_dead(here=here)
    assert replace(here, started_ticks=1).is_dead(here=here)


def test_a_program_with_brackets_in_its_name_is_read_right(tmp_path):
    program = tmp_path / "a) (b"
    program.symlink_to(sys.executable)
    asked = (
        "import json; from raygym.leases.protocols import Holder; "
        "print(json.dumps(vars(Holder.this_process())))"
    )
    with subprocess.Popen(
        [program, "-c", f"{asked}; input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as process:
        assert process.stdout is not None
        holder = Holder(**json.loads(process.stdout.readline()))
        assert holder.pid == process.pid
        assert holder.started_ticks >= HERE.started_ticks
        assert not holder.is_dead()
        process.communicate("\n", timeout=30)
    assert holder.is_dead()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_id", ""),
        ("runtime", ""),
        ("ttl_s", 0.0),
        ("ttl_s", float("nan")),
        ("keep_s", -1.0),
        ("on_mismatch", "maybe"),
    ],
)
def test_a_want_that_makes_no_sense_names_its_field(field, value):
    with pytest.raises(ConfigError, match=rf"Want\.{field}.*{value!r}"):
        Want(**{"client_id": "worker-0", "runtime": "flashgames", "holder": HERE, field: value})
