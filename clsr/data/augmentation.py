"""Training speech made different: copies at other speeds, rooms and noises on waveforms, masks on stacked features.

What happens to an utterance depends on the seed, the epoch and its id alone, so that a resumed run trains on the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from clsr.audio.features import MEL_BINS, STACK
from clsr.audio.files import find_recordings
from clsr.audio.waveform import AUDIO_SUFFIXES, SAMPLE_RATE, add_noise, duration_s, read_waveform
from clsr.config import AugmentConfig
from clsr.data.kaldi import Utterance, to_cuts
from clsr.errors import InputError

if TYPE_CHECKING:
    from lhotse import CutSet


def check(config: AugmentConfig) -> None:
    """Refuse settings out of range.

    Raises:
        InputError: naming the first.
    """
    speeds, (lowest_db, highest_db) = config.speeds, config.noise_snr_db
    wrong = {
        "speeds": not speeds or not all(0.5 <= speed <= 2 for speed in speeds) or len(set(speeds)) < len(speeds),
        "noise_snr_db": lowest_db > highest_db,
        "frequency_mask_bins": not 0 <= config.frequency_mask_bins <= MEL_BINS,
    }
    shares = ("noise_probability", "reverb_probability", "time_mask_share")
    wrong |= {name: not 0 <= getattr(config, name) <= 1 for name in shares}
    wrong |= {name: getattr(config, name) < 0 for name in ("time_masks", "time_mask_frames", "frequency_masks")}
    for name in (name for name in wrong if wrong[name]):
        raise InputError(f"data.augment.{name}: {getattr(config, name)} is out of range: see train-asr --settings")


@dataclass(frozen=True)
class SpeedCopy(Utterance):
    """An utterance played ``speed`` times as fast, pitch included; its span is still that in the recording."""

    speed: float

    @property
    def duration_s(self) -> float:
        """Length in seconds as it is played."""
        return (self.end_s - self.start_s) / self.speed


def speed_copies(utterance: Utterance, speeds: Sequence[float]) -> list[Utterance]:
    """Return what stands for an utterance in an epoch: a copy at each speed, where 1 is the utterance itself."""
    u = utterance
    return [
        u if s == 1 else SpeedCopy(f"{u.id}_sp{s:g}", u.recording, u.start_s, u.end_s, u.text, u.speaker, s)
        for s in speeds
    ]


def to_cuts_at_speed(utterances: Sequence[Utterance]) -> CutSet:
    """Lhotse cuts as long as each utterance is played, ``cut.id`` being the utterance's id."""
    from lhotse import CutSet

    return CutSet.from_cuts(
        cut.perturb_speed(u.speed, affix_id=False) if isinstance(u, SpeedCopy) else cut
        for u, cut in zip(utterances, to_cuts(utterances), strict=True)
    )


def at_speed(waveform: np.ndarray, utterance: Utterance) -> np.ndarray:
    """Resample a waveform ``(N,)`` to ``(N / speed,)`` where the utterance is a copy at another speed."""
    if not isinstance(utterance, SpeedCopy):
        return waveform
    from lhotse.augmentation import Speed

    return Speed(utterance.speed)(waveform[None], SAMPLE_RATE)[0]


