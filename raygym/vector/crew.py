"""The processes behind ProcessSlots: started, heard, told, and started again after a pause."""

from __future__ import annotations

import logging
import pickle
import select
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from raygym.errors import RaygymError, RemoteFailedToStart
from raygym.vector.process_worker import Failed, Word
from raygym.vector.shared_block import Block, BlockLayout
from raygym.vector.slots import Int64Array
from raygym.vector.supervision import Supervision
from raygym.vector.worker_process import WorkerProcess

log = logging.getLogger(__name__)

_PROVEN_STEPS = 16
"""A process that ends before so many steps counts as one that failed to start."""

_MOST_SHARES = 512
_LAST_WAIT_S = 1.0
"""For processes to end by themselves, where nobody closed them."""

Spaces: TypeAlias = tuple[gymnasium.Space[Any], gymnasium.Space[Any]]
"""Of the observations and of the actions."""


@dataclass
class Place:
    """A process, or the lack of one."""

    number: int
    slots: Int64Array
    worker: WorkerProcess | None = None
    start_at_s: float = 0.0
    """When it is to be started, while there is none."""
    failures: int = 0
    """Starts in a row that came to nothing."""
    steps: int = 0
    """Taken since its start."""


_Share: TypeAlias = tuple[Place, list[int], bytes]
"""Who plays, which slots, and the same as int32."""


