"""Split names to batches: features, targets and, for retrieval sets, the row of each utterance's question."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from clsr.audio.features import MEL_BINS, fbank, mix_noise, stack_frames
from clsr.audio.waveform import add_noise, read_waveform
from clsr.config import DataConfig
from clsr.data.augmentation import Augmentation, at_speed, check, to_cuts_at_speed
from clsr.data.device_batches import DeviceBatches, EpochProgress, Rank, training_rank, validation_rank
from clsr.data.feature_cache import Extract
from clsr.data.kaldi import Utterance
from clsr.data.splits import Split, at_speeds
from clsr.errors import InputError
from clsr.padding import pad
from clsr.vocabulary import UNKNOWN

log = logging.getLogger("clsr")

NOISE_S = 60.0  # length of the white noise that utterances take their pieces from


class SpeechBatch(NamedTuple):
    """Utterances of alike duration."""

    ids: list[str]
    features: Tensor  # (B, T, 560), stacked, not normalised; (B, T, F) of a baseline
    frame_lengths: Tensor  # (B,)
    targets: Tensor  # (B, U) output indices
    target_lengths: Tensor  # (B,)
    ctc_targets: Tensor  # (B, S), empty without CTC
    ctc_lengths: Tensor  # (B,)
    pair_rows: Tensor  # (B,) row of a question about the utterance; -1 where there is none
    question_rows: Tensor | None = None  # (B,) row of the question that the utterance is, -1 for a passage; None: typed


def split_batch(batch: SpeechBatch, max_frames: int) -> list[SpeechBatch]:
    """Split a batch, in its order, into parts of at most so many frames, padding included, or of one utterance."""
    starts, longest = [0], 0
    for row, length in enumerate(batch.frame_lengths.tolist()):
        longest = max(longest, length)
        if row > starts[-1] and longest * (row + 1 - starts[-1]) > max_frames:
            starts.append(row)
            longest = length
    return [_rows(batch, slice(start, stop)) for start, stop in pairwise([*starts, len(batch.ids)])]


def _rows(batch: SpeechBatch, rows: slice) -> SpeechBatch:
    frames, tokens = batch.frame_lengths[rows], batch.target_lengths[rows]
    units = batch.ctc_lengths[rows]
    return SpeechBatch(
        batch.ids[rows], batch.features[rows, : frames.max()], frames, batch.targets[rows, : tokens.max()], tokens,
        batch.ctc_targets[rows, : units.max()], units, batch.pair_rows[rows],
        batch.question_rows[rows] if batch.question_rows is not None else None,
    )  # fmt: skip


class Encoders(NamedTuple):
    """How transcripts become numbers, and waveforms where not as ours do."""

    targets: Callable[[str], list[int]]
    ctc: Callable[[str], list[int]]
    features: Extract | None = None  # a front end other than filter banks
    cached: Extract | None = None  # the same, for waveforms that are not altered


class SpeechDataset(Dataset[SpeechBatch]):
    """Cuts in, a batch out. What stays the same is kept in memory; noise, rooms and masks are drawn anew each epoch.

    Kept are filter banks (of a baseline with a front end of its own: what that makes), or where waveforms are altered,
    these: twice the memory, and filter banks to be computed at each step.

    Where questions are spoken, a training batch has one recorded question of each passage behind its passages.

    Args:
        split: utterances and pairs.
        encoders: transcripts to target indices.
        config: noise, cache.
        seed: of all draws.
        in_pairs: whether passages bring their questions; else cuts of these are to be asked for, as of any utterance.
    """

    def __init__(self, split: Split, encoders: Encoders, config: DataConfig, seed: int, in_pairs: bool = True):
        self.split = split
        self.in_pairs = in_pairs and bool(split.questions)
        self.utterances = {utterance.id: utterance for utterance in split.speech}
        self._row_of = {question.id: row for row, question in enumerate(split.questions)}
        self.encoders = encoders
        self.config = config
        self.seed = seed
        self.epoch = 0
        self.augmentation = Augmentation(config.augment, seed)
        self._kept: dict[str, tuple[Tensor, float]] = {}
        self._free_bytes = config.cache_gb * 2**30
        self._filled = False
        noise = np.random.default_rng(seed).standard_normal(int(NOISE_S * 16_000), dtype=np.float32)
        self._noise = fbank(noise) if config.noise_probability > 0 else torch.empty(0, MEL_BINS)

    def __getitem__(self, cuts: CutSet) -> SpeechBatch:
        ids = [cut.id for cut in cuts]
        if self.in_pairs:
            ids += [self.split.questions[row].id for i in ids if (row := self._question(i)) >= 0]
        texts = [self.utterances[i].text or "" for i in ids]
        features, frame_lengths = pad([self._features(i).float() for i in ids])
        targets, target_lengths = pad([_long(self.encoders.targets(text)) for text in texts])
        ctc_targets, ctc_lengths = pad([_long(self.encoders.ctc(text)) for text in texts])
        rows = _long([self._question(i) for i in ids])
        asked = _long([self._row_of.get(i, -1) for i in ids]) if self._row_of else None
        return SpeechBatch(ids, features, frame_lengths, targets, target_lengths, ctc_targets, ctc_lengths, rows, asked)

    def _question(self, utterance_id: str) -> int:
        """Return the row of a question about an utterance, in each epoch another one of its own; -1 without any."""
        rows = self.split.pairs_of.get(utterance_id, [-1])
        if len(rows) == 1:
            return rows[0]
        return int(np.random.default_rng([self.seed, self.epoch, zlib.crc32(utterance_id.encode()), 3]).choice(rows))

    def _features(self, utterance_id: str) -> Tensor:
        if self.encoders.features is not None:
            return self._features_of_baseline(utterance_id, self.encoders.features)
        if self.augmentation.alters_waveforms:
            waveform, _ = self._keep(utterance_id)
            frames, power = _filter_banks(self.augmentation.alter(waveform.numpy(), utterance_id, self.epoch))
        else:
            frames, power = self.frames(utterance_id)
        if self.config.noise_probability > 0:
            chance = np.random.default_rng([self.seed, self.epoch, zlib.crc32(utterance_id.encode())])
            if chance.random() < self.config.noise_probability:
                start = int(chance.integers(len(self._noise)))
                noise = self._noise[torch.arange(start, start + len(frames)) % len(self._noise)]
                frames = mix_noise(frames, power, noise, chance.uniform(*self.config.noise_snr_db))
        return self.augmentation.mask(stack_frames(frames), utterance_id, self.epoch)

    def _features_of_baseline(self, utterance_id: str, features: Callable[[np.ndarray], Tensor]) -> Tensor:
        """What a baseline's front end makes of an utterance in this epoch; masks are for our features alone."""
        if not self._keeps_waveforms:
            return self._keep(utterance_id)[0]
        waveform = self._keep(utterance_id)[0].numpy()
        if self.augmentation.alters_waveforms:
            waveform = self.augmentation.alter(waveform, utterance_id, self.epoch)
        chance = np.random.default_rng([self.seed, self.epoch, zlib.crc32(utterance_id.encode())])
        if chance.random() < self.config.noise_probability and waveform.any():
            noise = chance.standard_normal(len(waveform), dtype=np.float32)
            waveform = add_noise(waveform, noise, chance.uniform(*self.config.noise_snr_db))
        return features(waveform)

    def frames(self, utterance_id: str) -> tuple[Tensor, float]:
        """Return the filter banks ``(T, 80)`` of an utterance, clean, and the mean square of its waveform."""
        kept, power = self._keep(utterance_id)
        return _filter_banks(kept.numpy()) if self._keeps_waveforms else (kept, power)

    @property
    def _keeps_waveforms(self) -> bool:
        noisy_baseline = self.encoders.features is not None and self.config.noise_probability > 0
        return self.augmentation.alters_waveforms or noisy_baseline

    def make(self, utterance_id: str) -> tuple[Tensor, float]:
        """Return what is kept of an utterance: filter banks or a waveform, and the mean square of the latter."""
        utterance = self.utterances[utterance_id]
        waveform = read_waveform(utterance.recording, utterance.start_s, utterance.end_s)
        waveform = at_speed(waveform, utterance)
        if self._keeps_waveforms:
            return torch.from_numpy(waveform), 0.0
        if self.encoders.features is not None:
            return (self.encoders.cached or self.encoders.features)(waveform), 0.0
        return _filter_banks(waveform)

    def _keep(self, utterance_id: str) -> tuple[Tensor, float]:
        """What is made of an utterance, from memory where it is kept or still fits."""
        if utterance_id not in self._kept:
            entry = self.make(utterance_id)
            return self._kept[utterance_id] if self._put(utterance_id, entry) else entry
        return self._kept[utterance_id]

    def _put(self, utterance_id: str, entry: tuple[Tensor, float]) -> bool:
        """Keep what was made of an utterance; is there room?"""
        if entry[0].nbytes > self._free_bytes:
            return False
        self._free_bytes -= entry[0].nbytes
        self._kept[utterance_id] = entry
        return True

    def fill(self, workers: int) -> None:
        """Make what is kept of all utterances by processes, up to the memory allowed.

        The processes that prepare the batches of an epoch end with it, and what they would keep ends with them; but
        what is here when they are forked, they share.
        """
        if self._filled or not (workers and self.config.cache_gb > 0):
            return
        self._filled = True
        missing = [utterance_id for utterance_id in self.utterances if utterance_id not in self._kept]
        made = DataLoader(_Made(self, missing), batch_size=None, num_workers=workers, collate_fn=_as_it_is)
        for utterance_id, values, power in tqdm(made, "filter banks", unit="utterance", disable=None):
            if not self._put(utterance_id, (torch.from_numpy(values), power)):
                break


