"""``clsr convert``: a CLSR checkpoint whose front end is the encoder of a released Paraformer or SenseVoice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from clsr.checkpoint import require_free, save_untrained
from clsr.config import DecoderConfig, EncoderConfig, ModelConfig, SanmConfig, TrainingConfig
from clsr.funasr.release import read_release
from clsr.funasr.sense_voice_release import is_sense_voice, read_sense_voice
from clsr.models.text_encoder import load_text_encoder
from clsr.vocabulary import Vocabulary

ENCODER_LAYERS = 2  # SAN-M layers between the release's encoder and CIF
DECODER_LAYERS = 3
PARTS = ("encoder.", "cmvn.")  # of a release, that its front end is made of


class _Front(NamedTuple):
    """A front end of a release."""

    kind: Literal["paraformer", "sensevoice"]
    sizes: SanmConfig
    weights: dict[str, Tensor]  # by their names in the front end


def convert_funasr(folder: Path, output: Path, text_encoder: str, seed: int = 0) -> None:
    """Write an untrained checkpoint over the encoder of a FunASR release; ``clsr train-asr --start`` trains it.

    The release's encoder is the front end and stays as it is. SAN-M layers, CIF and a SAN-M decoder over the text
    encoder's pieces are random.

    Args:
        folder: the release: a Paraformer or a SenseVoice-small.
        output: folder of the checkpoint.
        text_encoder: reference of the text encoder.
        seed: of the random parts.

    Raises:
        InputError: the folder holds no release, or ``output`` holds a checkpoint.
    """
    require_free(output)
    front = _sense_voice(folder) if is_sense_voice(folder) else _paraformer(folder)
    encoder = load_text_encoder(text_encoder)
    width, heads = front.sizes.encoder.width, front.sizes.encoder.heads
    model = ModelConfig(
        encoder=EncoderConfig(width, 4 * width, ENCODER_LAYERS, heads, 11, 0.1),
        decoder=DecoderConfig(4 * width, DECODER_LAYERS, heads, 11, 0.1),
        frontend=front.kind,
        sanm=front.sizes,
    )
    released = {f"frontend.{name}": weight for name, weight in front.weights.items()}
    vocabulary = Vocabulary.whole(encoder.tokenizer)
    save_untrained(output, TrainingConfig(text_encoder, model=model), vocabulary, encoder.fingerprint, released, seed)


def _paraformer(folder: Path) -> _Front:
    release = read_release(folder)
    weights = {name: weight for name, weight in release.weights.items() if name.startswith(PARTS)}
    return _Front("paraformer", SanmConfig(replace(release.model.encoder, dropout=0.0)), weights)


def _sense_voice(folder: Path) -> _Front:
    network = read_sense_voice(folder).network
    weights = {name: weight for name, weight in network.state_dict().items() if name.startswith(PARTS)}
    sizes = SanmConfig(replace(network.config.encoder, dropout=0.0), network.config.further_layers)
    return _Front("sensevoice", sizes, weights | {"queries": network.queries()})
