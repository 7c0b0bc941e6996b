"""Steps a second and padding waste of training, beside FunASR's training step with the same weights, in one run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.bench.timing import Timing, time_in_turn
from clsr.config import (
    OFFLINE_TEXT_ENCODER,
    AdaptorConfig,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    LossConfig,
    ModelConfig,
    SamplerConfig,
    TrainingConfig,
)
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule
from clsr.data.kaldi import Utterance
from clsr.data.splits import Pair, Split
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.models.adaptor import PassageProjection
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.padding import length_mask
from clsr.training.asr import AsrModule
from clsr.training.fit import optimizers
from clsr.training.joint import JointModule
from clsr.vocabulary import UNKNOWN, Vocabulary

SIZES = {
    "mini": ModelConfig(),
    "middle": ModelConfig(
        encoder=EncoderConfig(width=256, hidden=1024, layers=12),
        decoder=DecoderConfig(hidden=1024, layers=4),
    ),
}
UTTERANCES = 600
LENGTHS_S = (3.0, 7.0)  # of an utterance, drawn evenly
RECORDING_S = 60.0  # of noise that all utterances are cut from
TOKENS_A_SECOND = 3.3
VOCABULARY_SIZE = 400
BATCHES = 3  # a timed run goes through the same ones
DROPOUT = 0.1
RATIO = 0.75  # of the sampler
BANKS = (5_000, 100_000)  # questions, and as many passages
ASR_LOSS = LossConfig(mae_weight=0.9)
JOINT_LOSS = LossConfig(mae_weight=0.865, nll_weight=0.045)

# The kind of step that each is compared with: what it adds is the difference.
AGAINST = {
    "dropout": "plain",
    "sampler": "plain",
    "dropout and sampler": "plain",
    "joint, negatives of the batch": "plain",
    **{f"joint, bank of {size:,}": "joint, negatives of the batch" for size in BANKS},
    f"joint, bank of {BANKS[0]:,}, passage projection": f"joint, bank of {BANKS[0]:,}",
}


def measure(repeats: int = 5, seed: int = 0, size: str = "mini") -> dict:
    """Time training steps on a made-up corpus: forward, backward, clipping and the optimizer.

    Args:
        repeats: runs of each kind of step that count, each over the same few batches.
        seed: of the corpus, the weights and the order.
        size: of the recogniser, one of ``SIZES``.

    Returns:
        Padding waste of both orders, seconds of each kind of step and of preparing a batch, and what each kind adds.

    Raises:
        InputError: funasr is not installed.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(self.log|eagerly read|buffer_size).*")
        corpus = make_corpus(Path(folder), seed)
        batches = corpus.batches()
        runs: dict[str, Callable[[], object]] = {
            name: make_run(name, size, corpus.split, batches, seed) for name in ("plain", *AGAINST)
        }
        for name in ("plain", "dropout", "sampler", "dropout and sampler"):
            runs[f"funasr: {name}"] = make_funasr_run(name, size, batches, seed)
        cuts = corpus.cuts[:BATCHES]
        runs["preparing a batch"] = lambda: [corpus.data.train_set[batch] for batch in cuts]
        times = time_in_turn(runs, repeats)
    return {
        "hardware": hardware(),
        "torch": torch.__version__,
        "size": size,
        "frames": sum(int(batch.frame_lengths.sum()) for batch in batches) / len(batches),
        "tokens": sum(int(batch.target_lengths.sum()) for batch in batches) / len(batches),
        "padding": corpus.padding(seed),
        "seconds": {name: [value / len(batches) for value in timing] for name, timing in times.items()},
        "adds": added(times),
        "funasr_over_clsr": {
            name.removeprefix("funasr: "): timing.median / times[name.removeprefix("funasr: ")].median
            for name, timing in times.items()
            if name.startswith("funasr: ")
        },
    }


def added(times: Mapping[str, Timing]) -> dict[str, float]:
    """Return what each kind of step adds to the one that it is compared with, as a share of that.

    >>> added({"plain": Timing(2, 2, 2), "sampler": Timing(3, 3, 3)})
    {'sampler': 0.5}
    """
    return {kind: times[kind].median / times[base].median - 1 for kind, base in AGAINST.items() if kind in times}