class _Made(Dataset[tuple[str, np.ndarray, float]]):
    """What a data set keeps of utterances; arrays, since each tensor would cost its receiver an open file."""

    def __init__(self, data: SpeechDataset, ids: Sequence[str]):
        self.data = data
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> tuple[str, np.ndarray, float]:
        values, power = self.data.make(self.ids[row])
        return self.ids[row], values.numpy(), power


def _as_it_is(made: Any) -> Any:
    return made


def _filter_banks(waveform: np.ndarray) -> tuple[Tensor, float]:
    """Filter banks ``(T, 80)`` and the mean square of a waveform."""
    return fbank(waveform), float(np.mean(waveform.astype(np.float64) ** 2))


def _within(split: Split, max_s: float) -> dict[str, list[int]]:
    """Return the rows of each passage whose recorded question is short enough."""
    short = {i: [row for row in rows if split.questions[row].duration_s <= max_s] for i, rows in split.pairs_of.items()}
    left_out = len(split.questions) - len({row for rows in short.values() for row in rows})
    if left_out:
        log.warning("%d of %d spoken questions are longer than %g s and left out (data.max_utterance_s)",
                    left_out, len(split.questions), max_s)  # fmt: skip
    return {i: rows for i, rows in short.items() if rows}


def _long(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)


