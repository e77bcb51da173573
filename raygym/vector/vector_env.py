"""Slots as a Gymnasium vector environment, and with EnvPool's first-ready batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, iterate

from raygym.errors import ConfigError, RemoteFailedToStart, StepTimeout
from raygym.vector.infos import add_info
from raygym.vector.row_store import RowStore, in_order, joined, part_of, plain_ids
from raygym.vector.slot_record import is_array_space
from raygym.vector.slots import BoolArray, Int64Array, Ready, SlotReport, Slots

Stepped: TypeAlias = tuple[Any, npt.NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]
"""Observations, rewards float64[n], terminated bool[n], truncated bool[n] and infos."""


class SlotVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Slots as a vector environment, in two ways: all in step, or those first that are ready.

    ``reset`` and ``step`` are Gymnasium's, in each of its three autoreset modes, and give what
    its SyncVectorEnv gives for the same environments. They wait for every slot. A slot that
    fails answers with a row that is truncated (``infos["outcome"]`` and ``infos["reason"]``; in
    SAME_STEP they lie in ``infos["final_info"]``), at the latest after the step deadline of its
    supervision; the reset after it is tried, pause after pause, until it succeeds, and all wait
    for it, up to ``longest_wait_s``.

    ``async_reset``, ``recv`` and ``send`` are EnvPool's. ``recv`` returns ``batch_size`` rows,
    those that were ready first, and says in ``infos["env_id"]`` whose they are; a slot that is
    made anew is merely not among them. After an end the next ``send`` to that slot resets it
    and ignores the action, whatever the autoreset mode.

    What is returned belongs to the caller.

    Args:
        slots: What is behind it; closed with this.
        autoreset_mode: When a slot is reset after an end; see gymnasium.vector.AutoresetMode.
        batch_size: Rows of ``recv``; None for all slots.
        render_mode: What ``render`` gives, where the slots can render.
        metadata: To be extended by the autoreset mode.
        longest_wait_s: How long ``reset``, ``step`` and ``recv`` wait at most.
        close_also: Called last by ``close``.

    Raises:
        ConfigError: A setting makes no sense.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        batch_size: int | None = None,
        render_mode: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        longest_wait_s: float = 600.0,
        close_also: Callable[[], None] = lambda: None,
    ) -> None:
        self.closed = True
        self.autoreset_mode = _mode(autoreset_mode)
        self.num_envs = slots.num_slots
        self.batch_size = self.num_envs if batch_size is None else batch_size
        if not 1 <= self.batch_size <= self.num_envs:
            raise ConfigError(f"batch_size: expected 1..{self.num_envs}, got {batch_size!r}")
        self.slots = slots
        """What is behind it."""
        self.metadata = {**(metadata or {}), "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.single_observation_space = slots.single_observation_space
        self.single_action_space = slots.single_action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._longest_wait_s = longest_wait_s
        self._close_also = close_also
        self._has_array_actions = is_array_space(self.single_action_space)
        self._store = RowStore(self.single_observation_space, self.num_envs)
        self._all = np.arange(self.num_envs)
        self._is_over = np.zeros(self.num_envs, np.bool_)
        self._is_begun = np.zeros(self.num_envs, np.bool_)
        self._is_pending = np.zeros(self.num_envs, np.bool_)
        self._waiting: list[Ready] = []
        self._last_ids = self._all
        self._is_first_ready = False
        self.closed = False

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        return sum(report.remotes_started for report in self.slots.reports())

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        return sum(report.remotes_lost for report in self.slots.reports())

    @property
    def remote_ids(self) -> list[str | None]:
        """Ids of the Remotes behind the slots now; None for a slot without one."""
        return [report.remote_id or None for report in self.slots.reports()]

    def reports(self) -> Sequence[SlotReport]:
        """Returns how each slot fares."""
        return self.slots.reports()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in each slot, or in some, and waits for them.

        Args:
            seed: One for each slot; a number stands for itself and those that follow.
            options: For all environments. ``reset_mask`` is taken out: bool[num_envs], which
                slots to reset; the others keep their observation.

        Returns:
            The observations of all slots, and the infos of those that were reset.

        Raises:
            ConfigError: Seeds or mask make no sense.
            RemoteFailedToStart: A slot did not begin within ``longest_wait_s``.
        """
        seeds = _seeds(seed, self.num_envs)
        given = dict(options) if options is not None else None
        mask = _mask(given, self.num_envs)
        if not (self._is_begun | mask).all():
            raise ConfigError("reset_mask: slots that were never reset must be among them")
        self._drain()
        self._is_first_ready = False
        chosen = np.flatnonzero(mask)
        self._store.settle()
        self._ask_reset(chosen, [seeds[slot] for slot in chosen], given)
        ready = self._await_all()
        self._is_begun[chosen] = True
        self._is_over[chosen] = False
        return self._store.batch(), self._infos(ready)

    def step(self, actions: Any) -> Stepped:
        """Takes a step in each slot, or resets it as the autoreset mode says, and waits for all.

        Args:
            actions: One for each slot, as the action space says.

        Returns:
            Observations, rewards float64[num_envs], terminated and truncated bool[num_envs], and
            infos.

        Raises:
            ConfigError: The actions make no sense, or a ``reset`` is due.
            StepTimeout: A slot gave no answer within ``longest_wait_s``.
            RemoteFailedToStart: One did not begin its next episode in that time.
        """
        if self._is_first_ready or not self._is_begun.all():
            raise ConfigError("step: reset first")
        if self._is_pending.any():
            raise ConfigError("step: the last call failed; reset first")
        rows = self._action_rows(actions, self.num_envs)
        is_over, mode = self._is_over, self.autoreset_mode
        if mode is AutoresetMode.DISABLED and is_over.any():
            raise ConfigError(
                f"step: the episodes of slots {np.flatnonzero(is_over).tolist()} are over: reset "
                "them first, with options['reset_mask']"
            )
        self._store.forget_view()
        self._tell(self._all, rows, is_over)
        ready = self._await_all()
        self._is_over = ready.terminated | ready.truncated
        if mode is AutoresetMode.SAME_STEP and self._is_over.any():
            infos = self._reset_over(ready)
        else:
            infos = self._infos(ready)
        return self._store.batch(), ready.rewards, ready.terminated, ready.truncated, infos

    def async_reset(self, seed: int | Sequence[int | None] | None = None) -> None:
        """Begins an episode in each slot; ``recv`` gives the first observations.

        Args:
            seed: One for each slot; a number stands for itself and those that follow.

        Raises:
            ConfigError: The seeds make no sense.
            StepTimeout, RemoteFailedToStart: A slot still owes an answer to what came before.
        """
        seeds = _seeds(seed, self.num_envs)
        self._drain()
        self._is_first_ready = True
        self._ask_reset(self._all, seeds, None)
        self._is_begun[:] = True

    def recv(self, timeout_s: float | None = None) -> Stepped:
        """Returns ``batch_size`` rows, those that were ready first.

        Args:
            timeout_s: Longest wait; fewer rows, or none, come back then.

        Returns:
            Observations, rewards float64[n], terminated bool[n], truncated bool[n], and infos
            with arrays of n, among them ``env_id``, int64[n]: whose the rows are.

        Raises:
            ConfigError: Fewer rows are due than that, or there was no ``async_reset``.
            StepTimeout, RemoteFailedToStart: Without ``timeout_s``, there were too few within
                ``longest_wait_s``; nothing is lost.
        """
        due = int(self._is_pending.sum())
        if not self._is_first_ready or due < self.batch_size:
            raise ConfigError(
                f"recv: {due} rows are due, and batch_size is {self.batch_size}: async_reset or "
                "send first"
            )
        self._collect(self.batch_size, timeout_s)
        parts, self._waiting = self._waiting, []
        ready = joined(parts) if parts else self.slots.recv(at_least=0, timeout_s=0.0)
        if len(ready.slots) > self.batch_size:
            self._waiting = [part_of(ready, range(self.batch_size, len(ready.slots)))]
            ready = part_of(ready, range(self.batch_size))
        ids = ready.slots.copy()
        self._is_pending[ids] = False
        self._is_over[ids] = ready.terminated | ready.truncated
        self._last_ids = ids
        infos: dict[str, Any] = {}
        for row, info in enumerate(ready.infos):
            add_info(infos, info, row, len(ids))
        infos["env_id"] = ids.copy()
        observations = self._store.copied(ready.observations)
        return observations, ready.rewards, ready.terminated, ready.truncated, infos

    def send(self, actions: Any, env_id: Sequence[int] | Int64Array | None = None) -> None:
        """Steps some slots, or resets those whose episode is over; returns at once.

        Args:
            actions: One for each.
            env_id: Which slots; None for those of the last ``recv``, in its order.

        Raises:
            ConfigError: The actions make no sense, or a slot still owes an answer.
        """
        ids = self._last_ids if env_id is None else plain_ids(env_id)
        if len(np.unique(ids)) != len(ids) or ((ids < 0) | (ids >= self.num_envs)).any():
            raise ConfigError(f"env_id: expected different slots, got {ids.tolist()}")
        if not self._is_first_ready or self._is_pending[ids].any():
            raise ConfigError("send: async_reset first, and recv what these slots still owe")
        self._tell(ids, self._action_rows(actions, len(ids)), self._is_over[ids])

    def render(self) -> tuple[Any, ...] | None:
        """Returns the picture of each slot; None without a render mode, or where none is kept."""
        render = getattr(self.slots, "render", None)
        return None if self.render_mode is None or render is None else render()

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the slots."""
        del kwargs
        self.slots.close()
        self._close_also()

    def _action_rows(self, actions: Any, count: int) -> Any:
        """Returns one action for each row: an array, or a list where they are no arrays."""
        if self._has_array_actions:
            rows: Any = np.asarray(actions)
        elif isinstance(actions, list):
            rows = actions
        else:
            rows = list(iterate(batch_space(self.single_action_space, count), actions))
        if (self._has_array_actions and rows.ndim == 0) or len(rows) != count:
            raise ConfigError(f"actions: expected one for each of {count} slots, got {actions!r}")
        return rows

    def _tell(self, ids: Int64Array, actions: Any, is_over: BoolArray) -> None:
        # They may be views that what is told now writes over.
        self._waiting = [part_of(part, range(len(part.slots))) for part in self._waiting]
        if not is_over.any():
            self._is_pending[ids] = True
            self.slots.send(ids, actions)
            return
        self._ask_reset(ids[is_over], None, None)
        rows = np.flatnonzero(~is_over)
        if len(rows):
            chosen = actions[rows] if self._has_array_actions else [actions[i] for i in rows]
            self._is_pending[ids[rows]] = True
            self.slots.send(ids[rows], chosen)

    def _ask_reset(
        self, ids: Int64Array, seeds: Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> None:
        self._is_pending[ids] = True
        self.slots.reset(ids, seeds, options)

    def _collect(self, count: int, timeout_s: float | None) -> None:
        """Waits until so many rows lie in ``_waiting``.

        Raises:
            StepTimeout, RemoteFailedToStart: Without ``timeout_s``, they did not come.
        """
        wait_s = self._longest_wait_s if timeout_s is None else timeout_s
        missing = count - sum(len(part.slots) for part in self._waiting)
        if missing <= 0:
            return
        part = self.slots.recv(at_least=missing, timeout_s=wait_s)
        if len(part.slots):
            self._waiting.append(part)
        if len(part.slots) < missing and timeout_s is None:
            raise self._overdue(wait_s)

    def _await_all(self) -> Ready:
        """Waits for all that is due, stores it, and returns it in the order of the slots."""
        self._collect(int(self._is_pending.sum()), None)
        ready = in_order(joined(self._waiting))
        self._waiting = []
        self._is_pending[ready.slots] = False
        self._store.put(ready)
        return ready

    def _drain(self) -> None:
        """Takes what is still due, and drops it; a slot that refused an action owes nothing."""
        with contextlib.suppress(StepTimeout):
            self._collect(int(self._is_pending.sum()), None)
        self._waiting = []
        self._is_pending[:] = False

    def _reset_over(self, ready: Ready) -> dict[str, Any]:
        """Resets the slots whose episode ended with this step; returns the infos of both."""
        over = np.flatnonzero(self._is_over)
        final = {slot: self._store.row(slot) for slot in over.tolist()}
        self._store.settle()
        self._ask_reset(over, None, None)
        begun = self._await_all()
        begun_infos = dict(zip(begun.slots.tolist(), begun.infos, strict=True))
        infos: dict[str, Any] = {}
        for slot, info in enumerate(ready.infos):
            if slot in final:
                ended = {"final_obs": final[slot], "final_info": dict(info)}
                add_info(infos, ended, slot, self.num_envs)
            add_info(infos, begun_infos.get(slot, info), slot, self.num_envs)
        self._is_over = np.zeros(self.num_envs, np.bool_)
        return infos

    def _infos(self, ready: Ready) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for slot, info in zip(ready.slots.tolist(), ready.infos, strict=True):
            if info:
                add_info(infos, info, slot, self.num_envs)
        return infos

    def _overdue(self, wait_s: float) -> StepTimeout | RemoteFailedToStart:
        here = {int(slot) for part in self._waiting for slot in part.slots}
        due = [slot for slot in np.flatnonzero(self._is_pending).tolist() if slot not in here]
        reports = [report for report in self.slots.reports() if report.slot in due]
        causes = "; ".join(f"slot {r.slot} is {r.state}: {r.error or 'silent'}" for r in reports)
        is_start = any(report.state != "running" for report in reports)
        kind = RemoteFailedToStart if is_start else StepTimeout
        return kind(f"slots {due} gave no answer within {wait_s:g} s: {causes}")


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        modes = ", ".join(known.value for known in AutoresetMode)
        raise ConfigError(f"autoreset_mode: expected one of {modes}, got {mode!r}") from error


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(count)]
    if len(seed) != count:
        raise ConfigError(f"seed: expected {count} seeds, got {len(seed)}")
    return [None if one is None else int(one) for one in seed]


def _mask(options: dict[str, Any] | None, count: int) -> BoolArray:
    """Takes the mask out of the options; all slots where there is none."""
    mask = None if options is None else options.pop("reset_mask", None)
    if mask is None:
        return np.ones(count, np.bool_)
    is_right = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (count,)
    if not is_right or not mask.any():
        raise ConfigError(
            f"options['reset_mask']: expected bool[{count}] with a True in it, got {mask!r}"
        )
    return np.array(mask, np.bool_)
