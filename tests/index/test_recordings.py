"""Confidence of recordings: worked out by hand, stored, resumed, flagged, and absent from old indices."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.cli.main import main
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.recordings import FLAG, WindowSummary, least_confidence, recording_confidence
from clsr.model import Model
from clsr.models.recogniser import LengthHypothesis
from clsr.search.retriever import Retriever

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "version_0_1"
SMALL = IndexConfig("4/3", batch_s=8.0)
Speak = Callable[[Path, str], Path]


def test_tokens_have_their_mean_log_probability() -> None:
    scores = np.log(np.array([[0.8, 0.1], [0.2, 0.2]]))
    hypothesis = LengthHypothesis(np.zeros((2, 2), int), scores, [(0.0, 0.1), (0.1, 0.2)])
    assert math.exp(hypothesis.confidence) == pytest.approx(0.4)  # the root of 0.8 times 0.2
    assert math.isnan(LengthHypothesis(np.zeros((0, 2), int), np.zeros((0, 2)), []).confidence)


def test_long_transcripts_count_more() -> None:
    silent = WindowSummary(60, 90, 0, None)
    mean = recording_confidence([WindowSummary(0, 30, 30, 0.9), WindowSummary(30, 60, 10, 0.1), silent])
    assert mean == pytest.approx((0.9**3 * 0.1) ** 0.25, abs=1e-6)
    assert recording_confidence([silent, WindowSummary(0, 30, 30, None)]) is None


def test_threshold_is_that_of_the_system() -> None:
    assert least_confidence("whisper:pip:package") > 0 < least_confidence("/models/joint")
    assert least_confidence("clap:/models/clap") == 0.0  # it writes no transcripts


@pytest.fixture
def index(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> Index:
    """Windows "cat dog" and "sun boat": the model is sure of the first recording, and unsure of the second."""
    speech_encoder.log_probabilities = {"cat": -0.1, "dog": -0.3, "sun": -2.0, "boat": -3.0}
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([speak(tmp_path / "a.wav", "cat dog"), speak(tmp_path / "b.wav", "sun boat")])
    return index


def test_unsure_recordings_are_flagged(
    index: Index, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sure, unsure = Index.open(tmp_path / "index").status()
    assert (sure.confidence, sure.flagged) == (pytest.approx(math.exp(-0.2), abs=1e-5), False)
    assert (unsure.confidence, unsure.flagged) == (pytest.approx(math.exp(-2.5), abs=1e-5), True)
    assert unsure.status == "indexed" and unsure.reason is None
    assert index.verify() == ([], [])
    capsys.readouterr()
    assert main(["index", "--index", str(tmp_path / "index"), "--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("1 windows  confidence 0.82") and lines[1].endswith(f"confidence 0.08: {FLAG}")
    assert main(["index", "--index", str(tmp_path / "index"), "--status", "--json"]) == 0
    assert [json.loads(line)["flagged"] for line in capsys.readouterr().out.splitlines()] == [False, True]


def test_hits_of_flagged_recordings_say_so(index: Index, model: Model) -> None:
    retriever = Retriever(index, model)
    (sure,), (unsure,) = retriever.search_many(["cat", "boat"], top_k=1)
    assert not sure.flagged and "flagged" not in sure.values() and FLAG not in str(sure)
    assert unsure.flagged and unsure.values()["flagged"] is True and str(unsure).endswith(f"({FLAG})")


def test_interrupted_recording_keeps_its_confidence(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clsr.index.indexer.COMMIT_AUDIO_S", 0.0)
    speech_encoder.log_probabilities = {"cat": -0.1, "sun": -2.0}
    path = speak(tmp_path / "a.wav", "cat cat cat cat cat cat cat sun sun sun sun sun sun")
    encode = speech_encoder.encode

    def stop_in_second_batch(waveforms: Any) -> Any:
        if len(speech_encoder.batches) == 1:
            raise KeyboardInterrupt
        return encode(waveforms)

    speech_encoder.encode = stop_in_second_batch
    with pytest.raises(KeyboardInterrupt):
        Index.create(tmp_path / "index", model, SMALL).add([path])
    (status,) = Index.open(tmp_path / "index").status()
    assert status.confidence == pytest.approx(math.exp(-0.1), abs=1e-5)  # of the windows that are there
    speech_encoder.encode = encode
    resumed = Index.create(tmp_path / "index", model, SMALL).add([path])
    assert resumed == Index.create(tmp_path / "undisturbed", model, SMALL).add([path])
    assert resumed[0].confidence not in (None, status.confidence)


def test_old_index_has_no_confidence_until_indexed_anew(tmp_path: Path) -> None:
    old = shutil.copytree(OLD, tmp_path / "old")
    index = Index.open(old / "index")
    assert [status.confidence for status in index.status()] == [None] * len(index.status())
    assert not index.flagged() and index.verify().damage == []
    model = Model(old / "joint")
    Index.create(old / "index", model).add([old / "recordings" / "a.wav"])
    again = Index.open(old / "index")
    new = [status for status in again.status() if status.path.startswith(str(tmp_path))]
    assert len(new) == 1 and 0 < (new[0].confidence or 0) <= 1
    assert [status.confidence for status in again.status() if status not in new] == [None] * (len(again.status()) - 1)
    assert again.verify().damage == []
