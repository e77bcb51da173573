"""The lease in a remote's directory."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from raygym.remote_env.lease_file import (
    LEASE_FILE,
    LeaseFile,
    read_lease,
    read_untrusted,
    write_lease,
)

LEASE = LeaseFile(
    token=7,
    client_id="worker-3",
    runtime="flashgames",
    variant=("--mode", "lockstep"),
    env_id="flashgames.NeonRace-v0",
    holder={"node": "here", "pid": 12},
    expires_unix_s=1000.25,
    keep_s=60.0,
)


@pytest.mark.parametrize(
    "lease",
    [LEASE, replace(LEASE, holder=None, env_id=None, variant=(), client_id="")],
    ids=["held", "spare"],
)
def test_what_is_written_is_read_back_whole(tmp_path: Path, lease: LeaseFile):
    write_lease(tmp_path, lease)
    assert read_lease(tmp_path) == lease


def test_writing_leaves_one_file_that_every_user_in_the_directory_can_read(tmp_path: Path):
    before = os.umask(0o077)
    try:
        write_lease(tmp_path, LEASE)
    finally:
        os.umask(before)
    write_lease(tmp_path, LEASE)
    assert [path.name for path in tmp_path.iterdir()] == [LEASE_FILE]
    assert stat.S_IMODE((tmp_path / LEASE_FILE).stat().st_mode) == 0o644


def test_no_file_is_no_lease(tmp_path: Path):
    assert read_lease(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"token": "x"}', "null", "\0"])
def test_what_makes_no_sense_is_no_lease(tmp_path: Path, text: str):
    (tmp_path / LEASE_FILE).write_text(text)
    assert read_lease(tmp_path) is None


def test_writing_replaces_a_link_and_leaves_alone_what_it_points_to(tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("precious")
    directory = tmp_path / "remote"
    directory.mkdir()
    (directory / LEASE_FILE).symlink_to(other)
    assert read_lease(directory) is None
    write_lease(directory, LEASE)
    assert other.read_text() == "precious"
    assert read_lease(directory) == LEASE


def test_writing_into_a_directory_that_is_gone_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_lease(tmp_path / "gone", LEASE)


def test_a_pipe_in_place_of_a_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / LEASE_FILE)
    with pytest.raises(OSError, match="no plain file"):
        read_untrusted(tmp_path / LEASE_FILE, most_bytes=10)


def test_of_a_long_file_the_end_is_read(tmp_path: Path):
    (tmp_path / "long").write_text("0123456789")
    assert read_untrusted(tmp_path / "long", most_bytes=4) == "6789"
