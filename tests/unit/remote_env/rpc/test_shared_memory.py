from __future__ import annotations

import os

import pytest

from raygym.errors import RemoteProtocolError
from raygym.remote_env.rpc.shared_memory import map_memory


def test_a_mapping_shows_what_the_owner_writes_later(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(b"first")
    view = map_memory(str(path), 5)
    with path.open("r+b") as file:
        file.write(b"later")
    assert bytes(view) == b"later"
    assert view.readonly


@pytest.mark.parametrize("size", [0, 6])
def test_a_size_that_the_file_does_not_have_is_refused(tmp_path, size):
    path = tmp_path / "memory"
    path.write_bytes(b"first")
    with pytest.raises(RemoteProtocolError, match=f"{size} bytes of shared memory"):
        map_memory(str(path), size)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(RemoteProtocolError):
        map_memory(str(path), 5)
    with pytest.raises(RemoteProtocolError):
        map_memory("/dev/zero", 5)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        map_memory(str(tmp_path / "none"), 5)


def test_a_bare_name_is_looked_up_beside_the_socket(tmp_path):
    (tmp_path / "memory-1").write_bytes(b"first")
    assert bytes(map_memory("memory-1", 5, tmp_path)) == b"first"


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "a\0b"])
def test_a_name_that_leads_out_of_the_directory_is_not_followed(tmp_path, name):
    with pytest.raises(FileNotFoundError):
        map_memory(name, 5, tmp_path)


def test_a_bare_name_means_nothing_to_who_came_by_tcp():
    with pytest.raises(FileNotFoundError):
        map_memory("memory-1", 5, None)


def test_a_link_that_a_server_put_into_the_directory_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"first")
    (tmp_path / "memory-1").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        map_memory("memory-1", 5, tmp_path)
