"""Answers in the place of a worker that is gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raygym.runtimes.lockstep.group import zeros
from raygym.wire.leaves import leaves_to_messages, stack_values
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_from_message


def lost_batch(space: pb.Space, envs: Sequence[int], failures: Sequence[pb.Failure]) -> pb.Batch:
    """Returns rows of zeros for environments that were lost.

    Args:
        space: Of one observation.
        envs: Their indices.
        failures: One for each.
    """
    observations = space_from_message(space)
    leaves = stack_values(observations, [zeros(observations)] * len(envs))
    return pb.Batch(
        envs=envs,
        observations=leaves_to_messages(leaves),
        rewards=np.zeros(len(envs), "<f8").tobytes(),
        terminated=bytes(len(envs)),
        truncated=bytes([1]) * len(envs),
        failures=failures,
    )
