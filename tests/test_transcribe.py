"""Recordings of any length and rate to text with times."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from clsr.audio.pauses import quietest
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.cli.main import main
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.errors import InputError
from clsr.models.recogniser import word_confidences
from clsr.models.speech_encoder import SpeechEncoder
from clsr.transcribe import Transcript, find_utterances, transcribe, transcribe_one
from clsr.transcript_folder import TranscriptFolder, whole_files
from clsr.vocabulary import Word

Say = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def encoder(tone_model: Path) -> SpeechEncoder:
    return load_speech_encoder(tone_model)


def test_file_is_transcribed_as_a_whole(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    write_waveform(tmp_path / "a.wav", say_in_tones("old boat red"))
    (utterance,) = find_utterances([tmp_path / "a.wav"])
    transcript = transcribe_one(encoder, utterance)
    assert transcript.text == "old boat red"
    assert transcript.token_ids == encoder.text_encoder.token_ids("old boat red")
    assert transcript.duration_s == pytest.approx(0.9)
    assert len(transcript.times) == 3 and transcript.times[0][0] == 0.0
    content = json.loads(transcript.to_json())
    assert list(content) == ["audio", "text", "token_ids", "times", "duration_s"]


def test_long_recordings_are_cut_with_continuous_times(
    encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("clsr.transcribe.PIECE_S", 1.4)
    monkeypatch.setattr("clsr.audio.pauses.SEARCH_S", 0.5)
    text = "old boat red green dog sun cat blue red old dog cat boat sun"
    waveform = say_in_tones(text)
    write_waveform(tmp_path / "long.wav", waveform)
    lengths: list[int] = []
    recognise = encoder.recognise
    monkeypatch.setattr(encoder, "recognise", lambda pieces: lengths.extend(map(len, pieces)) or recognise(pieces))
    transcript = transcribe_one(encoder, find_utterances([tmp_path / "long.wav"])[0])
    assert transcript.text == text
    assert len(lengths) >= 3 and sum(lengths) == len(waveform)  # every sample once
    for number, (begin_s, end_s) in enumerate(transcript.times):  # a word lasts 0.3 s
        assert (begin_s + end_s) / 2 == pytest.approx(0.3 * number + 0.15, abs=0.2)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_any_rate_and_length_comes_to_an_end(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path, rate: int):
    speech = soxr.resample(say_in_tones("blue cat"), SAMPLE_RATE, rate)
    for samples in range(len(speech) - 8, len(speech)):  # lengths that are no whole number of samples at 16 kHz
        write_waveform(tmp_path / "a.wav", speech[:samples], rate)
        transcript = transcribe_one(encoder, find_utterances([tmp_path / "a.wav"])[0])
        assert transcript.text == "blue cat"


def test_pieces_end_in_the_quietest_moment():
    waveform = np.ones(10 * SAMPLE_RATE, np.float32)
    waveform[7 * SAMPLE_RATE : int(7.2 * SAMPLE_RATE)] = 0.01
    waveform[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] = 0.0  # quieter, but not in the last five seconds
    assert 7.0 < quietest(waveform) / SAMPLE_RATE < 7.2
    assert 0 < quietest(np.zeros(SAMPLE_RATE, np.float32)) <= SAMPLE_RATE


def test_utterances_of_a_data_directory(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    write_waveform(tmp_path / "long.wav", np.concatenate([say_in_tones("red dog"), say_in_tones("sun")]))
    spans = [("a", 0.0, 0.6), ("b", 0.6, 0.9)]
    write_data_dir(tmp_path, [Utterance(i, tmp_path / "long.wav", start, end, None, "s") for i, start, end in spans])
    found = list(transcribe(encoder, find_utterances([tmp_path])))
    assert [(t.id, t.text) for t in found if isinstance(t, Transcript)] == [("a", "red dog"), ("b", "sun")]
    assert isinstance(found[1], Transcript) and 0.6 <= found[1].times[0][0] < found[1].times[0][1] <= 0.9 + 1e-6
    assert json.loads(found[1].to_json())["id"] == "b"


def test_unreadable_file_stops_no_other(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"")
    write_waveform(tmp_path / "b.wav", say_in_tones("sun"))
    first, second = transcribe(encoder, find_utterances([tmp_path]))
    assert isinstance(first, InputError) and "a.wav: is empty" in str(first)
    assert isinstance(second, Transcript) and second.text == "sun"
    with pytest.raises(InputError, match="missing.wav"):
        find_utterances([tmp_path / "missing.wav"])


def test_what_is_wrong_with_a_file_is_told(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    soundfile.write(tmp_path / "a.mp3", say_in_tones("red dog sun " * 6), SAMPLE_RATE)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "c.ogg", say_in_tones("sun"), SAMPLE_RATE)
    with open(tmp_path / "c.ogg", "ab") as file:
        file.write(random.Random(0).randbytes(20_000))
    sound, cut_off, joined = transcribe(encoder, find_utterances([tmp_path]))
    assert isinstance(sound, Transcript) and (sound.partial, sound.reason) == (False, "")
    assert isinstance(cut_off, Transcript) and not cut_off.partial
    assert "it was cut off" in json.loads(cut_off.to_json())["reason"]
    assert isinstance(joined, Transcript) and joined.partial and joined.text == "sun"
    assert "20,000 of " in joined.reason


def test_words_have_times_and_confidence(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    write_waveform(tmp_path / "a.wav", say_in_tones("old boat red"))
    transcript = transcribe_one(encoder, find_utterances([tmp_path / "a.wav"])[0])
    assert [word.text for word in transcript.words] == ["old", "boat", "red"]
    assert [(word.start_s, word.end_s) for word in transcript.words] == transcript.times  # a token a word
    ((best, *_),) = encoder.recognise([say_in_tones("old boat red")])
    assert transcript.word_confidences == pytest.approx(np.exp(best.scores[:, 0]).tolist(), rel=1e-3)
    content = json.loads(transcript.format("json"))
    assert list(content) == ["audio", "text", "duration_s", "words"]
    assert list(content["words"][0]) == ["text", "start_s", "end_s", "confidence"]


def test_words_have_the_confidence_of_their_tokens():
    def words(times: Sequence[tuple[float, float]]) -> list[Word]:
        return [Word("so", *times[0]), Word("further", times[1][0], times[2][1])]

    log_probabilities = [np.log(0.5), np.log(0.9), np.log(0.4)]
    assert word_confidences(words, log_probabilities) == pytest.approx([0.5, 0.6])  # the root of 0.36


def test_files_are_named_by_recordings(tmp_path: Path):
    def names(*recordings: str) -> list[str]:
        files = TranscriptFolder(tmp_path, "srt").files(whole_files(recordings)).values()
        return [str(file.relative_to(tmp_path)) for file in files]

    assert names("/a/talk.mp3") == ["talk.srt"]
    assert names("/a/talk.mp3", "/a/b/talk.mp3") == ["talk.srt", "b/talk.srt"]
    assert names("/a/talk.mp3", "/a/talk.wav", "/a/v1.2.wav") == ["talk.mp3.srt", "talk.wav.srt", "v1.2.srt"]


def test_transcripts_go_to_files_that_stay(
    tone_model: Path, say_in_tones: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, text in (("a", "old boat red"), ("b", "green dog")):
        write_waveform(folder / f"{name}.wav", say_in_tones(text))
    command = ["transcribe", "--model", str(tone_model), str(folder), "--format", "srt", "--output", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [str(out / "a.srt"), str(out / "b.srt")]
    assert (out / "a.srt").read_text().splitlines()[2] == "old boat red"
    (out / "a.srt").write_text("mine")
    (out / "b.srt").unlink()  # as if the run had been cut off
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(out / "b.srt")]
    assert "1 of 2 transcripts are there already; --overwrite writes them anew" in printed.err
    assert (out / "a.srt").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0 and "old boat red" in (out / "a.srt").read_text()
    assert sorted(file.name for file in out.iterdir()) == ["a.srt", "b.srt"]
    (folder / "c.wav").write_bytes(b"RIFF....")
    assert main(command) == 2 and not (out / "c.srt").exists()


def test_faulty_options_of_formats_are_refused(
    tone_model: Path, say_in_tones: Say, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("a", "b"):
        write_waveform(tmp_path / f"{name}.wav", say_in_tones("old boat red"))
    command = ["transcribe", "--model", str(tone_model), "--format", "vtt"]
    assert main([*command, str(tmp_path)]) == 2
    assert "--format vtt: there are 2 recordings: give --output FOLDER" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "a.wav"), "--json"]) == 2
    assert "--json prints one line per file" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nold boat red\n"
    (tmp_path / "file").write_text("")
    assert main([*command, str(tmp_path / "a.wav"), "--output", str(tmp_path / "file")]) == 2
    assert "file/a.vtt: cannot be written" in capsys.readouterr().err
