"""What is asked of the far end about pictures."""

from __future__ import annotations

from raygym.config import ObservationConfig
from raygym.wire.proto import raygym_v1_pb2 as pb


def picture_message(observation: ObservationConfig | None) -> pb.Picture | None:
    """Returns what becomes of observations that are pictures; None for nothing."""
    if observation is None:
        return None
    x, y, width, height = observation.crop or (0, 0, 0, 0)
    return pb.Picture(
        crop_x=x,
        crop_y=y,
        crop_width=width,
        crop_height=height,
        is_grey=observation.is_grey,
        width=observation.width_px or 0,
        height=observation.height_px or 0,
    )
