"""Whisper with random weights as a recogniser to be timed: of transformers, and of faster-whisper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from clsr.audio.features import MEL_BINS
from clsr.audio.waveform import SAMPLE_RATE
from clsr.bench.models import Size
from clsr.bench.timing import quiet, threads

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

TOKENS_A_SECOND = 3.3  # that Whisper is made to write
CHUNK_S = 30  # of audio that Whisper takes, padded to it or cut
AT_ONCE = 4  # chunks that Whisper transcribes together: 1 and 12 are slower, on two cores

# Places of Whisper's special tokens, counted from the first of them, and how many there are with the timestamps.
SPECIAL = {"<|endoftext|>": 0, "<|startoftranscript|>": 1, "<|en|>": 2, "<|translate|>": 101, "<|transcribe|>": 102,
           "<|startoflm|>": 103, "<|startofprev|>": 104, "<|nospeech|>": 105, "<|notimestamps|>": 106}  # fmt: skip
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
SPECIALS = 1608

# Width, layers of the encoder and of the decoder, heads, width inside a layer, pieces of text.
WHISPER: dict[Size, tuple[int, int, int, int, int, int]] = {
    "full": (768, 12, 12, 12, 3072, 50257),  # Whisper-small as released: 51865 outputs with the special tokens
    "mini": (128, 4, 2, 4, 512, 1000),  # the one that the mini recipe trains
}


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
        with quiet():  # about arguments that its own code sets
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
