"""Retrieval sets with the transcripts of a system."""

import logging
from pathlib import Path

import numpy as np
import pytest

from clsr.cli.main import main
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set
from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.systems import transcribed
from clsr.systems.pipeline import Pipeline


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, tiny_settings):
    """Let any reference name a system that writes the given texts down, whatever the speech."""
    text_encoder: TextEncoder = load_text_encoder(tiny_settings.text_encoder)

    def make(*texts: str) -> None:
        rest = list(texts)

        def write(waveforms: list[np.ndarray]) -> list[str]:
            return [rest.pop(0) for _ in waveforms]

        monkeypatch.setattr(transcribed, "load_system", lambda reference: Pipeline(write, text_encoder, "whisper-bge"))

    return make


def test_a_set_has_the_transcripts_of_a_recogniser(tone_model: Path, tone_corpus: Path, tmp_path: Path):
    assert main(["data", "transcribed", "--model", str(tone_model), "--set", str(tone_corpus / "dev"), "--output",
                 str(tmp_path / "transcribed")]) == 0  # fmt: skip
    before, after = read_retrieval_set(tone_corpus / "dev"), read_retrieval_set(tmp_path / "transcribed")
    assert [(u.id, u.text, u.recording.resolve()) for u in after.passages] == [
        (u.id, u.text, u.recording.resolve()) for u in before.passages
    ]  # it makes no error
    assert (after.questions, after.relevance) == (before.questions, before.relevance)
    assert check_retrieval_set(tmp_path / "transcribed") == []


def test_unrecognised_passages_are_left_out_with_questions(
    tone_set: Path, tmp_path: Path, says, caplog: pytest.LogCaptureFixture
):
    says("Low tune!", "", "the high tone")
    with caplog.at_level(logging.WARNING, "clsr"):
        transcribed.write_transcribed("any", tone_set, tmp_path / "transcribed")
    after = read_retrieval_set(tmp_path / "transcribed")
    assert [(u.id, u.text) for u in after.passages] == [("p-a", "low tune"), ("p-c", "the high tone")]
    assert list(after.questions) == ["q-a", "q-c"] and after.relevance == {"q-a": {"p-a": 1}, "q-c": {"p-c": 1}}
    assert "1 of 3 passages, in which no word is recognised, are left out with 1 questions" in caplog.text


def test_what_cannot_be_done_is_said(tone_set: Path, tone_corpus: Path, tmp_path: Path, says):
    says("", "?", "")
    with pytest.raises(InputError, match="recognises no word in any relevant passage"):
        transcribed.write_transcribed("any", tone_set, tmp_path / "transcribed")
    for output in (tone_set, tone_set.parent):
        with pytest.raises(InputError, match="would replace"):
            transcribed.write_transcribed("any", tone_set, output)
    assert read_retrieval_set(tone_set).passages
