"""The one line that a log holds of each episode, and where the log of an actor goes."""

from __future__ import annotations

import logging
import sys

import ray

from raygym.core import Outcome
from raygym.remote_env.docker.container import container_name
from raygym.service.reports import EpisodeRecord

log = logging.getLogger(__name__)

_PACKAGE = "raygym"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_episode(record: EpisodeRecord, *, env_id: str) -> None:
    """Logs an episode that ended: a line of ``name=value``, warning where something failed.

    It joins what lies in different places: the rollout, the lease, the Remote, its container
    (only containers are leased) and the Ray node.
    """
    log.log(
        logging.INFO if record.outcome is Outcome.OK else logging.WARNING,
        "episode.done env=%s slot=%d episode=%d rollout=%s remote=%s lease=%s "
        "container=%s node=%s steps=%d "
        "score=%g seconds=%.1f outcome=%s reason=%s",
        *(env_id or "-", record.slot, record.episode, record.rollout or "-"),
        *(record.remote_id or "-", record.lease_id or "-"),
        *(container_name(record.remote_id) if record.lease_id else "-", record.node or "-"),
        *(record.steps, record.score, record.duration_s, record.outcome),
        record.reason or "-",
    )


def log_as_actor() -> None:
    """Has this process write the package's log, from INFO on, where Ray's dashboard shows it.

    Only in a process of Ray's own; a driver's log belongs to whoever wrote the driver.
    """
    logger = logging.getLogger(_PACKAGE)
    is_worker = ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    if not is_worker or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
