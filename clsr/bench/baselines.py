"""The baselines of encoding speed, to be timed in the same run: other recognisers before the same text encoder.

All weights are random: what a network costs does not depend on what it has learnt, but for the number of tokens, which
is therefore set. Whisper writes ``TOKENS_A_SECOND``; FunASR's recogniser has the weights of ours, and fires as it does.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE, MEL_BINS, STACK, STRIDE
from clsr.audio.waveform import SAMPLE_RATE
from clsr.bench.timing import threads
from clsr.errors import InputError
from clsr.extras import missing
from clsr.models.paraformer import Paraformer
from clsr.models.precision import Int8Linear, replace_linear
from clsr.models.recogniser import batches
from clsr.models.text_encoder import TextEncoder
from clsr.padding import length_mask, pad

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

Size = Literal["full", "mini"]

TOKENS_A_SECOND = 3.3  # that Whisper is made to write
CHUNK_S = 30  # of audio that Whisper takes, padded to it or cut
AT_ONCE = 4  # chunks that Whisper transcribes together: 1 and 12 are slower, on two cores
OPSET = 14  # of ONNX, FunASR's default

# Places of Whisper's special tokens, counted from the first of them, and how many there are with the timestamps.
SPECIAL = {"<|endoftext|>": 0, "<|startoftranscript|>": 1, "<|en|>": 2, "<|translate|>": 101, "<|transcribe|>": 102,
           "<|startoflm|>": 103, "<|startofprev|>": 104, "<|nospeech|>": 105, "<|notimestamps|>": 106}  # fmt: skip
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
SPECIALS = 1608

# WhisperTranscriber: width, layers of the encoder and of the decoder, heads, width inside a layer, pieces of text.
WHISPER: dict[Size, tuple[int, int, int, int, int, int]] = {
    "full": (768, 12, 12, 12, 3072, 50257),  # Whisper-small as released: 51865 outputs with the special tokens
    "mini": (128, 4, 2, 4, 512, 1000),  # the one that the mini recipe trains
}


class Transcriber(Protocol):
    """Speech to the ids of output tokens, no text encoder."""

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the token ids of each 16 kHz waveform ``(N_i,)``."""