def table(result: dict) -> str:
    """Return a measurement as Markdown."""
    padding, seconds = result["padding"], result["seconds"]
    lines = [
        f"Size {result['size']}, batches of {result['frames']:.0f} frames and {result['tokens']:.0f} tokens on "
        f"average, {result['hardware']}, torch {result['torch']}",
        "",
        f"Padding is {padding['bucketed']:.1%} of the frames in batches of similar lengths, and "
        f"{padding['random']:.1%} in batches of as many utterances in random order.",
        "",
        "| step | steps/s | ms (lowest to highest) | difference | FunASR, steps/s | FunASR takes |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ("plain", *AGAINST):
        median, low, high = seconds[name]
        adds = f"{result['adds'][name]:+.1%} against {AGAINST[name]}" if name in AGAINST else ""
        ratio = result["funasr_over_clsr"].get(name)
        theirs = f"{1 / seconds[f'funasr: {name}'][0]:.1f} | {ratio:.2f} times as long" if ratio else " | "
        cells = f"{1 / median:.1f} | {1e3 * median:.1f} ({1e3 * low:.1f} to {1e3 * high:.1f}) | {adds} | {theirs}"
        lines.append(f"| {name} | {cells} |")
    prepared = seconds["preparing a batch"][0]
    share = prepared / seconds["plain"][0]
    lines += ["", f"Before each step, preparing its batch takes {1e3 * prepared:.1f} ms, {share:.1%} of a plain step."]
    return "\n".join(lines)


def padding_share(lengths: Sequence[Sequence[int]]) -> float:
    """Return the share of padded frames in batches of so many frames each.

    >>> padding_share([[3, 3], [1, 5]])
    0.25
    """
    return 1 - sum(map(sum, lengths)) / sum(len(batch) * max(batch) for batch in lengths)


class Corpus(NamedTuple):
    """Utterances of noise with made-up tokens, and the batches of an epoch."""

    split: Split
    data: SpeechDataModule
    cuts: list  # CutSets, one a batch

    def batches(self) -> list[SpeechBatch]:
        """The batches that are timed."""
        return [self.data.train_set[batch] for batch in self.cuts[:BATCHES]]

    def padding(self, seed: int) -> dict[str, float]:
        """Share of padded frames of the sampler's batches, and of batches of the same sizes in random order."""
        counts = [[stacked_frames(cut.duration) for cut in batch] for batch in self.cuts]
        order = np.random.default_rng(seed).permutation([count for batch in counts for count in batch])
        ends = np.cumsum([len(batch) for batch in counts])[:-1]
        return {
            "bucketed": padding_share(counts),
            "random": padding_share([part.tolist() for part in np.split(order, ends)]),
        }


def stacked_frames(duration_s: float) -> int:
    """Return the stacked frames of so much speech: one each 60 ms of windows of 25 ms, 10 ms apart.

    >>> stacked_frames(0.025), stacked_frames(0.075), stacked_frames(0.085)
    (1, 1, 2)
    """
    samples = round(duration_s * SAMPLE_RATE)
    return math.ceil((1 + (samples - 400) // 160) / 6)


def make_corpus(folder: Path, seed: int) -> Corpus:
    """Cut utterances of made-up lengths from a recording of noise, and group them as training does."""
    chance = np.random.default_rng(seed)
    recording = folder / "noise.wav"
    write_waveform(recording, 0.1 * chance.standard_normal(int(RECORDING_S * SAMPLE_RATE), dtype=np.float32))
    utterances, pairs_of = [], {}
    for number in range(UTTERANCES):
        length_s = chance.uniform(*LENGTHS_S)
        start_s = chance.uniform(0, RECORDING_S - length_s)
        tokens = chance.integers(UNKNOWN + 1, VOCABULARY_SIZE, round(length_s * TOKENS_A_SECOND))
        name = f"u{number:04}"
        utterances.append(Utterance(name, recording, start_s, start_s + length_s, " ".join(map(str, tokens)), "noise"))
        pairs_of[name] = [number]
    split = Split(utterances, [Pair("", "", number) for number in range(max(BANKS))], pairs_of)
    encoders = Encoders(lambda text: [int(token) for token in text.split()], lambda text: [])
    config = DataConfig(batch_s=60.0, noise_probability=0.3, noise_snr_db=(17.0, 32.0))  # as in recipes/mini
    data = SpeechDataModule(split, Split(utterances[:1], [], {}), encoders, config, seed)
    return Corpus(split, data, list(data.train_dataloader().sampler))


class DrawnTexts(TextEncoder):
    """A text encoder for codes that draws the vectors of texts: to encode a large bank would take minutes."""

    def __init__(self, read: TextEncoder):
        super().__init__(read.transformer, read.tokenizer, read.pooling, read.prompts, read.folder, read.fingerprint)

    def encode(self, texts: Sequence[str], kind: str = "passage", batch_size: int = 64) -> Tensor:
        """Return random unit vectors ``(B, E)``."""
        return nn.functional.normalize(torch.randn(len(texts), self.width), dim=1)


def settings(kind: str, size: str) -> TrainingConfig:
    """Return the settings of a kind of step, by the words in its name."""
    model = SIZES[size]
    dropout = DROPOUT if "dropout" in kind else 0.0
    model = replace(
        model,
        encoder=replace(model.encoder, dropout=dropout),
        decoder=replace(model.decoder, dropout=dropout),
        sampler=SamplerConfig(RATIO if "sampler" in kind else 0.0, "random"),
        adaptor=AdaptorConfig(passage_projection="passage projection" in kind),
    )
    negatives = replace(JOINT_LOSS, negatives="bank" if "bank" in kind else "batch")
    return TrainingConfig(model=model, loss=negatives if "joint" in kind else ASR_LOSS)


def make_paraformer(config: ModelConfig, seed: int) -> Paraformer:
    """Return a recogniser with random weights."""
    torch.manual_seed(seed)
    return Paraformer(config, VOCABULARY_SIZE)


def make_module(kind: str, size: str, split: Split, seed: int) -> AsrModule:
    """Return what trains in a kind of step."""
    config = settings(kind, size)
    paraformer = make_paraformer(config.model, seed)
    dev = Split([], split.pairs[:1], {})
    text_encoder = DrawnTexts(load_text_encoder(OFFLINE_TEXT_ENCODER))
    vocabulary = Vocabulary(Vocabulary.whole(text_encoder.tokenizer).pieces[:VOCABULARY_SIZE], text_encoder.tokenizer)
    if "joint" not in kind:
        return AsrModule(paraformer, vocabulary, config, dev)
    count = next((bank for bank in BANKS if f"{bank:,}" in kind), UTTERANCES)
    train = Split([], split.pairs[:count], {})
    passage_projection = PassageProjection(text_encoder.width) if config.model.adaptor.passage_projection else None
    return JointModule(paraformer, vocabulary, text_encoder, config, (train, dev), passage_projection)


def make_run(kind: str, size: str, split: Split, batches: Sequence[SpeechBatch], seed: int) -> Callable[[], object]:
    """Return steps of a kind over the batches."""
    module = make_module(kind, size, split, seed)
    return _steps(module, lambda batch: module.training_step(batch, 0), module.config, batches)


class FunasrTraining(pl.LightningModule):
    """FunASR's Paraformer, whose ``forward`` is its training step, with the weights of one of our recognisers.

    Args:
        paraformer: the recogniser.
        mae_weight: share of the quantity loss, below 1.
    """

    def __init__(self, paraformer: Paraformer, mae_weight: float):
        super().__init__()
        try:
            from funasr.models.paraformer.decoder import ParaformerSANMDecoder  # noqa: F401  (entered in its registry)
            from funasr.models.paraformer.model import Paraformer as FunasrParaformer
            from funasr.models.sanm.encoder import SANMEncoder  # noqa: F401
        except ImportError as error:
            raise InputError(f"the benchmark needs funasr ({error}): pip install funasr") from error
        config = paraformer.config
        encoder, decoder, cif = config.encoder, config.decoder, config.cif
        self.cmvn = paraformer.cmvn
        self.scale = 1 - mae_weight
        self.whole = FunasrParaformer(
            encoder="SANMEncoder",
            encoder_conf={
                "output_size": encoder.width, "attention_heads": encoder.heads, "linear_units": encoder.hidden,
                "num_blocks": encoder.layers, "input_layer": "pe", "kernel_size": encoder.kernel,
                "selfattention_layer_type": "sanm", "dropout_rate": encoder.dropout,
                "attention_dropout_rate": encoder.dropout,
            },
            predictor="CifPredictorV2",
            predictor_conf={
                "idim": encoder.width, "l_order": cif.left_context, "r_order": cif.right_context,
                "threshold": cif.threshold, "tail_threshold": cif.tail,
            },
            decoder="ParaformerSANMDecoder",
            decoder_conf={
                "attention_heads": decoder.heads, "linear_units": decoder.hidden, "num_blocks": decoder.layers,
                "att_layer_num": decoder.layers, "kernel_size": decoder.kernel, "wo_input_layer": True,
                "dropout_rate": decoder.dropout, "self_attention_dropout_rate": decoder.dropout,
                "src_attention_dropout_rate": decoder.dropout,
            },
            ctc_weight=0.0, input_size=FEATURE_SIZE, vocab_size=paraformer.decoder.output_layer.out_features,
            length_normalized_loss=True, sampling_ratio=config.sampler.ratio, share_embedding=True,
            predictor_weight=mae_weight / (1 - mae_weight),
        )  # fmt: skip
        for name in ("encoder", "predictor", "decoder"):
            getattr(self.whole, name).load_state_dict(getattr(paraformer, name).state_dict())

    def forward(self, batch: SpeechBatch) -> Tensor:
        """Return the total loss of a batch."""
        ignored = ~length_mask(batch.target_lengths, batch.targets.shape[1])
        targets = batch.targets.masked_fill(ignored, self.whole.ignore_id)
        features = self.cmvn(batch.features)
        return self.scale * self.whole(features, batch.frame_lengths, targets, batch.target_lengths)[0]


def make_funasr_run(kind: str, size: str, batches: Sequence[SpeechBatch], seed: int) -> Callable[[], object]:
    """Return FunASR's steps of a kind over the batches, with our loss weights and our optimizer."""
    config = settings(kind, size)
    module = FunasrTraining(make_paraformer(config.model, seed), config.loss.mae_weight)
    return _steps(module, module, config, batches)


def _steps(
    module: pl.LightningModule,
    loss: Callable[[SpeechBatch], Tensor],
    config: TrainingConfig,
    batches: Sequence[SpeechBatch],
) -> Callable[[], None]:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = optimizers(module, config)["optimizer"]

    def run() -> None:
        for batch in batches:
            total = loss(batch)
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(weights, config.optimizer.clip_norm)
            optimizer.step()

    return run