class Augmentation:
    """What is done to waveforms and features of the utterances of an epoch, all of it drawn.

    Args:
        config: what is on, and how much of it.
        seed: of all draws.

    Raises:
        InputError: a folder is missing or empty, or a file in it cannot be read.
    """

    def __init__(self, config: AugmentConfig, seed: int):
        self.config = config
        self.seed = seed
        self._noises = [(path, duration_s(path)) for path in _sounds("noise_dir", config.noise_dir)]
        self._rooms = [_room(path) for path in _sounds("reverb_dir", config.reverb_dir)]

    @property
    def alters_waveforms(self) -> bool:
        """Whether filter banks of one epoch are of no use in the next."""
        return bool(self._noises or self._rooms)

    def alter(self, waveform: np.ndarray, utterance_id: str, epoch: int) -> np.ndarray:
        """Return the waveform ``(N,)`` of this epoch: in a room, then over noise; either, both or neither.

        The room keeps the power of the waveform, and a noise shorter than it is repeated. Silence takes no noise.
        """
        chance = self._draw(utterance_id, epoch, 1)
        if self._rooms and chance.random() < self.config.reverb_probability:
            room = self._rooms[chance.integers(len(self._rooms))]
            waveform = room(waveform[None], SAMPLE_RATE)[0]
        if self._noises and chance.random() < self.config.noise_probability:
            noise = self._noise(len(waveform), chance)
            if noise.any() and waveform.any():
                waveform = add_noise(waveform, noise, chance.uniform(*self.config.noise_snr_db))
        return waveform

    def mask(self, features: Tensor, utterance_id: str, epoch: int) -> Tensor:
        """Return stacked features ``(T, 560)`` with spans of time and bands of frequency masked (arXiv:1904.08779).

        A mask takes the mean of the utterance, which stands in for the zero that the paper puts into features of zero
        mean. A band is masked in all seven frames of each stack. Of widths up to the settings all are as likely.
        """
        config = self.config
        if not (config.time_masks or config.frequency_masks):
            return features
        chance = self._draw(utterance_id, epoch, 2)
        mean = features.mean(0)
        masked = features.clone()
        for _ in range(config.time_masks):
            begin, end = _span(
                len(features), min(config.time_mask_frames, int(len(features) * config.time_mask_share)), chance
            )
            masked[begin:end] = mean
        stacks, means = masked.view(-1, STACK, MEL_BINS), mean.view(STACK, MEL_BINS)
        for _ in range(config.frequency_masks):
            begin, end = _span(MEL_BINS, config.frequency_mask_bins, chance)
            stacks[:, :, begin:end] = means[:, begin:end]
        return masked

    def _draw(self, utterance_id: str, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, zlib.crc32(utterance_id.encode()), purpose])

    def _noise(self, samples: int, chance: np.random.Generator) -> np.ndarray:
        """So many samples of a noise, from a place in it."""
        path, length_s = self._noises[chance.integers(len(self._noises))]
        need_s = samples / SAMPLE_RATE
        if length_s > need_s:
            start_s = chance.uniform(0, length_s - need_s)
            noise = read_waveform(path, start_s, start_s + need_s)
        else:
            noise = read_waveform(path)
            noise = np.roll(noise, -int(chance.integers(len(noise))))
        return np.resize(noise, samples)


def _span(length: int, widest: int, chance: np.random.Generator) -> tuple[int, int]:
    """A span of at most so many places, anywhere within the length."""
    width = int(chance.integers(min(widest, length) + 1))
    begin = int(chance.integers(length - width + 1))
    return begin, begin + width


def _sounds(setting: str, folder: str | None) -> list[Path]:
    """Audio files of a folder and the folders in it, sorted, so that draws do not depend on the file system."""
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise InputError(f"data.augment.{setting}: {folder}: no such folder; name one that holds recordings")
    try:
        return sorted(find_recordings(folder))
    except InputError as error:
        looked_for = f"{' '.join(AUDIO_SUFFIXES)}, and files that begin as they do"
        raise InputError(f"data.augment.{setting}: {folder}: holds no audio; looked for {looked_for}") from error


def _room(path: Path) -> Callable[[np.ndarray, int], np.ndarray]:
    """Convolution with an impulse response, of several channels the first; the direct sound stays where it is."""
    from lhotse import Recording
    from lhotse.augmentation import ReverbWithImpulseResponse

    if not read_waveform(path).any():
        raise InputError(f"{path}: is silent and no impulse response; remove it")
    return ReverbWithImpulseResponse(Recording.from_file(path).resample(SAMPLE_RATE))