class Crew:
    """Processes that share some slots, and the block they share.

    Args:
        factory: Pickled by ``pickled_factory``.
        num_slots: Slots of all.
        num_processes: How many processes.
        supervision: Deadlines and pauses.

    Raises:
        ConfigError, MissingDependency: The factory raised it.
        RemoteFailedToStart: The first environment was not made within ``reset_timeout_s`` and
            ``quarantine_after`` tries.
    """

    def __init__(
        self, factory: bytes, num_slots: int, num_processes: int, supervision: Supervision
    ) -> None:
        self._factory = factory
        self._supervision = supervision
        shares = np.array_split(np.arange(num_slots), num_processes)
        self.places = [Place(number, slots) for number, slots in enumerate(shares)]
        self.place_of = np.repeat(np.arange(num_processes), [len(slots) for slots in shares])
        self._poll = select.poll()
        self._by_fd: dict[int, Place] = {}
        self._workers: list[WorkerProcess] = []
        self._finalizer = weakref.finalize(self, _end_all, self._workers, _LAST_WAIT_S)
        self._known_shares: dict[bytes, list[_Share]] = {}
        self._block: Block | None = None
        try:
            for place in self.places:
                self._start(place)
            self.spaces = self._learn_spaces(time.monotonic() + supervision.reset_timeout_s)
            self._block = Block(BlockLayout.of(num_slots, num_processes, *self.spaces))
            for place in self.places:
                if place.worker is not None:
                    place.worker.attach(self._block)
        except BaseException:
            self.close(0.0)
            raise

    @property
    def block(self) -> Block:
        """What they share."""
        assert self._block is not None  # noqa: S101  made by __init__
        return self._block

    def pids(self) -> Sequence[int | None]:
        """Returns the process of each slot; None while it has none."""
        workers = [self.places[number].worker for number in self.place_of]
        return [None if worker is None else worker.pid for worker in workers]

    def step(self, slots: Int64Array) -> None:
        """Has slots stepped whose actions lie in the block."""
        for place, mine, packed in self._shares(slots):
            place.steps += len(mine)
            self.tell(place, Word.STEP, packed)

    def step_pickled(self, slots: Int64Array, actions: Sequence[Any]) -> None:
        """Has slots stepped with these actions."""
        by_slot = dict(zip(slots.tolist(), actions, strict=True))
        for place, mine, _ in self._shares(slots):
            place.steps += len(mine)
            self.tell(place, Word.STEP_PICKLED, pickle.dumps([(i, by_slot[i]) for i in mine]))

    def tell(self, place: Place, word: Word, body: bytes) -> None:
        """Tells a process something; if it is gone, ``hear`` says so."""
        if place.worker is None:
            return
        try:
            place.worker.send(word, body)
        except OSError:
            place.worker.is_deaf = True

    def hear(self, wait_s: float) -> Iterator[tuple[Place, Word | None, bytes]]:
        """Yields a message of each process that has said something, and None for one that is gone.

        Args:
            wait_s: Longest wait for the first.
        """
        for fd, _ in self._poll.poll(max(0.0, wait_s) * 1e3):
            place = self._by_fd.get(fd)
            if place is None or place.worker is None:
                continue
            try:
                heard = place.worker.heard()
            except (EOFError, RaygymError):
                yield place, None, b""
            else:
                if heard is not None:
                    yield place, *heard

    def lose(self, place: Place, *, is_hung: bool = False) -> tuple[str, str]:
        """Ends a process, to be started anew.

        Args:
            place: Its place.
            is_hung: Whether it is asked first what it is at.

        Returns:
            How it had ended by itself, if it had, and where its threads were, if it said.
        """
        worker = place.worker
        if worker is None:
            return "", ""
        how, said = self._remove(place, worker, is_hung=is_hung)
        pause_s = 0.0
        place.failures = place.failures + 1 if place.steps < _PROVEN_STEPS else 0
        if place.failures:
            pause_s = self._supervision.retry_after_s(place.failures)
        place.start_at_s = time.monotonic() + pause_s
        return how, said

    def tend(self, now_s: float) -> None:
        """Starts the processes whose time has come."""
        for place in self.places:
            if place.worker is not None or place.start_at_s > now_s:
                continue
            try:
                self._start(place)
            except OSError as error:  # no memory, or too many processes
                place.failures += 1
                place.start_at_s = now_s + self._supervision.retry_after_s(place.failures)
                log.warning("slots.spawn_failed process=%d error=%s", place.number, error)

    def close(self, timeout_s: float) -> None:
        """Ends all processes; those that do not end in time are killed."""
        _end_all(self._workers, timeout_s)
        for place in self.places:
            if place.worker is not None:
                self._remove(place, place.worker)
        self._finalizer.detach()
        if self._block is not None:
            self._block.close()

    def _shares(self, slots: Int64Array) -> list[_Share]:
        """Returns who plays which of some slots; the same sets come again and again."""
        key = slots.tobytes()
        shares = self._known_shares.get(key)
        if shares is None:
            if len(self._known_shares) >= _MOST_SHARES:
                self._known_shares.clear()
            numbers = self.place_of[slots]
            shares = [
                (self.places[number], mine.tolist(), mine.astype(np.int32).tobytes())
                for number in np.unique(numbers).tolist()
                for mine in (slots[numbers == number],)
            ]
            self._known_shares[key] = shares
        return shares

    def _start(self, place: Place) -> None:
        if self._block is not None:
            self._block.current[place.number] = -1
        place.steps = 0
        place.worker = WorkerProcess(place.number, self._factory, self._block)
        self._workers.append(place.worker)
        fd = place.worker.channel.fileno()
        self._by_fd[fd] = place
        self._poll.register(fd, select.POLLIN)

    def _remove(
        self, place: Place, worker: WorkerProcess, *, is_hung: bool = False
    ) -> tuple[str, str]:
        fd = worker.channel.fileno()
        if fd >= 0:
            self._poll.unregister(fd)
            del self._by_fd[fd]
        is_gone = worker.is_hung_up and worker.ended(_LAST_WAIT_S)
        said = worker.log(asks_where=is_hung) if is_gone or is_hung else ""
        how = worker.kill()
        self._workers.remove(worker)
        place.worker = None
        return how, said

    def _learn_spaces(self, deadline_s: float) -> Spaces:
        """Has the first slot's environment made, again and again until it is."""
        first, failures, last = self.places[0], 0, "it gave no answer"
        retry_s: float | None = 0.0
        most = self._supervision.quarantine_after
        while failures < most and (now_s := time.monotonic()) < deadline_s:
            if retry_s is not None and retry_s <= now_s:
                self.tend(now_s)
                self.tell(first, Word.MAKE, pickle.dumps((0,)))
                retry_s = None
            for place, word, body in self.hear(min(0.1, deadline_s - now_s)):
                if word is Word.MAKE:
                    _, observation_space, action_space = pickle.loads(body)  # noqa: S301
                    return observation_space, action_space
                if word is Word.READY:
                    continue
                why = "\n".join(self.lose(place)) if word is None else _why_failed(body)
                if place is first:
                    failures, last = failures + 1, why
                    log.warning("slots.retrying slot=0 failures=%d: %s", failures, why)
                    pause_s = self._supervision.retry_after_s(failures)
                    retry_s = max(first.start_at_s, time.monotonic() + pause_s)
        raise RemoteFailedToStart(
            "ProcessSlots: the environment of slot 0 was not made within "
            f"{self._supervision.reset_timeout_s:g} s and {most} tries; the last: {last}"
        )


def _why_failed(body: bytes) -> str:
    """Returns why an environment was not made; raises what makes another try useless."""
    failed: Failed = pickle.loads(body)  # noqa: S301  from our child
    if failed.fatal is not None:
        raise failed.fatal
    return failed.reason


def _end_all(workers: list[WorkerProcess], timeout_s: float) -> None:
    """Asks processes to end, and kills those that have not within so many seconds."""
    deadline_s = time.monotonic() + timeout_s
    for worker in workers:
        worker.quit()
    for worker in workers:
        if not worker.ended(deadline_s - time.monotonic()):
            worker.kill()
