from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from clsr.audio.waveform import read_waveform
from clsr.checkpoint import load_speech_encoder, save_checkpoint
from clsr.checkpoint_folder import Meta
from clsr.config import TrainingConfig
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.paper import alignment
from clsr.paper.alignment import align, draw_alignment, mean_by_token
from clsr.systems.parabge import KIND, ParaBge, load_parabge


@pytest.fixture
def baseline(tiny_settings: TrainingConfig, tmp_path: Path) -> Path:
    """Checkpoint of a ParaBGE with random weights."""
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    torch.manual_seed(0)
    weights = ParaBge(tiny_settings.model, text_encoder.width).state_dict()
    meta = Meta(KIND, tiny_settings.text_encoder, text_encoder.fingerprint, [], {}, "abc1234", {})
    save_checkpoint(tmp_path / "parabge", weights, tiny_settings, None, meta)
    return tmp_path / "parabge"


def test_frames_belong_to_the_token_around_their_middle() -> None:
    frames = torch.arange(6.0)[:, None] * torch.ones(1, 2)  # middles at 0.03, 0.09, 0.15, 0.21, 0.27, 0.33 s
    times = [(0.0, 0.12), (0.12, 0.3), (0.30, 0.31), (0.9, 1.0)]
    # frames 0 and 1; 2, 3 and 4; no middle within 10 ms: frame 5; past the end: the last
    assert mean_by_token(frames, times)[:, 0].tolist() == [0.5, 3.0, 5.0, 5.0]


def test_a_question_is_aligned_with_recognised_tokens(tone_model: Path, baseline: Path, tone_corpus: Path) -> None:
    whole = read_retrieval_set(tone_corpus / "dev")
    spoken = (whole.passages[0].text or "").split()
    clsr, parabge = align(tone_model, baseline, tone_corpus / "dev", "q00")
    assert clsr.question == ["where", "is", "the", *spoken, "?"] or clsr.question == [
        "where",
        "is",
        "the",
        *spoken,
        "[UNK]",
    ]
    assert clsr.passage == spoken == parabge.passage
    assert clsr.similarity.shape == parabge.similarity.shape == (len(spoken), len(clsr.question))
    assert np.abs(clsr.similarity).max() <= 1 + 1e-6 and np.abs(parabge.similarity).max() <= 1 + 1e-6
    words = clsr.similarity[:, 3 : 3 + len(spoken)]
    assert (words.argmax(0) == np.arange(len(spoken))).all()  # a word of the question meets itself


def test_similarity_is_that_of_contextual_vectors(tone_model: Path, baseline: Path, tone_corpus: Path) -> None:
    passage = read_retrieval_set(tone_corpus / "dev").passages[1]
    clsr, parabge = align(tone_model, baseline, tone_corpus / "dev", "q01")
    encoder, waveform = load_speech_encoder(tone_model), read_waveform(passage.recording)
    texts = encoder.text_encoder
    ids = torch.tensor([[texts.tokenizer.token_to_id(piece) for piece in clsr.question]])
    question = texts.token_vectors(texts.word_embeddings[ids], torch.tensor([ids.shape[1]]))[0]
    hypothesis = encoder.recognise([waveform])[0][0]
    assert np.abs(clsr.similarity - (encoder.token_vectors(hypothesis) @ question.T).numpy()).max() < 1e-5
    frames = torch.nn.functional.normalize(load_parabge(baseline)[0].frame_vectors(waveform), dim=1)
    means = torch.nn.functional.normalize(mean_by_token(frames, hypothesis.times), dim=1)
    assert np.abs(parabge.similarity - (means @ question.T).numpy()).max() < 1e-5


def test_maps_share_one_scale_and_name_their_pieces(
    tone_model: Path, baseline: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    make = alignment.new_figure
    monkeypatch.setattr(alignment, "new_figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    draw_alignment(tone_model, baseline, tone_corpus / "dev", "q00", tmp_path / "a.svg")
    maps = align(tone_model, baseline, tone_corpus / "dev", "q00")
    clsr, parabge, bar = drawn[0].axes
    assert [axes.get_title() for axes in (clsr, parabge)] == ["CLSR", "ParaBGE"]
    assert [label.get_text() for label in clsr.get_yticklabels()] == maps[0].passage
    assert [label.get_text() for label in clsr.get_xticklabels()] == maps[0].question
    low, high = (edge([found.similarity for found in maps]) for edge in (
        lambda all_maps: min(map(np.min, all_maps)), lambda all_maps: max(map(np.max, all_maps))))  # fmt: skip
    for axes in (clsr, parabge):
        assert axes.images[0].get_clim() == pytest.approx((low, high))
        shade = axes.images[0].get_cmap()
        assert sum(shade(1.0)[:3]) < sum(shade(0.0)[:3])  # darker is more similar
    assert bar.get_ylabel() == "cosine similarity"


def test_faults_of_the_requested_alignment(tone_model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no question 'q99': name one of questions/text, q00 for instance"):
        align(tone_model, None, tone_corpus / "dev", "q99")
    with pytest.raises(InputError, match=r"a.bmp: figures are written as"):
        draw_alignment(tone_model, None, tone_corpus / "dev", "q00", tmp_path / "a.bmp")
    with pytest.raises(InputError, match="no meta.json"):
        align(tmp_path, None, tone_corpus / "dev", "q00")
