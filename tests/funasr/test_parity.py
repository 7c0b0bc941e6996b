"""Imported models beside FunASR's own, on speech: the same numbers at every step, alone and in padded batches."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.checkpoint import load_recogniser
from clsr.corpora.synthesis import Synthesizer
from clsr.data.kaldi import read_data_dir
from clsr.funasr.parity import (
    SHAPES,
    Differences,
    FunasrModel,
    Shape,
    Stages,
    differences,
    stages,
    worst,
    write_random_release,
)
from clsr.funasr.release import import_release
from clsr.models.paraformer import Paraformer
from clsr.transcribe import find_utterances, transcribe
from clsr.vocabulary import ReleaseVocabulary

ALLOWED = Differences(1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 0, 1)
DURATIONS_S = (0.2, 0.21, 0.5, 1.0, 2.4, 7.7, 15.0, 60.0)
SENTENCES = ("the quick brown fox jumps over the lazy dog", "she sells sea shells by the sea shore", "how do you do")


class Both(NamedTuple):
    """One folder, read by us and by FunASR."""

    ours: Paraformer
    theirs: FunasrModel


def read_both(folder: Path, shape: Shape) -> Both:
    write_random_release(folder, shape)
    import_release(folder, folder / "checkpoint")
    both = Both(load_recogniser(folder / "checkpoint").paraformer, FunasrModel(folder))
    shutil.rmtree(folder)  # pytest keeps what is there, and large shapes are a gigabyte
    return both


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return read_both(tmp_path_factory.mktemp("tiny"), SHAPES["tiny"])


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A minute of synthetic speech."""
    sentences = [Synthesizer().say(text, voice) for text in SENTENCES for voice in ("en-us", "en-us+f2")]
    return np.resize(np.concatenate(sentences), 60 * SAMPLE_RATE)


@pytest.fixture(scope="module", params=["synthetic", "librispeech_en", "aishell_zh"])
def speech(request: pytest.FixtureRequest, spoken: np.ndarray) -> np.ndarray:
    """A minute of speech, people's where a machine has some."""
    if request.param == "synthetic":
        return spoken
    shared: Path = request.getfixturevalue("shared_data")
    utterances = read_data_dir(shared / "speech" / request.param)[:40]
    return np.resize(
        np.concatenate([read_waveform(u.recording, u.start_s, u.end_s) for u in utterances]), 60 * SAMPLE_RATE
    )


def cut(speech: np.ndarray, durations_s: tuple[float, ...]) -> list[np.ndarray]:
    return [speech[: int(duration_s * SAMPLE_RATE)] for duration_s in durations_s]


def assert_within(found: Differences, allowed: Differences = ALLOWED) -> None:
    for name, value, most in zip(Differences._fields, found, allowed, strict=True):
        assert value <= most, f"{name}: {found}"


def compare(both: Both, waveforms: list[np.ndarray]) -> list[Stages]:
    """See that ours agrees, alone and in a padded batch, with FunASR alone; return what FunASR makes of it."""
    expected = [both.theirs.stages([waveform])[0] for waveform in waveforms]
    alone = [stages(both.ours, [waveform])[0] for waveform in waveforms]
    together = stages(both.ours, waveforms)
    assert_within(worst([differences(a, b) for a, b in zip(alone, expected, strict=True)]))
    assert_within(worst([differences(a, b) for a, b in zip(together, expected, strict=True)]))
    return expected


