"""Hosts on this machine: each in network, process, mount, host name and IPC namespaces of its own.

Each has an address in a network that only they share, its own /run, /dev/shm, home and temporary
directory of Ray, and an ssh server on port 22. Files are those of this machine. Nothing of it is to
be seen outside; all of it ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.process_tree import all_end, descendants

START_S = 30.0
NETWORK = "198.18.0"
"""Of the range for tests of networks (RFC 2544): nobody routes it."""
_NEEDS = {
    # OpenSSH's would be started for all to reach, on each machine where these tests are run.
    "dropbear": "dropbear-bin",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "ip": "iproute2",
}
_NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")

_INIT = """
set -eu
hostname "$NAME"
mount --make-rprivate /
for file in passwd group hosts resolv.conf; do
    mount --bind "$ETC/$file" "$(readlink -f "/etc/$file")"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/tmp
mount -t tmpfs -o "size=$SHM_BYTES" tmpfs /dev/shm
mkdir -p /tmp/ray
mount --bind "$HOME/tmp-ray" /tmp/ray
ip link set lo up
exec dropbear -F -E -s -m -r "$ETC/host-key" -P /run/dropbear.pid -p 22
"""


def needs() -> str:
    """Returns what stands in the way of such hosts here, or nothing."""
    if os.geteuid() != 0:
        return "namespaces are for root only: run these tests as root (sudo -E make test)"
    missing = [package for name, package in _NEEDS.items() if shutil.which(name) is None]
    if missing:
        return f"missing: apt-get install --no-install-recommends {' '.join(missing)}"
    done = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "true"], capture_output=True, text=True, timeout=30
    )
    return f"this machine allows no namespaces: {done.stderr}" if done.returncode else ""


@dataclass
class Host:
    """One of them."""

    name: str
    address: str
    home: Path
    """Its home directory, as this machine sees it."""
    port: str = ""
    """Name of its socket at the switch."""
    init_pid: int = 0
    """Its process 1, as this machine sees it."""
    is_up: bool = False
    _root: subprocess.Popen[bytes] | None = None
    _switch_pid: int = 0
    _environment: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there, output and errors in one."""
        # Entering its process namespace takes a fork; what it leaves behind would live on.
        return subprocess.run(
            [*self.enter(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**self._environment, **(environment or {})},
            cwd=self.home,
        )

    def enter(self) -> list[str]:
        """Returns what goes in front of a command that runs there."""
        spaces = ("--net", "--mount", "--pid", "--uts", "--ipc")
        return ["nsenter", "--target", str(self.init_pid), *spaces, "--"]

    def kill(self) -> None:
        """Ends all of it at once, as a power cut does; its files stay."""
        if self._root is None:
            return
        inside = descendants(self._root.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init_pid or self._root.pid, signal.SIGKILL)
        try:
            self._root.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._root.kill()
            self._root.wait(timeout=60)
        assert all_end(inside, timeout_s=60), f"{self.name}: processes outlive their namespace"
        self._root, self.is_up = None, False

    def unplug(self) -> None:
        """Takes it off the network: what was sent to it or by it is lost, without a word."""
        self._link("down")

    def plug_in(self) -> None:
        """Puts it back on the network."""
        self._link("up")

    def _link(self, state: str) -> None:
        _in_network(self._switch_pid, "link", "set", self.port, state)


class Hosts:
    """A network of such hosts; a context manager.

    Args:
        directory: Where their files go.
        names: One host each; the first has the address 198.18.0.11.
        variables: What programs there find in their environment.
        shm_bytes: Size of /dev/shm of each.
    """

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        shm_bytes: int = 1 << 30,
    ) -> None:
        self._given = dict(variables or {})
        self._directory = directory
        self._shm_bytes = shm_bytes
        self._all = [
            Host(name, f"{NETWORK}.{11 + number}", directory / name / "home", f"port{number}")
            for number, name in enumerate(names)
        ]
        self._switch: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Hosts:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Host]:
        return iter(self._all)

    @property
    def key(self) -> Path:
        """The private key that opens all of them."""
        return self._directory / "id"

    def start(self, host: Host) -> None:
        """Starts a host, also one that was killed."""
        assert self._switch is not None
        etc = host.home.parent
        environment = {
            "NAME": host.name,
            "ETC": str(etc),
            "HOME": str(host.home),
            "SHM_BYTES": str(self._shm_bytes),
            "PATH": _path(),
        }
        with (etc / "init.log").open("ab") as log:
            host._root = _spawn(["bash", "-c", _INIT], environment, log)
        host._environment = {"HOME": str(host.home), "LANG": "C.UTF-8", **self._variables()}
        host._switch_pid = self._switch.pid
        host.init_pid = _child(host._root)
        self._connect(host)
        self._wait_for_ssh(host)
        host.is_up = True

    def close(self) -> None:
        """Ends all of them and their network; may be called twice."""
        for host in self._all:
            host.kill()
        if self._switch is not None:
            self._switch.kill()
            self._switch.wait(timeout=60)
            self._switch = None

    def _variables(self) -> dict[str, str]:
        # Ray would follow TMPDIR, and its paths are known to be below /tmp/ray.
        places = {"PATH": _path(), "TMPDIR": "/run/tmp", "RAY_TMPDIR": "/tmp"}
        return {**places, **self._given}

    def _start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        _make_key(self.key)
        # Its own process is in the new network, so it is asked for by its own id.
        self._switch = subprocess.Popen(
            [*_ENDS_WITH_US, "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        _wait(lambda: _is_elsewhere(self._switch), "the switch has no network of its own")
        _in_network(self._switch.pid, "link", "add", "switch", "type", "bridge")
        _in_network(self._switch.pid, "link", "set", "switch", "up")
        for host in self._all:
            self._make_files(host)
            self.start(host)

    def _connect(self, host: Host) -> None:
        assert self._switch is not None
        switch, here = self._switch.pid, host.init_pid
        with contextlib.suppress(subprocess.CalledProcessError):
            # That of an earlier life goes when the kernel comes to it.
            _in_network(switch, "link", "del", host.port)
        # The same address of its card in each life, as others remember it for a while.
        card = f"02:00:00:00:00:{int(host.address.rpartition('.')[2]):02x}"
        peer = ("peer", "name", "eth0", "address", card, "netns", str(here))
        _in_network(switch, "link", "add", host.port, "type", "veth", *peer)
        _in_network(switch, "link", "set", host.port, "master", "switch", "up")
        _in_network(here, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _in_network(here, "link", "set", "eth0", "up")

    def _make_files(self, host: Host) -> None:
        etc = host.home.parent
        (host.home / "tmp-ray").mkdir(parents=True)
        kind = ("-t", "ed25519", "-f", str(etc / "host-key"))
        subprocess.run(["dropbearkey", *kind], check=True, capture_output=True, timeout=30)
        exports = " ".join(f"{name}={value}" for name, value in self._variables().items())
        (host.home / ".profile").write_text(f"export {exports}\n")
        (host.home / ".bashrc").touch()
        (etc / "hosts").write_text(
            "127.0.0.1 localhost\n" + "".join(f"{h.address} {h.name}\n" for h in self._all)
        )
        (etc / "resolv.conf").write_text("")
        groups = Path("/etc/group").read_text()
        more = "" if "\ndocker:" in groups else "docker:x:64999:\n"
        (etc / "group").write_text(groups + more)
        (etc / "passwd").write_text(
            "".join(
                f"root:x:0:0:root:{host.home}:/bin/bash\n" if line.startswith("root:") else line
                for line in Path("/etc/passwd").read_text().splitlines(keepends=True)
            )
        )
        keys = host.home / ".ssh"
        keys.mkdir(mode=0o700)
        shutil.copy(self.key.with_suffix(".pub"), keys / "authorized_keys")
        # It checks who else could write there.
        host.home.chmod(0o700)

    def _wait_for_ssh(self, host: Host) -> None:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=2"]
        flags = [part for option in options for part in ("-o", option)]
        command = ["ssh", "-q", *flags, "-i", str(self.key), f"root@{host.address}", "true"]

        def answers() -> bool:
            return host.run(command, timeout_s=START_S).returncode == 0

        log = host.home.parent / "init.log"
        _wait(answers, f"{host.name}: no ssh server answers", log)


_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def _spawn(
    command: Sequence[str], environment: dict[str, str], log: object
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *_ENDS_WITH_US,
            *("unshare", *_NAMESPACES, "--fork", "--kill-child=KILL", "--mount-proc"),
            *command,
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _child(parent: subprocess.Popen[bytes]) -> int:
    """Returns process 1 of the namespaces that a process made."""
    _wait(lambda: bool(descendants(parent.pid)) or parent.poll() is not None, "no namespaces")
    assert parent.poll() is None, f"unshare ended with {parent.returncode}"
    return min(descendants(parent.pid))


def _is_elsewhere(process: subprocess.Popen[bytes] | None) -> bool:
    assert process is not None
    return Path(f"/proc/{process.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def _in_network(pid: int, *arguments: str) -> None:
    subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "--", "ip", *arguments],
        check=True,
        capture_output=True,
        timeout=60,
    )


def _make_key(path: Path) -> None:
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)


def _path() -> str:
    """Returns the search path of a host: this interpreter's programs, then the system's."""
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{Path(sys.executable).parent}:{system}"


def _wait(condition: object, complaint: str, log: Path | None = None) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + START_S
    while not condition():
        told = log.read_text() if log is not None and log.exists() else ""
        assert time.monotonic() < deadline_s, f"{complaint} within {START_S:g} s\n{told}"
        time.sleep(0.05)
