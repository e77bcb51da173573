"""Writes pictures to an MP4 file that plays everywhere: H.264, yuv420p, even sizes.

While it is written a film lies beside its place as ``NAME.part.mp4``, in fragments of a second or
two, so that most of it survives the death of its writer; ``rescue`` makes a film of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from raygym.core import UInt8Array
from raygym.errors import ConfigError

LEAST_HEIGHT_PX = 360
"""Smaller pictures are scaled up by a whole number, to about this height."""
PART = ".part.mp4"
_TICKS_PER_S = 90_000
"""Divides whole by every usual rate."""
_FRAGMENT_FRAMES = 30
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_CODEC = {"preset": "veryfast", "crf": "23"}


class FilmWriter:
    """Encodes one film. Not for two threads at once.

    Args:
        path: The file; it appears when the film is closed.
        fps: Pictures a second, where ``add`` is told no times.
        least_height_px: Smaller pictures are scaled up; 0 for none.
        title: For players that show one.
        comment: A text that travels in the file, such as JSON.

    Raises:
        ConfigError: No file can be written there.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        least_height_px: int = LEAST_HEIGHT_PX,
        title: str = "",
        comment: str = "",
    ) -> None:
        self._path = path
        self._part = path.with_name(path.stem + PART)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._least_height_px = least_height_px
        self._factor = 1
        self._last_tick = -1
        self.frames = 0
        """Number of pictures so far."""
        self.size_px = (0, 0)
        """Width and height of the film."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: OutputContainer | None = av.open(
                str(self._part),
                "w",
                format="mp4",
                options=dict(_FRAGMENTS),
            )
        except (OSError, av.FFmpegError) as error:
            raise ConfigError(f"{path}: no film can be written there: {error}") from error
        self._file.metadata.update({"title": title, "comment": comment})
        self._stream: av.VideoStream | None = None

    def add(self, picture: UInt8Array, *, at_s: float | None = None) -> None:
        """Adds a picture.

        Args:
            picture: uint8[H, W, 3] RGB, or uint8[H, W] or uint8[H, W, 1] grey; all of one size.
            at_s: When it is shown, in seconds since the first; None for one frame after the last.
        """
        if self._file is None:
            raise ValueError(f"{self._path}: this film is closed")
        if self._stream is None:
            self._stream = self._open_stream(self._file, picture)
        tick = round(
            self.frames * _TICKS_PER_S / self._fps if at_s is None else at_s * _TICKS_PER_S
        )
        tick = max(tick, self._last_tick + 1)
        frame = av.VideoFrame.from_ndarray(self._scaled(picture), format="rgb24")
        # Untagged, players guess between two matrices by the film's size.
        frame = frame.reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = tick, Fraction(1, _TICKS_PER_S)
        self._file.mux(self._stream.encode(frame))
        self._last_tick = tick
        self.frames += 1

    def close(self) -> None:
        """Completes the file; one without pictures is none. May be called twice."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if self._stream is not None:
            file.mux(self._stream.encode(None))
        file.close()
        if self.frames:
            _remux(self._part, self._path)
        self._part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leaves nothing behind; may follow an error, and ``close``."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
        self._part.unlink(missing_ok=True)

    def _open_stream(self, file: OutputContainer, picture: UInt8Array) -> av.VideoStream:
        height, width = picture.shape[:2]
        if self._least_height_px:
            self._factor = max(1, round(self._least_height_px / height))
        self.size_px = _even(width * self._factor), _even(height * self._factor)
        stream = file.add_stream("libx264", rate=self._fps, options=dict(_CODEC))
        stream.width, stream.height = self.size_px
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_S)
        # Those that look ahead would shift all times when a film is copied.
        context.max_b_frames = 0
        context.gop_size = _FRAGMENT_FRAMES
        context.thread_count = 1
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def _scaled(self, picture: UInt8Array) -> npt.NDArray[np.uint8]:
        scaled = enlarged(picture, self._factor)
        width, height = self.size_px
        right, bottom = width - scaled.shape[1], height - scaled.shape[0]
        if right or bottom:
            scaled = np.pad(scaled, ((0, bottom), (0, right), (0, 0)), mode="edge")
        return np.ascontiguousarray(scaled)


def enlarged(picture: UInt8Array, factor: int) -> UInt8Array:
    """Returns a picture as RGB with each pixel a square of ``factor`` pixels.

    Args:
        picture: uint8[H, W, 3] RGB, or uint8[H, W] or uint8[H, W, 1] grey.
        factor: 1 or more.

    Returns:
        uint8[H * factor, W * factor, 3].
    """
    colours = picture if picture.ndim == 3 else picture[..., None]
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    if factor == 1:
        return colours
    return np.asarray(
        cv2.resize(colours, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    )


def rescue(part: Path, film: Path) -> str | None:
    """Makes a film of what a writer that died left behind, and removes that.

    Args:
        part: Its file, whether it ends in ``PART`` or is whole.
        film: Where the film goes.

    Returns:
        The comment that its writer gave it; None where nothing in it can be played.
    """
    try:
        comment = _remux(part, film)
    except (av.FFmpegError, IndexError):
        film.unlink(missing_ok=True)
        comment = None
    part.unlink(missing_ok=True)
    return comment


def frames(film: Path) -> Iterator[tuple[float, UInt8Array]]:
    """Yields a film's pictures, uint8[H, W, 3], RGB, each with its time in seconds."""
    with av.open(str(film)) as source:
        for frame in source.decode(video=0):
            yield float(frame.time or 0.0), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def duration_s(film: Path) -> float:
    """Returns how long a film runs, to the end of its last picture, in seconds."""
    with av.open(str(film)) as source:
        return float((source.duration or 0) / av.time_base)


def _remux(source: Path, target: Path) -> str:
    """Copies a film into an ordinary file with its index in front; returns its comment.

    Raises:
        av.FFmpegError, IndexError: There is no picture in it.
    """
    with (
        av.open(str(source)) as read,
        av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as write,
    ):
        comment = str(read.metadata.get("comment", ""))
        write.metadata.update(
            {k: read.metadata[k] for k in ("title", "comment") if k in read.metadata}
        )
        stream = read.streams.video[0]
        copied = write.add_stream_from_template(stream)
        count = 0
        for packet in read.demux(stream):
            # The last one of a file that was cut may be there in part.
            if packet.dts is not None and not packet.is_corrupt:
                packet.stream = copied
                write.mux(packet)
                count += 1
    if not count:
        raise IndexError(f"{source}: no picture is in it")
    return comment


def _even(size_px: int) -> int:
    return size_px + size_px % 2
