"""Whisper (Radford et al. 2022, arXiv:2212.04356) of transformers: trained here, or released and fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from clsr.audio.waveform import SAMPLE_RATE
from clsr.checkpoint import current_commit, save_checkpoint
from clsr.checkpoint_folder import Meta
from clsr.config import ModelConfig, TrainingConfig
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule
from clsr.data.splits import Split, at_speeds, data_digest, read_splits
from clsr.systems.released import load_released, weights_digest
from clsr.training.devices import share
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.losses import token_cross_entropy
from clsr.training_record import begin_record
from clsr.vocabulary import normalise

KIND = "whisper"
START, END, NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
SPECIAL = (END, START, "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", NO_TIMES)
AT_ONCE = 16  # waveforms that are transcribed together
PIECES = 1000  # of the byte-level vocabulary of a small one
FRAMES_A_SECOND = 50  # of the encoder
LONGEST_S = 30
MOST_TOKENS = 448  # that the decoder has places for
STEPS = 0.02  # seconds from one timestamp of a released model to the next


class Whisper(nn.Module):
    """Whisper with what comes before and after it.

    Args:
        model: ``WhisperForConditionalGeneration``.
        extractor: its ``WhisperFeatureExtractor``.
        tokenizer: its ``WhisperTokenizer``.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any):
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.tokenizer = tokenizer

    def features(self, waveform: np.ndarray) -> Tensor:
        """Turn a 16 kHz waveform ``(N,)``, padded or cut to what the encoder takes, into log-mel rows ``(T, F)``."""
        found = self.extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return found["input_features"][0].T.contiguous()

    def targets(self, text: str) -> list[int]:
        """Return what the decoder has to predict after the start: prompt, text and end."""
        return self.tokenizer(normalise(text)).input_ids[1:]

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Predict each target ``(B, U)`` from those before it, for log-mel rows ``(B, T, F)``: logits ``(B, U, V)``."""
        start = targets.new_full((len(targets), 1), self.model.config.decoder_start_token_id)
        before = torch.cat([start, targets[:, :-1]], 1)
        return self.model(input_features=features.transpose(1, 2), decoder_input_ids=before).logits

    @torch.inference_mode()
    def write(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe 16 kHz waveforms ``(N_i,)`` of any length; all are padded alike, so that none changes another.

        What is longer than the encoder takes is decoded as Whisper does it, from timestamp to timestamp; by a model
        that was trained without these, in equal parts.
        """
        texts = {row: self._write_long(w) for row, w in enumerate(waveforms) if len(w) > self.extractor.n_samples}
        short = [row for row in range(len(waveforms)) if row not in texts]
        for start in range(0, len(short), AT_ONCE):
            rows = short[start : start + AT_ONCE]
            features = torch.stack([self.features(waveforms[row]) for row in rows])
            texts |= zip(rows, self._decode(self.model.generate(features.transpose(1, 2))), strict=True)
        return [texts[row] for row in range(len(waveforms))]

    def _write_long(self, waveform: np.ndarray) -> str:
        if not self._knows_times():
            parts = np.array_split(waveform, math.ceil(len(waveform) / self.extractor.n_samples))
            return " ".join(self.write(parts))
        long = self.extractor(waveform, sampling_rate=SAMPLE_RATE, truncation=False, padding="longest",
                              return_attention_mask=True, return_tensors="pt")  # fmt: skip
        return self._decode(self.model.generate(**long, return_timestamps=True))[0]

    def _decode(self, ids: Tensor) -> list[str]:
        return [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids.tolist()]

    def _knows_times(self) -> bool:
        none = getattr(self.model.generation_config, "no_timestamps_token_id", None)
        return none is not None and self.model.config.vocab_size > none + LONGEST_S / STEPS


class WhisperModule(pl.LightningModule):
    """Train Whisper on transcripts."""

    def __init__(self, whisper: Whisper, config: TrainingConfig):
        super().__init__()
        self.whisper = whisper.train()
        self.config = config

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the cross entropy of the tokens of a batch."""
        logits = self.whisper(batch.features, batch.targets)
        smoothing = self.config.loss.label_smoothing
        loss = token_cross_entropy(logits, batch.targets, batch.target_lengths, smoothing)
        loss = loss * share(batch.target_lengths.sum())
        self.log("train/ce", loss.detach(), prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Log the cross entropy of the tokens of the development set: to decode it takes longer than to train."""
        loss = token_cross_entropy(self.whisper(batch.features, batch.targets), batch.targets, batch.target_lengths)
        tokens = int(batch.target_lengths.sum())
        self.log("dev/ce", loss, prog_bar=True, batch_size=tokens, on_epoch=True, sync_dist=True)


