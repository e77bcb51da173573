"""Memory that clients map."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from raygym.remote_env.rpc.shared_memory import map_memory
from raygym.runtimes.lockstep.memory import SharedMemory


def test_it_has_no_name_in_any_directory_unless_one_is_given(tmp_path: Path):
    memory = SharedMemory()
    memory.resize(5)[:] = b"hello"
    assert memory.path == f"/proc/{os.getpid()}/fd/{memory.fd}"
    assert bytes(map_memory(memory.path, 5)) == b"hello"
    memory.close()


def test_in_a_directory_it_is_a_private_file_with_a_bare_name(tmp_path: Path):
    memory = SharedMemory(directory=tmp_path)
    memory.resize(5)[:] = b"hello"
    (file,) = tmp_path.iterdir()
    assert memory.path == file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert bytes(map_memory(memory.path, 5, tmp_path)) == b"hello"
    memory.close()


def test_the_file_ends_with_it(tmp_path: Path):
    memory = SharedMemory(directory=tmp_path)
    memory.close()
    memory.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_after_the_directory_is_gone_does_nothing(tmp_path: Path):
    memory = SharedMemory(directory=tmp_path)
    next(tmp_path.iterdir()).unlink()
    memory.close()