class Baseline:
    """Speech to unit vectors, everything included: features, recogniser, decoding and text encoder.

    Token ids go to the text encoder as pieces ``id mod V``, a fixed map: with random weights no piece is righter than
    another, and all cost the same. No text is written in between, so no tokenizer's time is counted against a baseline.

    Args:
        name: short, unique.
        description: what is run, for the report.
        packages: modules that must be installed.
        transcriber: makes the recogniser; called when it is first used.
        text_encoder: makes what turns its tokens into vectors; called when it is first used.
    """

    def __init__(self, name: str, description: str, packages: Sequence[str],
                 transcriber: Callable[[], Transcriber], text_encoder: Callable[[], TextEncoder]):  # fmt: skip
        self.name = name
        self.description = description
        self.packages = tuple(packages)
        self._make_transcriber = transcriber
        self._make_text_encoder = text_encoder

    @property
    def reason(self) -> str | None:
        """Why it cannot run here; ``None`` where it can."""
        absent = missing(self.packages)
        return f"not run: pip install 'clsr[baselines]' (no {', '.join(absent)})" if absent else None

    @cached_property
    def transcriber(self) -> Transcriber:
        """The recogniser, made when it is first used.

        Raises:
            InputError: a package is missing.
        """
        if self.reason is not None:
            raise InputError(f"{self.name}: {self.reason}")
        return self._make_transcriber()

    def encode(self, waveforms: Sequence[np.ndarray]) -> Tensor:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors ``(B, E)``.

        Raises:
            InputError: a package is missing.
        """
        return embed(self._make_text_encoder(), self.transcriber.transcribe(waveforms))


def baselines(paraformer: Paraformer, text_encoder: TextEncoder, size: Size) -> list[Baseline]:
    """Return the baselines of a recogniser and a text encoder, none of them made yet.

    Args:
        paraformer: whose weights FunASR's modules take.
        text_encoder: follows every recogniser, as it is or with its linear maps in int8.
        size: of Whisper: "full" is Whisper-small, "mini" what the mini recipe trains.
    """

    @cache
    def whisper() -> WhisperTranscriber:
        return WhisperTranscriber(size)

    @cache
    def faster() -> FasterWhisperTranscriber:
        return FasterWhisperTranscriber(whisper().model)

    @cache
    def modules() -> FunasrTranscriber:
        return FunasrTranscriber(paraformer)

    @cache
    def export() -> FunasrOnnxTranscriber:
        return FunasrOnnxTranscriber(modules())

    @cache
    def int8() -> TextEncoder:
        return int8_text_encoder(text_encoder)

    name = {"full": "Whisper-small", "mini": "a small Whisper"}[size]
    forced = f"greedy, {TOKENS_A_SECOND} tokens a second forced, {CHUNK_S} s windows, {AT_ONCE} at once"
    theirs = ("faster_whisper", "ctranslate2")
    onnx = ("funasr", "onnx", "onnxruntime")
    text, text_int8 = "text encoder float32", "text encoder int8 (torch, dynamic)"
    return [
        Baseline("transformers", f"{name} of transformers, float32, random weights, {forced}; {text}",
              ["transformers"], whisper, lambda: text_encoder),
        Baseline("faster-whisper", f"{name} of faster-whisper, int8, random weights, {forced}; {text}",
              theirs, faster, lambda: text_encoder),
        Baseline("faster-whisper, int8 text", f"{name} of faster-whisper, int8, random weights, {forced}; {text_int8}",
              theirs, faster, int8),
        Baseline("funasr", f"FunASR's modules, float32, our recogniser's random weights; {text}",
              ["funasr"], modules, lambda: text_encoder),
        Baseline("funasr onnx", f"FunASR's ONNX export, int8, our recogniser's random weights; {text}",
              onnx, export, lambda: text_encoder),
        Baseline("funasr onnx, int8 text", f"FunASR's ONNX export, int8, our recogniser's random weights; {text_int8}",
              onnx, export, int8),
    ]  # fmt: skip


@torch.inference_mode()
def embed(text_encoder: TextEncoder, ids: Sequence[Sequence[int]]) -> Tensor:
    """Turn rows of token ids of any vocabulary into unit vectors ``(B, E)``, piece ``id mod V`` standing for each."""
    size = len(text_encoder.word_embeddings)
    vectors = torch.empty(len(ids), text_encoder.width)
    for batch in batches([len(row) + 2 for row in ids]):
        vectors[batch] = text_encoder.encode_ids([[i % size for i in ids[n]] for n in batch])
    return vectors


def int8_text_encoder(text_encoder: TextEncoder) -> TextEncoder:
    """Return a copy whose linear maps are int8, activations quantised as they come (torch's dynamic quantisation)."""
    copied = copy.deepcopy(text_encoder)
    replace_linear(copied.transformer, Int8Linear)
    return copied


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep conversions from warning, of deprecations and of what tracing takes for constant, and from their logs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def token_count(samples: int) -> int:
    """Tokens that Whisper writes for a waveform, at least 1."""
    return max(1, round(samples / SAMPLE_RATE * TOKENS_A_SECOND))


Write = Callable[[Sequence[np.ndarray], int], Sequence[Sequence[int]]]


def in_chunks(write: Write, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
    """Cut waveforms into chunks that Whisper takes, have them written in batches, and join each waveform's tokens.

    Args:
        write: chunks, and how many tokens to write for each, to token ids. What it writes for a chunk shorter than
            the longest of its batch is cut, as decoding a batch goes on until its last row has ended.
        waveforms: 16 kHz, ``(N_i,)``.
    """
    size = CHUNK_S * SAMPLE_RATE
    chunks = [(row, w[start : start + size]) for row, w in enumerate(waveforms) for start in range(0, len(w), size)]
    ids: list[list[int]] = [[] for _ in waveforms]
    for start in range(0, len(chunks), AT_ONCE):
        batch = chunks[start : start + AT_ONCE]
        counts = [token_count(len(chunk)) for _, chunk in batch]
        written = write([chunk for _, chunk in batch], max(counts))
        for (row, _), count, tokens in zip(batch, counts, written):
            ids[row] += tokens[:count]
    return ids


class WhisperTranscriber:
    """Whisper of transformers with random weights: float32, with its key-value cache and its feature extractor."""

    def __init__(self, size: Size):
        from transformers import WhisperFeatureExtractor

        self.model = random_whisper(size)
        self.extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=CHUNK_S)

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the token ids of each waveform, as many as its length gives."""
        return in_chunks(self._write, waveforms)

    def _write(self, chunks: Sequence[np.ndarray], count: int) -> list[list[int]]:
        features = self.extractor(list(chunks), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        with _quiet():  # about arguments that its own code sets
            ids = self.model.generate(features, min_new_tokens=count, max_new_tokens=count)
        return ids[:, -count:].tolist()


def random_whisper(size: Size) -> WhisperForConditionalGeneration:
    """Build Whisper with random weights, always the same, its special tokens where the released ones have them."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    width, encoder_layers, decoder_layers, heads, hidden, pieces = WHISPER[size]
    id_of = {name: pieces + place for name, place in SPECIAL.items()}
    end, start = id_of["<|endoftext|>"], id_of["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=pieces + SPECIALS, num_mel_bins=MEL_BINS, d_model=width,
        encoder_layers=encoder_layers, encoder_attention_heads=heads, encoder_ffn_dim=hidden,
        decoder_layers=decoder_layers, decoder_attention_heads=heads, decoder_ffn_dim=hidden,
        begin_suppress_tokens=None, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config).eval().requires_grad_(False)
    # Special tokens never are the best then: a timestamp would have transformers decode a chunk again from there.
    model.model.decoder.embed_tokens.weight[pieces:] = 0
    model.generation_config = GenerationConfig(
        is_multilingual=True, lang_to_id={"<|en|>": id_of["<|en|>"]}, language="en",
        task_to_id={"transcribe": id_of["<|transcribe|>"]}, task="transcribe",
        no_timestamps_token_id=id_of["<|notimestamps|>"],
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    return model


class FasterWhisperTranscriber:
    """The same Whisper in CTranslate2, int8, with faster-whisper's features and the call by which it decodes a batch.

    What faster-whisper does around it (voice activity, retries at higher temperatures, text) is left out.

    Args:
        model: to take the weights of.
    """

    def __init__(self, model: WhisperForConditionalGeneration):
        from faster_whisper import WhisperModel

        pieces = model.config.vocab_size - SPECIALS
        self.prompt = [pieces + SPECIAL[name] for name in PROMPT]
        self.end = pieces + SPECIAL["<|endoftext|>"]
        with TemporaryDirectory() as folder:
            convert(model, Path(folder))
            self.model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads())

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the token ids of each waveform, as many as its length gives."""
        return in_chunks(self._write, waveforms)

    def _write(self, chunks: Sequence[np.ndarray], count: int) -> list[list[int]]:
        from ctranslate2 import StorageView
        from faster_whisper.audio import pad_or_trim

        features = [pad_or_trim(self.model.feature_extractor(chunk)[..., :-1]) for chunk in chunks]
        # One by one, which is faster: the attention of several would not fit the cache. Decoding is faster together.
        frames = np.concatenate([np.asarray(self.model.encode(rows)) for rows in features])
        found = self.model.model.generate(
            StorageView.from_array(frames), [self.prompt] * len(chunks), beam_size=1,
            suppress_blank=False, suppress_tokens=[self.end],
            max_length=max(2 * count, len(self.prompt) + count),  # no more than half of it may be text
        )  # fmt: skip
        return [result.sequences_ids[0] for result in found]


def convert(model: WhisperForConditionalGeneration, folder: Path) -> None:
    """Write Whisper into a folder as ``ct2-transformers-converter --quantization int8`` does, with made-up pieces."""
    from ctranslate2.converters.transformers import WhisperLoader
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    pieces = model.config.vocab_size - SPECIALS
    names = {pieces + place: name for name, place in SPECIAL.items()}
    tokens = [names.get(i, f"<{i}>") for i in range(model.config.vocab_size)]
    loader = WhisperLoader()
    spec = loader.get_model_spec(model)
    loader.set_config(spec.config, model, None)
    loader.set_vocabulary(spec, tokens)
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    # faster-whisper would fetch one from the network.
    Tokenizer(WordLevel({token: i for i, token in enumerate(tokens)}, tokens[0])).save(str(folder / "tokenizer.json"))


class FunasrTranscriber:
    """FunASR's front end, encoder, predictor and decoder, with the weights of one of our recognisers.

    Batches are ours, so that no time is lost to padding that we save. It decodes one number of tokens, ours three.
    """

    def __init__(self, paraformer: Paraformer):
        from funasr.frontends.wav_frontend import WavFrontend
        from funasr.models.paraformer.cif_predictor import CifPredictorV2
        from funasr.models.paraformer.decoder import ParaformerSANMDecoder
        from funasr.models.sanm.encoder import SANMEncoder

        config = paraformer.config
        width, encoder, decoder, cif = config.encoder.width, config.encoder, config.decoder, config.cif
        self.cmvn = paraformer.cmvn
        self.never = paraformer.never
        self.frontend = WavFrontend(fs=SAMPLE_RATE, n_mels=MEL_BINS, lfr_m=STACK, lfr_n=STRIDE, dither=0.0)
        self.encoder = SANMEncoder(
            FEATURE_SIZE, width, encoder.heads, encoder.hidden, encoder.layers, input_layer="pe",
            kernel_size=encoder.kernel, selfattention_layer_type="sanm",
        )  # fmt: skip
        self.predictor = CifPredictorV2(
            width, cif.left_context, cif.right_context, cif.threshold, tail_threshold=cif.tail
        )
        self.decoder = ParaformerSANMDecoder(
            paraformer.decoder.output_layer.out_features, width, decoder.heads, decoder.hidden, decoder.layers,
            att_layer_num=decoder.layers, kernel_size=decoder.kernel, wo_input_layer=True,
        )  # fmt: skip
        for name in ("encoder", "predictor", "decoder"):
            module = getattr(self, name).eval()
            module.load_state_dict(getattr(paraformer, name).state_dict())

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the best token at each position of each waveform."""
        features = self.features(waveforms)
        ids: list[list[int]] = [[] for _ in waveforms]
        for batch in batches([len(rows) for rows in features]):
            rows, lengths = pad([features[i] for i in batch])
            logits, counts = self.recognise(self.cmvn(rows), lengths)
            logits[..., self.never] = -torch.inf
            for i, best, count in zip(batch, logits.argmax(2).tolist(), counts.tolist()):
                ids[i] = best[:count]
        return ids

    def features(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return stacked features ``(T, 560)`` of each waveform ``(N,)``."""
        found = (self.frontend(torch.from_numpy(w)[None], torch.tensor([len(w)])) for w in waveforms)
        return [rows[0] for rows, _ in found]

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token logits ``(B, U, V)`` and lengths ``(B,)`` of normalised features ``(B, T, 560)``."""
        frames, _, _ = self.encoder(features, frame_lengths)
        tokens, counts, _, _ = self.predictor(frames, None, length_mask(frame_lengths, frames.shape[1])[:, None])
        counts = counts.round().long()
        return self.decoder(frames, frame_lengths, tokens, counts)[0], counts


class FunasrOnnxTranscriber(FunasrTranscriber):
    """FunASR's ONNX export of the same, quantised to int8 as FunASR does it, run by ONNX Runtime.

    Args:
        modules: what to export.
    """

    def __init__(self, modules: FunasrTranscriber):
        from onnxruntime import InferenceSession, SessionOptions

        self.cmvn, self.never, self.frontend = modules.cmvn, modules.never, modules.frontend
        options = SessionOptions()
        options.intra_op_num_threads = threads()
        with TemporaryDirectory() as folder:
            path = export_int8(modules, Path(folder))
            self.session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token log probabilities ``(B, U, V)`` and lengths ``(B,)`` of normalised features ``(B, T, 560)``."""
        inputs = {"speech": features.numpy(), "speech_lengths": frame_lengths.int().numpy()}
        logits, counts = self.session.run(None, inputs)
        return torch.from_numpy(logits), torch.from_numpy(counts)


def export_int8(modules: FunasrTranscriber, folder: Path) -> Path:
    """Write FunASR's export of its modules, with int8 weights, into a folder; return the file.

    These are the steps of ``funasr.utils.export_utils.export(quantize=True)``, with its settings. To call it is no
    use: it leaves the choice of the exporter to torch, whose present choice cannot follow FunASR's predictor.
    """
    import onnx
    from funasr.models.paraformer.export_meta import export_rebuild_model
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model: Any = nn.Module()
    model.encoder, model.predictor, model.decoder = map(
        copy.deepcopy, (modules.encoder, modules.predictor, modules.decoder)
    )
    export_rebuild_model(model, encoder="SANMEncoder", predictor="CifPredictorV2", decoder="ParaformerSANMDecoder",
                         max_seq_len=512, device="cpu")  # fmt: skip
    whole, quantised = folder / "model.onnx", folder / "model_quant.onnx"
    with _quiet():
        torch.onnx.export(
            model.eval(), model.export_dummy_inputs(), str(whole), opset_version=OPSET, do_constant_folding=True,
            input_names=model.export_input_names(), output_names=model.export_output_names(),
            dynamic_axes=model.export_dynamic_axes(), dynamo=False,
        )  # fmt: skip
        names = [node.name for node in onnx.load(whole).graph.node]
        kept = [name for name in names if "output" in name or "bias_encoder" in name or "bias_decoder" in name]
        quantize_dynamic(
            whole, quantised, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=False,
            weight_type=QuantType.QUInt8, nodes_to_exclude=kept,
        )  # fmt: skip
    return quantised
