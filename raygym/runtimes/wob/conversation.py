"""Lock-step with a wob remote."""

from __future__ import annotations

from collections.abc import Sequence

from raygym.runtimes.lockstep.stage import MakeEnv, Stage
from raygym.runtimes.wob.lockstep_page import WobPage
from raygym.runtimes.wob.pages import RUNTIME
from raygym.runtimes.wob.wob_env import WobEnv
from raygym.wire.framing import MAX_MESSAGE_BYTES
from raygym.wire.proto import raygym_v1_pb2 as pb


class WobStage(Stage):
    """Where MiniWoB's tasks are played in lock-step.

    Args:
        page: Started by somebody else.
        env_ids: What clients may play.
        step_timeout_s: Longest step.
        start_timeout_s: Longest reset.
        max_message_bytes: Longest message.

    Raises:
        ConfigError: There is no such task.
    """

    def __init__(
        self,
        page: WobPage,
        *,
        env_ids: Sequence[str],
        step_timeout_s: float = 20.0,
        start_timeout_s: float = 60.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(
            RUNTIME,
            env_ids=env_ids,
            known=page.specs,
            step_timeout_s=step_timeout_s,
            start_timeout_s=start_timeout_s,
            max_message_bytes=max_message_bytes,
        )
        self.page = page

    def maker(self, make: pb.Make) -> MakeEnv:
        """Returns what makes the task: an action counts once, however many frames it takes."""
        frame_skip = make.frame_skip or 1

        def make_env(env_id: str, render_mode: str | None) -> WobEnv:
            return WobEnv(
                self.page,
                self.page.specs[env_id],
                frame_skip=frame_skip,
                render_mode=render_mode,
                step_timeout_s=self.step_timeout_s,
                start_timeout_s=self.start_timeout_s,
            )

        return make_env
