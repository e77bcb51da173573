"""Settings shared by several layers; units stand in names, values are checked on construction."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raygym.errors import ConfigError

LEASE_TTL_S = 45.0
"""How long a lease lasts unless told otherwise: another process can start in its holder's place
meanwhile, also on a busy machine."""
LEASE_KEEP_S = 120.0
"""How long a Remote that was given back is kept for its Client unless told otherwise."""


def check_range(owner: str, field: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise ConfigError(f"{owner}.{field}: expected {low} to {high}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class VncOptions:
    """What a VNC client asks of a server: Universe's ``vnc_kwargs``."""

    encoding: Literal["tight", "zrle", "raw"] = "tight"
    """Preferred encoding. ``raw`` costs least on one machine, ``tight`` over a network."""
    fine_quality_level: int | None = 50
    """JPEG quality of Tight, 0 to 100; None asks for lossless pictures."""
    subsample_level: int | None = 2
    """JPEG chroma subsampling: 0 none, 1 4:2:0, 2 4:2:2, 3 grey; None leaves it to the server."""
    compress_level: int | None = None
    """zlib effort, 0 to 9; None leaves it to the server."""

    def __post_init__(self) -> None:
        if self.encoding not in ("tight", "zrle", "raw"):
            raise ConfigError(
                f"VncOptions.encoding: expected tight, zrle or raw, got {self.encoding!r}"
            )
        for name, high in (
            ("fine_quality_level", 100),
            ("subsample_level", 3),
            ("compress_level", 9),
        ):
            value = getattr(self, name)
            if value is not None:
                check_range("VncOptions", name, value, 0, high)


@dataclass(frozen=True, kw_only=True)
class ObservationConfig:
    """How a screen becomes an observation: cropped, then grey, then scaled."""

    crop: tuple[int, int, int, int] | None = None
    """x, y, width and height of the part that is seen, within the environment's own picture (of
    a game on a screen: within its region); None for all of it."""
    height_px: int | None = None
    """Scaled height; None keeps that of the part that is seen."""
    width_px: int | None = None
    """Scaled width; None keeps that of the part that is seen."""
    is_grey: bool = False
    """One channel of luma instead of three of RGB."""

    def __post_init__(self) -> None:
        if (self.height_px is None) != (self.width_px is None):
            raise ConfigError(
                "ObservationConfig: give both height_px and width_px or neither; got "
                f"{self.height_px!r} and {self.width_px!r}"
            )
        for name in ("height_px", "width_px"):
            value = getattr(self, name)
            if value is not None:
                check_range("ObservationConfig", name, value, 1, 4096)
        if self.crop is not None:
            self._check_crop(self.crop)

    def _check_crop(self, crop: tuple[int, int, int, int]) -> None:
        try:
            x, y, width, height = (operator.index(number) for number in crop)
        except (TypeError, ValueError):
            x = y = width = height = -1
        if not (min(x, y) >= 0 and min(width, height) >= 1 and max(crop) <= 8192):
            raise ConfigError(
                "ObservationConfig.crop: expected (x, y, width, height) in whole px, from (0, 0) "
                f"and at least (1, 1), at most 8192; got {crop!r}"
            )
        object.__setattr__(self, "crop", (x, y, width, height))


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files of one end of TLS; ``raygym certs init`` makes them."""

    cert: Path | None = None
    """Certificate, with those between it and the authority; a server needs one."""
    key: Path | None = None
    """Private key of ``cert``."""
    ca: Path | None = None
    """Authority that the other end's certificate must come from. A client without it takes the
    system's authorities; a server without it asks clients for no certificate."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError(
                f"TlsFiles: cert and key belong together; got cert={self.cert} and key={self.key}"
            )


@dataclass(frozen=True, kw_only=True)
class DockerConfig:
    """How Remotes in containers are leased and kept."""

    ttl_s: float = LEASE_TTL_S
    """How long a lease lasts without a sign of life from its holder; then the container goes."""
    keep_s: float = LEASE_KEEP_S
    """How long a container that was given back waits for its client to come again; only where
    the client has a steady name."""
    on_mismatch: Literal["raise", "new"] = "raise"
    """What to do where the client holds a container of another Runtime: RuntimeMismatch, or a
    second container."""
    warm: int = 0
    """Number of spare containers kept ready, so that a start is a mere handover."""
    recycle_episodes: int | None = None
    """Replaces a container after as many episodes; None never."""
    recycle_memory_mib: float | None = None
    """Replaces it when its memory has grown by as much since its first episode; None never."""
    recycle_slowdown: float | None = None
    """Replaces it when a step takes as many times as long as at first; None never."""
    publish_ports: bool = False
    """Publishes the ports on loopback of the engine's machine instead of sharing a directory of
    sockets; the container then has a network. Needed for an engine on another machine."""
    tls: TlsFiles | None = None
    """Certificates of the Remote, for published gRPC ports."""
    container_runtime: str | None = None
    """The engine's runtime: ``runsc`` for gVisor; None takes the engine's own choice."""

    def __post_init__(self) -> None:
        check_range("DockerConfig", "ttl_s", self.ttl_s, 2, 3600)
        check_range("DockerConfig", "keep_s", self.keep_s, 0, 7 * 24 * 3600)
        check_range("DockerConfig", "warm", self.warm, 0, 1024)
        if self.on_mismatch not in ("raise", "new"):
            raise ConfigError(
                f"DockerConfig.on_mismatch: expected raise or new, got {self.on_mismatch!r}"
            )
