"""A released SenseVoice: the numbers and the text of FunASR's own, words with times, and faults of a folder."""

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clsr.audio.features import stacked_features
from clsr.config import Precision
from clsr.errors import InputError
from clsr.funasr.sense_voice import LANGUAGES, FrameOutputs
from clsr.funasr.sense_voice_recogniser import CtcToken, SenseVoiceRecogniser, collapse, load_sense_voice, token_times
from clsr.funasr.sense_voice_release import read_sense_voice
from clsr.funasr.sentence_pieces import SENSE_VOICE_PIECES, SentencePieces
from clsr.padding import pad
from clsr.vocabulary import Word

DURATIONS = (3_200, 16_000, 41_000, 90_000)  # samples
PIECES = [
    "<unk>",
    "<s>",
    "</s>",
    "▁the",
    "▁mo",
    "on",
    "北",
    "京",
    "▁",
    "食",
    "べました",
    "テレ",
    "ビ",
    "<|en|>",
    "▁안녕",
]


@pytest.fixture(scope="module")
def noises() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    envelopes = [0.05 + 0.1 * np.abs(np.sin(np.arange(samples) / 1500)) for samples in DURATIONS]
    return [(e * draw.standard_normal(len(e))).astype(np.float32) for e in envelopes]


@pytest.fixture(scope="module")
def ours(sense_voice_release: Path) -> SenseVoiceRecogniser:
    return load_sense_voice(sense_voice_release)


@pytest.fixture
def folder(sense_voice_release: Path, tmp_path: Path) -> Path:
    """A copy of the tiny release, to be damaged."""
    return shutil.copytree(sense_voice_release, tmp_path / "release")


@pytest.fixture(scope="module")
def theirs(sense_voice_release: Path) -> SimpleNamespace:
    """FunASR's own model, front end and tokenizer of the same folder."""
    from funasr.frontends.wav_frontend import WavFrontend
    from funasr.models.sense_voice.model import SenseVoiceSmall
    from funasr.tokenizer.sentencepiece_tokenizer import SentencepiecesTokenizer

    config = yaml.safe_load((sense_voice_release / "config.yaml").read_text())
    tokenizer = SentencepiecesTokenizer(str(sense_voice_release / SENSE_VOICE_PIECES))
    settings = config["frontend_conf"] | {"cmvn_file": str(sense_voice_release / "am.mvn"), "dither": 0.0}
    model = SenseVoiceSmall(
        encoder=config["encoder"], encoder_conf=config["encoder_conf"], **config["model_conf"], input_size=560,
        vocab_size=tokenizer.get_vocab_size(),
    ).eval()  # fmt: skip
    weights = torch.load(sense_voice_release / "model.pt", weights_only=True)
    model.load_state_dict(weights, strict=True)
    return SimpleNamespace(model=model, frontend=WavFrontend(**settings), tokenizer=tokenizer)


