"""Progress of indexing: reported to a watcher, and drawn as a bar with hours done, speed and time left. Internal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from clsr.index.recordings import RecordingStatus

Watch = Callable[[Path, "float | RecordingStatus"], None]
"""Called with a recording and the share of it that is encoded, 0 to 1, or its status, once that is on the disk."""


class ProgressBar:
    """A bar over the bytes of all files, since their lengths are not known before they are decoded.

    Args:
        sizes: bytes of each file.
        watch: called for each recording, if given.
        shown: whether to draw the bar; ``None`` is where standard error is a terminal.
    """

    def __init__(self, sizes: Mapping[Path, int], watch: Watch | None = None, shown: bool | None = None) -> None:
        from tqdm import tqdm

        self._sizes = sizes
        self._watch = watch or (lambda path, state: None)
        self._bar = tqdm(
            total=max(1, sum(sizes.values())),
            disable=None if shown is None else not shown,
            bar_format="index {percentage:3.0f}%|{bar}| {desc}",
        )
        self._start_s = time.monotonic()
        self._encoded: dict[Path, tuple[float, float]] = {}  # of files in progress: share and seconds
        self._ended_bytes = 0.0  # of finished files
        self._skipped_bytes = 0.0  # of finished files that needed no encoding, which the speed leaves out
        self._ended_s = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, path: Path) -> None:
        """Start a recording."""
        self._watch(path, 0.0)

    def encoded(self, path: Path, share: float, seconds: float) -> None:
        """Update a recording: the encoded share, 0 to 1, and its seconds."""
        self._encoded[path] = (share, seconds)
        self._watch(path, share)
        self._show()

    def end(self, path: Path, status: RecordingStatus) -> None:
        """Finish a recording with its status."""
        share_and_seconds = self._encoded.pop(path, None)
        self._ended_bytes += self._sizes[path]
        if share_and_seconds is None:
            self._skipped_bytes += self._sizes[path]
        else:
            self._ended_s += share_and_seconds[1]
        self._watch(path, status)
        self._show()

    def _show(self) -> None:
        done = self._ended_bytes + sum(share * self._sizes[path] for path, (share, _) in self._encoded.items())
        seconds = self._ended_s + sum(seconds for _, seconds in self._encoded.values())
        self._bar.n = min(round(done), self._bar.total)
        share_left = (self._bar.total - self._bar.n) / max(1.0, done - self._skipped_bytes)
        self._bar.set_description_str(describe(seconds, time.monotonic() - self._start_s, share_left), refresh=False)
        self._bar.update(0)


def describe(encoded_s: float, elapsed_s: float, share_left: float) -> str:
    """The text behind the bar.

    >>> describe(7200.0, 60.0, 0.5)
    '2.00 h done, 120x real time, 0:00:30 left'

    Args:
        encoded_s: seconds of audio done.
        elapsed_s: seconds it took.
        share_left: how much is left, in shares of what is done.
    """
    if not encoded_s or elapsed_s <= 0:
        return ""
    speed = encoded_s / elapsed_s
    minutes, seconds = divmod(round(elapsed_s * share_left), 60)
    left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
    return f"{encoded_s / 3600:.2f} h done, {speed:.{0 if speed >= 10 else 1}f}x real time, {left}"
