"""Removes what nobody holds any more."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from raygym.errors import RaygymError
from raygym.leases.protocols import Found, Registry, Store

log = logging.getLogger(__name__)

_BARE_DIRECTORY_S = 60.0


def reap(store: Store, registry: Registry, *, now_s: float) -> Sequence[str]:
    """Removes the containers of one cluster whose leases ran out, and what is left of others.

    Left alone is what has a row, and what has none but a lease file that still counts: its
    holder lives, and the far end goes by itself when that ends.

    Args:
        store: Where the containers are.
        registry: Whose rows say what is held.
        now_s: Unix seconds.

    Returns:
        The names of the Remotes that were removed.

    Raises:
        RaygymError: The containers could not be listed, or the registry not be read. One that
            could not be removed is logged, and met again by the next call.
    """
    # Rows are read after the survey: what is made has its row first, so it is in both.
    found = store.survey(registry.cluster)
    expired = [row.remote_id for row in registry.expire()]
    held = {row.remote_id for row in registry.rows()}
    stray = [one.remote_id for one in found if _is_stray(one, now_s)]
    removed = []
    for remote_id in dict.fromkeys([*expired, *stray]):
        if remote_id in held:
            continue
        try:
            store.remove(remote_id)
        except (RaygymError, OSError) as error:
            log.warning("remote.not_reaped remote_id=%s cause=%s", remote_id, error)
        else:
            removed.append(remote_id)
    if removed:
        log.info("remotes.reaped cluster=%s remote_ids=%s", registry.cluster, ",".join(removed))
    return removed


def _is_stray(found: Found, now_s: float) -> bool:
    if found.lease is not None:
        # The container could have written it; one that never ends is no lease.
        expires_s = found.lease.expires_unix_s
        return not math.isfinite(expires_s) or now_s >= expires_s
    if found.directory is None:
        # Its lease cannot be seen from here; what runs ends by itself, and may be another's.
        return found.state in ("exited", "dead")
    if found.state != "gone":
        return True
    # A directory alone names no cluster: another one's container may be about to start in it.
    try:
        return now_s - found.directory.stat().st_mtime > _BARE_DIRECTORY_S
    except OSError:
        return False