def test_every_step_agrees_at_all_durations(tiny: Both, speech: np.ndarray):
    expected = compare(tiny, cut(speech, DURATIONS_S))
    assert [len(found.ids) > 0 for found in expected] == [True] * len(DURATIONS_S)
    assert 120 < len(expected[-1].ids) < 480  # two to eight tokens a second
    assert len(set(expected[-1].ids)) > 3
    assert all(len(found.firing_frames) == len(found.ids) for found in expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zh", "en"])
def test_every_step_agrees_at_full_size(name: str, spoken: np.ndarray, tmp_path: Path):
    both = read_both(tmp_path / name, SHAPES[name])
    expected = compare(both, cut(spoken, (0.2, 3.3, 8.0)))
    assert len(expected[-1].ids) > 10


def test_padding_changes_funasr_but_not_clsr(tiny: Both, spoken: np.ndarray):
    waveforms = cut(spoken, (2.4, 5.0, 7.7, 15.0))
    moved = worst(
        [differences(batch, tiny.theirs.stages([waveform])[0])
         for batch, waveform in zip(tiny.theirs.stages(waveforms), waveforms, strict=True)]
    )  # fmt: skip
    still = worst(
        [differences(batch, stages(tiny.ours, [waveform])[0])
         for batch, waveform in zip(stages(tiny.ours, waveforms), waveforms, strict=True)]
    )  # fmt: skip
    assert moved.weights > 1e-2 and moved.log_probabilities > 1e-2
    assert_within(still, Differences(0, 1e-5, 1e-5, 1e-5, 1e-5, 0, 0))


def test_unequal_numbers_of_tokens_are_no_agreement(tiny: Both, spoken: np.ndarray):
    found = stages(tiny.ours, [spoken[:SAMPLE_RATE]])[0]
    short = found._replace(ids=found.ids[:-1])
    assert differences(found, short) == Differences(0, 0, 0, np.inf, np.inf, len(found.ids), len(found.features))
    other = found._replace(ids=[*found.ids[:-1], -1], firing_frames=[*found.firing_frames[:-1], 99])
    assert differences(found, other)[:6] == (0, 0, 0, 0, 0, 1)
    assert differences(found, other).firing_frames == 99 - found.firing_frames[-1]


HAN = "一二三四五六七八九十百千万上下左右大小中"
WORDS = [f"{a}{b}{c}" for a in "bd" for b in "aeo" for c in "gnt"]
PIECES = [f"{a}{b}@@" for a in "kmp" for b in "aeo"]


def complete(ids: list[int], tokens: list[str]) -> str:
    """The text without a word that the end cut short, which FunASR loses."""
    while ids and (tokens[ids[-1]].endswith("@@") or tokens[ids[-1]] == "<unk>"):
        ids = ids[:-1]
    return ReleaseVocabulary(tokens).decode(ids)


@pytest.mark.slow
@pytest.mark.parametrize(("middle", "seed"), [([*HAN, *WORDS], 0), ([*WORDS, *PIECES], 1)], ids=["zh", "en"])
def test_transcripts_are_those_of_funasrs_own_command(middle: list[str], seed: int, spoken: np.ndarray, tmp_path: Path):
    from funasr import AutoModel

    tokens = ["<blank>", "<s>", "</s>", *middle, "<unk>"]
    write_random_release(tmp_path / "release", SHAPES["tiny"]._replace(second_predictor=False), seed, tokens)
    import_release(tmp_path / "release", tmp_path / "checkpoint")
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path, waveform in zip(paths, cut(spoken, (1.0, 4.4, 12.5)), strict=True):
        write_waveform(path, waveform)
    model = AutoModel(model=str(tmp_path / "release"), disable_update=True, disable_pbar=True, device="cpu", ncpu=1)
    expected = [model.generate(input=str(path))[0]["text"] for path in paths]
    found = list(transcribe(load_recogniser(tmp_path / "checkpoint"), find_utterances(paths)))
    assert [complete(transcript.token_ids, tokens) for transcript in found] == expected
    assert all(t.text.startswith(text) for t, text in zip(found, expected, strict=True))
    assert len(set(expected[2])) > 5
    model.kwargs["tokenizer"] = None  # without one FunASR returns ids
    theirs = [model.model.inference([str(path)], key=["a"], **model.kwargs)[0][0]["token_int"] for path in paths]
    assert [transcript.token_ids for transcript in found] == theirs


def test_folders_have_what_releases_have(tmp_path: Path):
    write_random_release(tmp_path, SHAPES["tiny"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["am.mvn", "config.yaml", "model.pt", "tokens.json"]
    assert len(json.loads((tmp_path / "tokens.json").read_text())) == SHAPES["tiny"].tokens
    names = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {"decoder.embed.0.weight", "predictor.blstm.weight_ih_l0", "predictor.cif_output2.bias"} <= names.keys()


def test_the_table_has_a_row_for_each_side(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).resolve().parents[2] / "tools" / "parity_table.py"
    spec = importlib.util.spec_from_file_location("parity_table", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "DURATIONS_S", (0.5, 1.0, 2.0))
    monkeypatch.setattr(tool, "BATCHED", 2)
    assert tool.main(["--shapes", "tiny"]) == 0
    about, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert "synthetic; 0.5, 1, 2 s, those up to 1 s in the padded batch" in about
    assert [row.split(" | ")[1] for row in rows] == ["clsr, alone", "clsr, padded batch", "FunASR, padded batch"]
    assert all(row.count("|") == head.count("|") for row in rows)
    assert tool.main(["--shapes", "--release", "nowhere"]) == 2
