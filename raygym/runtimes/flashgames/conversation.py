"""Lock-step with a Flash remote."""

from __future__ import annotations

from collections.abc import Sequence

from raygym.runtimes.flashgames.flash_env import FlashEnv, SmallPicture
from raygym.runtimes.flashgames.lockstep_page import LockstepPage
from raygym.runtimes.lockstep.picture import wants_pictures
from raygym.runtimes.lockstep.stage import MakeEnv, Stage
from raygym.wire.framing import MAX_MESSAGE_BYTES
from raygym.wire.proto import raygym_v1_pb2 as pb

RUNTIME = "flashgames"


class FlashStage(Stage):
    """Where Flash games are played in lock-step.

    Args:
        page: Started by somebody else.
        env_ids: What clients may play.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset.
        max_message_bytes: Longest message.

    Raises:
        ConfigError: There is no such game.
    """

    def __init__(
        self,
        page: LockstepPage,
        *,
        env_ids: Sequence[str],
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(
            RUNTIME,
            env_ids=env_ids,
            known=page.games,
            step_timeout_s=step_timeout_s,
            start_timeout_s=start_timeout_s,
            max_message_bytes=max_message_bytes,
        )
        self.page = page

    def maker(self, make: pb.Make) -> MakeEnv:
        """Returns what makes the game; its page makes pictures that are no larger itself.

        What it leaves in ``make`` is made, or refused, where the answer is put together.
        """
        frame_skip, picture = make.frame_skip or 1, self._small_picture(make)
        if picture is not None:
            make.ClearField("picture")

        def make_env(env_id: str, render_mode: str | None) -> FlashEnv:
            return FlashEnv(
                self.page,
                self.page.games[env_id],
                frame_skip=frame_skip,
                picture=picture,
                render_mode=render_mode,
                step_timeout_s=self.step_timeout_s,
                start_timeout_s=self.start_timeout_s,
            )

        return make_env

    def _small_picture(self, make: pb.Make) -> SmallPicture | None:
        game = self.page.games.get(make.env_id or self.env_ids[0])
        wanted = make.picture
        if game is None or not wants_pictures(wanted):
            return None
        region = game.spec.region
        crop = (0, 0, region.width, region.height)
        if wanted.crop_width and wanted.crop_height:
            crop = (wanted.crop_x, wanted.crop_y, wanted.crop_width, wanted.crop_height)
        elif wanted.crop_width or wanted.crop_height:
            return None
        x, y, width, height = crop
        small = SmallPicture(crop, wanted.width or width, wanted.height or height, wanted.is_grey)
        is_inside = x + width <= region.width and y + height <= region.height
        return small if is_inside and small.width <= width and small.height <= height else None