def new_whisper(config: ModelConfig, texts: Iterable[str], longest_s: float) -> Whisper:
    """Build a small Whisper with random weights, of the recogniser's sizes, that speaks one language.

    Args:
        config: sizes of encoder and decoder; the decoder is as wide as the encoder.
        texts: what its vocabulary is made from, byte pairs.
        longest_s: of the utterances; the encoder takes so many whole seconds, 30 at most.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    pieces = ByteLevelBPETokenizer()
    texts = [normalise(text) for text in texts]
    pieces.train_from_iterator(texts, PIECES, show_progress=False)
    vocabulary = pieces.get_vocab()
    merges = _merges(pieces)
    for name in SPECIAL:  # some only so that other programs find them
        vocabulary[name] = len(vocabulary)
    tokenizer = WhisperTokenizer(vocabulary, merges, additional_special_tokens=list(SPECIAL[1:]), pad_token=END)
    longest = max(len(tokenizer(text).input_ids) for text in texts)
    seconds = min(LONGEST_S, math.ceil(longest_s))
    encoder, decoder = config.encoder, config.decoder
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), vocabulary[END])
    special["decoder_start_token_id"] = vocabulary[START]
    sizes = WhisperConfig(
        vocab_size=len(vocabulary), d_model=encoder.width, dropout=encoder.dropout,
        encoder_layers=encoder.layers, encoder_attention_heads=encoder.heads, encoder_ffn_dim=encoder.hidden,
        decoder_layers=decoder.layers, decoder_attention_heads=decoder.heads, decoder_ffn_dim=decoder.hidden,
        max_source_positions=seconds * FRAMES_A_SECOND, max_target_positions=MOST_TOKENS,
        begin_suppress_tokens=None, **special,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(sizes)
    model.generation_config = GenerationConfig(
        max_length=min(2 * longest, MOST_TOKENS), no_timestamps_token_id=vocabulary[NO_TIMES], **special
    )
    return Whisper(model, WhisperFeatureExtractor(chunk_length=seconds), tokenizer)


def _merges(pieces: Any) -> list[tuple[str, str]]:
    import json

    return [tuple(merge) for merge in json.loads(pieces._tokenizer.to_str())["model"]["merges"]]


def train_whisper(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train Whisper on transcripts and write its checkpoint, which is a folder in Hugging Face's layout too.

    Args:
        config: settings; ``loss.label_smoothing`` counts here, and the sizes where nothing is named to start from.
        data: folder with ``train`` and ``dev``, retrieval sets or data directories.
        output: checkpoint folder.
        start: released weights, or a checkpoint of this system, in place of random weights.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data)
    whisper = load_whisper(start) if start is not None else _fitting(config, splits)
    monolingual(whisper.model.generation_config)
    encoders = Encoders(whisper.targets, lambda text: [], whisper.features)
    batches = SpeechDataModule(*splits, encoders, config.data, config.seed)
    train, dev = (data_digest(split) for split in splits)
    origin = Origin(train, dev, "", weights_digest(start), begin_record(start))
    state, metrics = fit(WhisperModule(whisper, config), batches, config, output, "dev/ce", origin)
    weights = {name.removeprefix("whisper.model."): value for name, value in state.items()}
    del weights["proj_out.weight"]  # the embedding once more
    model = whisper.model
    for part in (model.config, model.generation_config, whisper.extractor, whisper.tokenizer):
        part.save_pretrained(output)
    save_checkpoint(output, weights, config, None, Meta(KIND, "", "", [], origin.data, current_commit(), metrics))


def _fitting(config: TrainingConfig, splits: tuple[Split, Split]) -> Whisper:
    """Build a small Whisper for what it is to learn."""
    train = [u for u in at_speeds(splits[0], config.data.augment.speeds).utterances
             if u.duration_s <= config.data.max_utterance_s]  # fmt: skip
    longest_s = max((utterance.duration_s for utterance in [*train, *splits[1].utterances]), default=LONGEST_S)
    return new_whisper(config.model, [utterance.text or "" for utterance in splits[0].utterances], longest_s)


def monolingual(generation: Any) -> None:
    """Let a model that was, or will be, trained on one language decode without a token for it."""
    generation.is_multilingual = False
    for name in ("lang_to_id", "task_to_id", "language", "task", "forced_decoder_ids"):
        if getattr(generation, name, None) is not None:
            delattr(generation, name)


def load_whisper(folder: Path) -> Whisper:
    """Load Whisper from a folder in Hugging Face's layout, ready for inference.

    Raises:
        InputError: it is missing, incomplete or damaged.
    """
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    parts = load_released(folder, WhisperForConditionalGeneration, WhisperFeatureExtractor, WhisperTokenizer)
    return Whisper(*parts).eval()