class SpeechDataModule(LightningDataModule):
    """Training and development batches of a folder with ``train`` and ``dev``, bucketed by duration.

    Args:
        train: what to train on.
        dev: what to measure on.
        encoders: transcripts to target indices.
        config: batch size, noise, cache.
        seed: of order and noise.

    Raises:
        InputError: an utterance has no transcript that can be learnt, none is short enough, or augmentation has
            settings out of range or sounds that are not there.
    """

    def __init__(self, train: Split, dev: Split, encoders: Encoders, config: DataConfig, seed: int):
        super().__init__()
        self.config = config
        self.seed = seed
        check(config.augment)
        train = at_speeds(train, config.augment.speeds)
        short = [u for u in train.utterances if u.duration_s <= config.max_utterance_s]
        if not short:
            raise InputError(f"no training utterance is shorter than data.max_utterance_s = {config.max_utterance_s}")
        if len(short) < len(train.utterances):
            log.warning("%d of %d training utterances are longer than %g s and left out (data.max_utterance_s)",
                        len(train.utterances) - len(short), len(train.utterances), config.max_utterance_s)  # fmt: skip
        for utterance in (*short, *train.questions):
            if not set(encoders.targets(utterance.text or "")) - {UNKNOWN}:
                raise InputError(f"{utterance.id}: transcript '{utterance.text}' holds no known piece: mend or drop it")
        pairs_of = _within(train, config.max_utterance_s) if train.questions else train.pairs_of
        kept = Split(short, train.pairs, pairs_of, train.questions)
        self.train_set = SpeechDataset(kept, encoders, config, seed)
        quiet = DataConfig(batch_s=config.batch_s, buckets=config.buckets, cache_gb=config.cache_gb)
        self.dev_set = SpeechDataset(dev, encoders, quiet, seed, in_pairs=False)
        self._train_sampler = self._sampler(short, shuffle=True)
        self._progress = EpochProgress()

    def _sampler(self, utterances: Sequence[Utterance], shuffle: bool) -> DynamicBucketingSampler:
        cuts = to_cuts_at_speed(utterances)
        buckets = min(self.config.buckets, len(utterances) // 10)
        return DynamicBucketingSampler(
            cuts, max_duration=self.config.batch_s, shuffle=shuffle, seed=self.seed,
            num_buckets=buckets, duration_bins=None if buckets > 1 else [],  # no bins are a single bucket
            buffer_size=len(cuts) + 1, num_cuts_for_bins_estimate=len(cuts), rank=0, world_size=1,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader:
        """This device's batches, in a new order each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        self._train_sampler.set_epoch(epoch)
        self.train_set.epoch = epoch
        self.train_set.fill(self.config.workers)
        rank, first = training_rank(self.trainer), self._progress.take()
        return self._loader(self.train_set, self._train_sampler, rank, first, self.config.workers)

    def val_dataloader(self) -> DataLoader:
        """This device's development batches, in a fixed order."""
        sampler = self._sampler(self.dev_set.split.speech, False)
        return self._loader(self.dev_set, sampler, validation_rank(self.trainer), 0, 0)

    def _loader(
        self, data: SpeechDataset, sampler: DynamicBucketingSampler, rank: Rank, first: int, workers: int
    ) -> DataLoader:
        batches = DeviceBatches(lambda: iter(sampler), rank, first, CutSet.from_cuts)
        return DataLoader(
            data, sampler=batches, batch_size=None, num_workers=workers, pin_memory=torch.cuda.is_available()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return where in the epoch training stands."""
        return self._progress.state(self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume where training stood."""
        self._progress.restore(state_dict)
