"""Recording, block by block -> windows that hold its speech and have their borders in its pauses."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError

if TYPE_CHECKING:
    import torch

FRAME_SAMPLES = 512  # silero-vad's own at 16 kHz
CONTEXT_SAMPLES = 64  # of the frame before, which it sees too
RUN_FRAMES = 32  # judged in one call: as many again save a seventh of the time and settle windows a second later
RUN_SAMPLES = RUN_FRAMES * FRAME_SAMPLES

SPEECH, NO_SPEECH = 0.5, 0.35  # silero-vad's own: a frame between the two is what the frame before it was
LEAST_PAUSE_FRAMES = 7  # 0.22 s; the closure of a plosive is shorter
LEAST_SPEECH_FRAMES = 4  # 0.13 s: 387 of 400 spoken digits are found, 6 are not at all; 0.25 s would leave 370
LONGEST_PAUSE_FRAMES = 94  # 3 s: 868 of 872 pauses within utterances of readers are shorter, and 5.4 s between poems
MARGIN_SAMPLES = SAMPLE_RATE // 5  # first and last sounds can be too faint for the detector
LEAST_LENGTH_S = 1.0  # shorter windows hold no word for certain
NEAR_END = 0.75  # of a window: where it is cut, if it can be

Judge = Callable[[np.ndarray], np.ndarray]
"""Probability of speech of each frame, ``(RUN_FRAMES,)``, of a run, ``(RUN_SAMPLES,)``; given one run after another."""


class SpeechCutter:
    """Cuts one recording into windows that follow its speech; memory does not grow with its length.

    A window holds neighbouring segments of speech with 0.2 s around them, or half the pause where that is less. Three
    seconds without speech end it. One that would grow longer than ``length_s`` ends at the longest pause of its last
    quarter, else at its last pause. Without any pause, it is cut amid the frame of its last quarter that is least
    likely to be speech; the next window starts at the same sample. Windows do not overlap, and nobody speaks outside
    them. Does not find 0.1 s of speech between pauses: that is how clicks look.

    How the recording is cut into blocks changes nothing.
    """

    def __init__(self, length_s: float, judge: Judge | None = None) -> None:
        """Start before the first sample.

        Args:
            length_s: longest window, at least 1.
            judge: what tells speech from other sound, fresh for this recording; ``None`` is silero-vad.

        Raises:
            InputError: ``length_s`` is below 1.
        """
        self._plan = _Plan(length_s)
        self._judge = SpeechDetector() if judge is None else judge
        self._run = np.empty(RUN_SAMPLES, np.float32)
        self._filled = 0
        self._judged_samples = 0

    @property
    def needed_from_s(self) -> float:
        """Where the earliest window still to come can start: nobody needs samples before it.

        It lags behind the samples fed by at most ``length_s`` and 5 s.
        """
        return self._plan.needed_from / SAMPLE_RATE

    def feed(self, block: np.ndarray) -> list[tuple[float, float]]:
        """Take the next samples and return start and end, in seconds, of the windows that are now certain, in order.

        Args:
            block: mono samples at 16 kHz, ``(N,)``, however many.
        """
        settled = []
        for part in np.split(block, range(RUN_SAMPLES - self._filled, len(block), RUN_SAMPLES)):
            self._run[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == RUN_SAMPLES:
                settled += self._judge_run()
        return settled

    def finish(self) -> list[tuple[float, float]]:
        """Return the windows left when the recording ends here."""
        end = self._judged_samples + self._filled
        self._run[self._filled :] = 0
        return [*self._judge_run(), *_in_seconds(self._plan.finish(end))]

    def _judge_run(self) -> list[tuple[float, float]]:
        frames = -(-self._filled // FRAME_SAMPLES)
        probabilities = self._judge(self._run)[:frames].tolist() if frames else []
        self._judged_samples += self._filled
        self._filled = 0
        return _in_seconds([window for p in probabilities for window in self._plan.take(p)])


class SpeechDetector:
    """silero-vad (MIT licence) on one recording: probabilities of speech, frame after frame.

    Its recurrent state is carried from run to run. All else of it sees single frames, which are given to it a run at a
    time; a call a frame, as in the package's own loop, takes seven times as long for the same probabilities (to 3e-6).
    """

    def __init__(self) -> None:
        import torch

        self._network, self._memory = _load_silero()
        self._context = torch.zeros(CONTEXT_SAMPLES)
        self._state = (torch.zeros(1, 1, self._memory.hidden_size), torch.zeros(1, 1, self._memory.hidden_size))

    def __call__(self, run: np.ndarray) -> np.ndarray:
        """Probability of speech ``(n,)`` of each frame of the next samples, ``(n * 512,)`` at 16 kHz."""
        import torch

        with torch.inference_mode():
            samples = torch.cat([self._context, torch.from_numpy(run)])
            frames = samples.unfold(0, CONTEXT_SAMPLES + FRAME_SAMPLES, FRAME_SAMPLES)
            embeddings = self._network.encoder(self._network.stft(frames))  # (n, 128, 1)
            hidden, self._state = self._memory(embeddings.transpose(1, 2), self._state)  # frames are its time, batch 1
            self._context = samples[-CONTEXT_SAMPLES:]
            return self._network.decoder.decoder(hidden.transpose(1, 2)).flatten().numpy()


@cache
def _load_silero() -> tuple[torch.jit.ScriptModule, torch.nn.LSTM]:
    """The network for 16 kHz, and its recurrent cell as a layer that takes many frames; both without state.

    The package is not imported: that would set the number of torch's threads for the whole process.
    """
    import torch

    path = distribution("silero-vad").locate_file("silero_vad/data/silero_vad.jit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the format is Silero's choice, nothing that a user can change
        network = torch.jit.load(str(path)).eval()._model
    weights = network.decoder.rnn.state_dict()
    memory = torch.nn.LSTM(weights["weight_hh"].shape[1], weights["weight_hh"].shape[1])
    memory.load_state_dict({f"{name}_l0": weight for name, weight in weights.items()})
    return network, memory.eval()


class _Segment(NamedTuple):
    """Frames of speech, from the first to the one after the last."""

    start: int
    end: int


class _Plan:
    """Windows, in samples, from the probabilities of speech, frame after frame."""

    def __init__(self, length_s: float) -> None:
        if not length_s >= LEAST_LENGTH_S:
            raise InputError(f"windows of {length_s} s cannot follow speech; give {LEAST_LENGTH_S:g} s or more")
        self.length = int(length_s * SAMPLE_RATE)
        self.border = 0  # no later window starts before this sample
        self.frames = 0  # taken
        self.latest: deque[float] = deque(maxlen=self.length // FRAME_SAMPLES)  # probabilities
        self.speaking = False
        self.segments: list[_Segment] = []  # of the open window; only the last can grow, or be a click

    @property
    def start(self) -> int:
        """First sample of the open window."""
        return max(self.border, self.segments[0].start * FRAME_SAMPLES - MARGIN_SAMPLES)

    @property
    def needed_from(self) -> int:
        """First sample that a window to come can have."""
        return self.start if self.segments else max(self.border, self.frames * FRAME_SAMPLES - MARGIN_SAMPLES)

    def take(self, probability: float) -> list[tuple[int, int]]:
        """Take the next frame and return the windows that it settles."""
        self.latest.append(probability)
        self.frames += 1
        self.speaking = probability >= SPEECH or (self.speaking and probability >= NO_SPEECH)
        if self.speaking:
            self._lengthen()
            return self._cut_to_length()
        silent = self.frames - self.segments[-1].end if self.segments else 0
        if silent == LEAST_PAUSE_FRAMES:
            self._drop_click()
        return self._close() if silent >= LONGEST_PAUSE_FRAMES else []

    def finish(self, samples: int) -> list[tuple[int, int]]:
        """Return the window left when the recording has so many samples."""
        self._drop_click()
        return [(start, min(end, samples)) for start, end in self._close()]

    def _lengthen(self) -> None:
        start = self.frames - 1
        if self.segments and start - self.segments[-1].end < LEAST_PAUSE_FRAMES:
            start = self.segments.pop().start
        self.segments.append(_Segment(start, self.frames))

    def _drop_click(self) -> None:
        """Drop the last segment if it is too short for speech, unless it is what a cut left of a longer one."""
        if self.segments:
            start, end = self.segments[-1]
            if end - start < LEAST_SPEECH_FRAMES and start * FRAME_SAMPLES >= self.border:
                self.segments.pop()

    def _close(self) -> list[tuple[int, int]]:
        if not self.segments:
            return []
        window = (self.start, self.segments[-1].end * FRAME_SAMPLES + MARGIN_SAMPLES)
        self.segments, self.border = [], window[1]
        return [window]

    def _cut_to_length(self) -> list[tuple[int, int]]:
        """End the window before its last segment gets too long for it, margin included; the rest starts the next."""
        start = self.start
        if self.segments[-1].end * FRAME_SAMPLES + MARGIN_SAMPLES <= start + self.length:
            return []
        if len(self.segments) > 1:
            last = self._best_pause()
            speech_end, speech_start = self.segments[last].end, self.segments[last + 1].start
            self.border = (speech_end + speech_start) * FRAME_SAMPLES // 2
            self.segments = self.segments[last + 1 :]
            return [(start, min(self.border, speech_end * FRAME_SAMPLES + MARGIN_SAMPLES))]
        frame = self._least_likely_frame()
        self.border = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
        self.segments = [_Segment(frame, self.segments[0].end)]
        return [(start, self.border)]

    def _best_pause(self) -> int:
        """Number of the segment after which the window should end; the later of two equal pauses is better."""
        near_end = self.start + NEAR_END * self.length
        pauses = [
            (after.start - before.end, number)
            for number, (before, after) in enumerate(pairwise(self.segments))
            if before.end * FRAME_SAMPLES >= near_end
        ]
        return max(pauses, default=(0, len(self.segments) - 2))[1]

    def _least_likely_frame(self) -> int:
        """The frame, near the end of the window, that is least likely to be speech; the later of two equal ones."""
        first = -(-round(self.start + NEAR_END * self.length) // FRAME_SAMPLES)
        oldest = self.frames - len(self.latest)
        return min(range(self.frames - 1, first - 1, -1), key=lambda frame: self.latest[frame - oldest])


def _in_seconds(windows: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in windows]