@torch.inference_mode()
def log_probabilities(theirs: SimpleNamespace, waveform: np.ndarray, language: str) -> torch.Tensor:
    """Those of FunASR for an utterance alone, the four queries included: ``(4 + T, V)``."""
    model = theirs.model
    features, _ = theirs.frontend(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    asked = [model.lid_dict[language], 1, 2, model.textnorm_dict["woitn"]]
    rows = torch.cat([model.embed(torch.tensor([asked])), features], 1)
    frames, _ = model.encoder(rows, torch.tensor([rows.shape[1]]))
    return model.ctc.log_softmax(frames)[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_log_probabilities_agree_alone_and_padded(
    ours: SenseVoiceRecogniser, theirs: SimpleNamespace, noises: list[np.ndarray], language: str
):
    features, lengths = pad(stacked_features(noises, torch.device("cpu")))
    network = ours.network
    with torch.inference_mode():
        together = network.ctc(network(features, lengths, language)).log_softmax(2)
        for row, (waveform, length) in enumerate(zip(noises, lengths.tolist(), strict=True)):
            expected = log_probabilities(theirs, waveform, language)
            alone = network.ctc(network(features[row : row + 1, :length], lengths[row : row + 1], language))
            assert torch.allclose(alone.log_softmax(2)[0], expected, atol=1e-5, rtol=0)
            assert torch.allclose(together[row, : length + 4], expected, atol=1e-5, rtol=0)


def test_layer_norms_have_funasrs_epsilon(ours: SenseVoiceRecogniser, theirs: SimpleNamespace):
    found, expected = (
        {name: module.eps for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)}
        for model in (ours.network, theirs.model)
    )
    assert found == expected and len(found) == 2 * 5 + 2


def test_text_is_funasrs_without_tags(ours: SenseVoiceRecogniser, theirs: SimpleNamespace, noises: list[np.ndarray]):
    tools = {"tokenizer": theirs.tokenizer, "frontend": theirs.frontend, "device": "cpu"}
    for waveform, found in zip(noises, ours.transcribe(noises), strict=True):
        results, _ = theirs.model.inference([torch.from_numpy(waveform)], key=["a"], **tools)
        said = re.sub(r"<\|\w+\|>", "", results[0]["text"])
        queried = log_probabilities(theirs, waveform, "auto")[:4].argmax(1)  # FunASR writes those of the queries, too
        assert spaceless(said) == spaceless(ours.pieces.decode(torch.unique_consecutive(queried).tolist()) + found.text)
        assert found.text


def spaceless(text: str) -> str:
    return text.replace(" ", "")


def test_utterances_do_not_depend_on_others(ours: SenseVoiceRecogniser, noises: list[np.ndarray]):
    together = ours.transcribe(noises)
    for waveform, found in zip(noises, together, strict=True):
        (alone,) = ours.transcribe([waveform])
        assert alone[:4] == found[:4] and alone.confidence == pytest.approx(found.confidence, abs=1e-4)
    assert ours.transcribe([]) == []


def test_times_lie_within_the_recording(ours: SenseVoiceRecogniser, noises: list[np.ndarray]):
    for waveform, found in zip(noises, ours.transcribe(noises), strict=True):
        edges = [edge for span in found.times for edge in span]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= len(waveform) / 16_000
        assert (found.words[0].start_s, found.words[-1].end_s) == (edges[0], edges[-1])
        assert -20 < found.confidence < 0


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@torch.inference_mode()
def test_lower_precision_scores_much_the_same(
    sense_voice_release: Path, ours: SenseVoiceRecogniser, noises: list[np.ndarray], precision: Precision
):
    given = pad(stacked_features(noises, torch.device("cpu")))
    lowered = load_sense_voice(sense_voice_release, precision=precision)
    for found, expected in zip(lowered.network.outputs(*given), ours.network.outputs(*given), strict=True):
        apart = (found.log_probabilities - expected.log_probabilities).abs()  # of the best outputs, whichever they are
        assert 0 < apart.mean() < 0.02 and apart.max() < 0.05
    assert all(recognition.text for recognition in lowered.transcribe(noises))


def outputs(tokens: list[int], probabilities: list[float]) -> FrameOutputs:
    return FrameOutputs(torch.tensor(tokens), torch.tensor(probabilities).log())


def test_runs_collapse_and_blanks_part_them():
    found = collapse(outputs([0, 3, 3, 0, 3, 5, 5, 0], [0.9, 0.5, 0.8, 0.9, 0.4, 0.25, 0.5, 1.0]))
    assert [(token.output, token.first, token.end) for token in found] == [(3, 1, 3), (3, 4, 5), (5, 5, 7)]
    assert [math.exp(token.log_probability) for token in found] == pytest.approx([0.8, 0.4, 0.5])
    assert collapse(outputs([0, 0], [1.0, 1.0])) == []


def test_tokens_last_until_the_next_begins():
    tokens = [CtcToken(3, 0.0, 1, 2), CtcToken(4, 0.0, 6, 8), CtcToken(5, 0.0, 50, 51)]
    times = token_times(tokens, 3.03)
    assert times == [pytest.approx(span) for span in ((0.06, 0.36), (0.36, 1.32), (3.0, 3.03))]
    assert token_times([], 1.0) == []


def test_pieces_become_words_and_characters():
    pieces = SentencePieces(PIECES)
    seconds = [(float(n), n + 1.0) for n in range(12)]
    assert pieces.words([3, 4, 5, 6, 7, 13, 8, 11, 12, 14], seconds[:10]) == [
        Word("the", 0, 1), Word("moon", 1, 3), Word("北", 3, 4), Word("京", 4, 5), Word("テレビ", 7, 9),
        Word("안녕", 9, 10),
    ]  # fmt: skip
    assert pieces.decode([3, 4, 5, 6, 7, 9, 10, 2]) == "the moon北京食べました"
    assert pieces.decode([8, 11, 12, 0]) == "テレビ" and pieces.decode([13]) == ""


def test_text_is_sentencepieces_but_beside_han(sense_voice_release: Path):
    from sentencepiece import SentencePieceProcessor

    path = str(sense_voice_release / SENSE_VOICE_PIECES)
    processor, pieces = SentencePieceProcessor(model_file=path), SentencePieces.load(Path(path))
    for text in ("red boat", "it is so blue", "안녕 하세요", "テレビ"):
        assert pieces.decode(processor.encode(text)) == processor.decode(processor.encode(text)) == text
    assert pieces.decode(processor.encode("red 北京 dog 食べました")) == "red北京dog食べました"
    assert [pieces.pieces[mark] for mark in sorted(pieces.marks)][:5] == ["<unk>", "<s>", "</s>", "<|zh|>", "<|en|>"]


def refused(folder: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_sense_voice(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "model.pt", "am.mvn", SENSE_VOICE_PIECES])
def test_each_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    refused(folder, f"release: no {name} in it: name the whole folder of a FunASR model")


def test_pieces_of_another_model(folder: Path, write_pieces: Callable[[Path, int], None]):
    write_pieces(folder / SENSE_VOICE_PIECES, 70)
    refused(folder, f"{SENSE_VOICE_PIECES}: 70 pieces, but ctc.ctc_lo of model.pt has 80 outputs: copy the file")
    (folder / SENSE_VOICE_PIECES).write_bytes(b"<html>404</html>")
    refused(folder, f"{SENSE_VOICE_PIECES}: no readable model of SentencePiece: copy it again")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("encoder", "SANMEncoder", "encoder is 'SANMEncoder'; what can be imported has 'SenseVoiceEncoderSmall'"),
        ("encoder_conf.tp_blocks", 3, r"model.pt: 13 missing weights, .*: encoder.tp_encoders.2."),
        ("encoder_conf.linear_units", 64, r"weight encoder.\S+w_1.\w+ is \(48.*, but \(64"),
        ("encoder_conf.chunk_size", 10, "encoder_conf has chunk_size, and it is not known what that changes"),
        ("encoder_conf.sanm_shfit", 5, "encoder_conf.sanm_shfit is 5; .* 0"),
        ("frontend_conf.lfr_m", 1, "frontend_conf.lfr_m is 1; .* 7"),
    ],
)
def test_other_networks_are_refused(folder: Path, key: str, value: Any, message: str):
    values = yaml.safe_load((folder / "config.yaml").read_text())
    section, _, name = key.rpartition(".")
    (values[section] if section else values)[name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    refused(folder, message)
