"""CLAP: an audio and a text tower, contrasted (Wu et al. 2023), from transformers; trained on passages and questions.

A checkpoint is a folder in Hugging Face's layout too, and so are the released weights that training may start from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import soxr
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from clsr.audio.waveform import SAMPLE_RATE
from clsr.checkpoint import current_commit, save_checkpoint
from clsr.checkpoint_folder import Meta
from clsr.config import ModelConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.splits import Split, data_digest, read_splits, require_pairs
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.parabge import NO_TARGETS
from clsr.systems.released import load_released, weights_digest
from clsr.text.folder import Side
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.pairs import RecallMeter, contrast, groups_of, sides_of
from clsr.training_record import begin_record

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KIND = "clap"
HEAD = 16  # channels of an attention head of the small audio tower


class Clap(nn.Module):
    """Both towers of CLAP with what comes before them.

    Audio is cut into equal pieces of at most what the audio tower takes, 10 s, and its vector is the mean of theirs:
    CLAP itself draws pieces at random.

    Args:
        model: ``ClapModel``.
        extractor: its ``ClapFeatureExtractor``.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any):
        super().__init__()
        self.model = model
        self.model.logit_scale_a.requires_grad_(False)  # the temperature is a setting
        self.model.logit_scale_t.requires_grad_(False)
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.channels = 4 if extractor.truncation == "fusion" else 1
        text = model.config.text_config
        self.max_tokens = text.max_position_embeddings - text.pad_token_id - 1  # RoBERTa counts from there

    def features(self, waveform: np.ndarray) -> Tensor:
        """Turn a 16 kHz waveform ``(N,)`` into the spectrograms of its pieces, one under the other: ``(T, F)``."""
        rate = self.extractor.sampling_rate
        whole = soxr.resample(waveform, SAMPLE_RATE, rate)
        pieces = np.array_split(whole, math.ceil(len(whole) / self.extractor.nb_max_samples))
        spectrograms = [self.extractor(piece, sampling_rate=rate)["input_features"] for piece in pieces]
        return torch.from_numpy(np.concatenate(spectrograms).astype(np.float32)).flatten(0, 2)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Turn spectrograms ``(B, T, F)`` with their lengths ``(B,)`` into unit vectors ``(B, E)``."""
        frames = self.extractor.nb_max_samples // self.extractor.hop_length + 1
        pieces = features.unflatten(1, (-1, self.channels, frames))  # (B, pieces, channels, frames, F)
        there = torch.arange(pieces.shape[1], device=lengths.device) < lengths[:, None] // (self.channels * frames)
        inputs = pieces[there]
        is_longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
        vectors = self.model.get_audio_features(input_features=inputs, is_longer=is_longer).pooler_output
        sums = vectors.new_zeros(*there.shape, vectors.shape[1]).masked_scatter(there[..., None], vectors).sum(1)
        return nn.functional.normalize(sums, dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts in one batch, cut to what the text tower takes: unit vectors ``(B, E)``."""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.model.device)
        return self.model.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Encode any number of texts into unit vectors ``(B, E)`` on the CPU."""
        batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
        return torch.cat([self.encode_texts(batch).float().cpu() for batch in batches])


class ClapModule(pl.LightningModule):
    """Train both towers on spoken passages and the text of their questions; spoken ones go to the audio tower."""

    def __init__(self, clap: Clap, config: TrainingConfig, splits: tuple[Split, Split]):
        super().__init__()
        self.clap = clap.train()
        self.config = config
        self.train_pairs, self.dev_pairs = splits[0].pairs, splits[1].pairs
        self.groups = groups_of(self.train_pairs)
        self.meter = RecallMeter()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the symmetric NLL of a batch."""
        vectors = self.clap(batch.features, batch.frame_lengths)
        speech, pair_rows, questions = sides_of(vectors, batch.pair_rows, batch.question_rows)
        rows = pair_rows.tolist()
        if not rows:
            return speech.sum()  # 0
        if questions is None:
            questions = self.clap.encode_texts([self.train_pairs[row].question for row in rows])
        loss = contrast(speech, questions, self.groups[rows].to(self.device), self.config.loss)
        self.log("train/nll", loss.detach(), prog_bar=True, batch_size=len(rows))
        return loss

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Keep the vectors of a development batch."""
        self.meter.add(self.clap(batch.features, batch.frame_lengths), batch.pair_rows, batch.question_rows)

    def on_validation_epoch_end(self) -> None:
        """Log the share of questions whose own passage comes first."""
        questions = self.clap.encode([pair.question for pair in self.dev_pairs])
        self.log("dev/recall@1", self.meter.recall_at_1(questions, groups_of(self.dev_pairs)), prog_bar=True)


def new_clap(config: ModelConfig, tokenizer: Tokenizer) -> Clap:
    """Build a small CLAP with random weights, of the recogniser's sizes.

    Audio tower: four stages, together of the encoder's layers (one each at least), as wide as a quarter of the
    encoder, then a half, once and twice. Text tower: as wide as the encoder, its layers those of the decoder. The
    geometry of the spectrogram is that of the released models.

    Args:
        config: sizes.
        tokenizer: of a text encoder, whose pieces the text tower takes.
    """
    from tokenizers import Tokenizer
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

    wrapped = Tokenizer.from_str(tokenizer.to_str())  # what wraps it will set its padding
    padding = next(name for name in ("[PAD]", "<pad>") if wrapped.token_to_id(name) is not None)
    encoder, decoder = config.encoder, config.decoder
    widths = [max(1, encoder.width // 4) * 2**stage for stage in range(4)]
    audio = {
        "patch_embeds_hidden_size": widths[0],
        "hidden_size": widths[-1],
        "depths": [max(1, encoder.layers // 4)] * 4,
        "num_attention_heads": [max(1, width // HEAD) for width in widths],
        "hidden_dropout_prob": encoder.dropout,
    }
    text = {
        "vocab_size": wrapped.get_vocab_size(),
        "pad_token_id": wrapped.token_to_id(padding),
        "hidden_size": encoder.width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "intermediate_size": decoder.hidden,
        "hidden_dropout_prob": decoder.dropout,
        "attention_probs_dropout_prob": decoder.dropout,
    }
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=encoder.width))
    extractor = ClapFeatureExtractor(truncation="rand_trunc")  # the mel scale of models without fusion
    return Clap(model, extractor, PreTrainedTokenizerFast(tokenizer_object=wrapped, pad_token=padding))


def train_clap(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Fine-tune CLAP and write its checkpoint, which is a folder in Hugging Face's layout too.

    Args:
        config: settings; ``loss.temperature`` and the optimizer count here; the sizes where nothing is named to start
            from.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: released weights, or a checkpoint of this system, in place of random weights.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data, config.data.questions)
    require_pairs(splits, data)
    if start is None:
        clap = new_clap(config.model, load_text_encoder(config.text_encoder).tokenizer)
    else:
        clap = load_clap(start)
    batches = SpeechDataModule(*splits, NO_TARGETS._replace(features=clap.features), config.data, config.seed)
    train, dev = (data_digest(split) for split in splits)
    origin = Origin(train, dev, "", weights_digest(start), begin_record(start))
    state, metrics = fit(ClapModule(clap, config, splits), batches, config, output, "dev/recall@1", origin)
    weights = {name.removeprefix("clap.model."): value for name, value in state.items()}
    for part in (clap.model.config, clap.extractor, clap.tokenizer):
        part.save_pretrained(output)
    save_checkpoint(output, weights, config, None, Meta(KIND, "", "", [], origin.data, current_commit(), metrics))


def load_clap(folder: Path) -> Clap:
    """Load CLAP from a folder in Hugging Face's layout, ready for inference.

    Raises:
        InputError: it is missing, incomplete or damaged.
    """
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    return Clap(*load_released(folder, ClapModel, ClapFeatureExtractor, AutoTokenizer)).eval()


class ClapSystem:
    """CLAP behind `System`; to recognise is to encode: there is no text in between.

    Args:
        clap: both towers.
    """

    rows: tuple[str, ...] = ("clap",)

    def __init__(self, clap: Clap):
        self.clap = clap

    @torch.inference_mode()
    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors ``(E,)``."""
        features = (self.clap.features(waveform) for waveform in waveforms)
        return [self.clap(rows[None], torch.tensor([len(rows)]))[0] for rows in features]

    def transcribe(self, recognised: Sequence[Tensor]) -> None:
        """Write no transcript."""

    def encode(self, recognised: Sequence[Tensor], row: str, side: Side) -> Tensor:
        """Return the vectors ``(B, E)``, of questions as of passages."""
        return torch.stack(list(recognised))

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the text tower's vectors ``(B, E)``."""
        return self.clap.encode(texts)
