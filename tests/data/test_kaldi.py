"""Tests of clsr/data/kaldi.py: every fault is found where it stands, and sound data comes back as written."""

import codecs
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.data.kaldi import Utterance, check_data_dir, read_data_dir, read_text, to_cuts, write_data_dir, write_table
from clsr.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sound data directory without segments: a of 1 s, b of 2 s."""
    for id_, seconds in (("a", 1), ("b", 2)):
        write_waveform(tmp_path / f"{id_}.wav", np.full(seconds * SAMPLE_RATE, 0.25))
    (tmp_path / "wav.scp").write_text("a a.wav\nb b.wav\n")
    (tmp_path / "text").write_text("a one word\nb two\n")
    (tmp_path / "utt2spk").write_text("a ann\nb bob\n")
    return tmp_path


@pytest.fixture
def segmented(folder: Path) -> Path:
    """The same directory with segments: a1 and a2 of recording b."""
    (folder / "segments").write_text("a1 b 0.25 1.0\na2 b 1.0 2\n")
    (folder / "text").write_text("a1 one word\na2 two\n")
    (folder / "utt2spk").write_text("a1 ann\na2 bob\n")
    return folder


def test_whole_recordings(folder: Path) -> None:
    assert read_data_dir(folder) == [
        Utterance("a", folder / "a.wav", 0.0, 1.0, "one word", "ann"),
        Utterance("b", folder / "b.wav", 0.0, 2.0, "two", "bob"),
    ]
    assert check_data_dir(folder) == []


def test_segments(segmented: Path) -> None:
    assert read_data_dir(segmented) == [
        Utterance("a1", segmented / "b.wav", 0.25, 1.0, "one word", "ann"),
        Utterance("a2", segmented / "b.wav", 1.0, 2.0, "two", "bob"),
    ]
    assert read_data_dir(segmented)[0].duration_s == 0.75
    assert check_data_dir(segmented) == []


def test_optional_files_may_be_missing(folder: Path) -> None:
    (folder / "text").unlink()
    (folder / "utt2spk").unlink()
    assert [(u.text, u.speaker) for u in read_data_dir(folder)] == [(None, "a"), (None, "b")]


def test_utt2dur_is_trusted_and_the_audio_not_opened(folder: Path) -> None:
    (folder / "utt2dur").write_text("a 0.9\nb 1.9\n")
    (folder / "a.wav").write_text("not audio")
    assert [utterance.end_s for utterance in read_data_dir(folder)] == [0.9, 1.9]


def test_absolute_paths_and_spaces_in_paths(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    audio = tmp_path_factory.mktemp("two  spaces") / "a b.wav"
    (folder / "a.wav").rename(audio)
    (folder / "wav.scp").write_text(f"a {audio}\nb b.wav\n")
    assert read_data_dir(folder)[0].recording == audio
    assert check_data_dir(folder) == []


def test_a_byte_order_mark_joins_no_id(folder: Path) -> None:
    sound = read_data_dir(folder)
    for name in ("wav.scp", "text", "utt2spk"):
        (folder / name).write_bytes(codecs.BOM_UTF8 + (folder / name).read_bytes().replace(b"\n", b"\r\n"))
    assert read_data_dir(folder) == sound
    assert check_data_dir(folder) == []


FAULTS: list[tuple[str, str, str, str]] = [  # file, content, where the fault is, what it says
    ("wav.scp", "a a.wav\nb gone.wav\n", "wav.scp:2: b: ", "no such audio file"),
    ("wav.scp", "a a.wav\nb sox b.wav -t wav - |\n", "wav.scp:2: b: ", "is a command"),
    ("wav.scp", "a a.wav\nb\n", "wav.scp:2: b: ", "has nothing after the id"),
    ("wav.scp", "b b.wav\na a.wav\n", "wav.scp:2: a: ", "comes after b"),
    ("wav.scp", "a a.wav\na a.wav\nb b.wav\n", "wav.scp:2: a: ", "is there twice, first on line 1"),
    ("wav.scp", "a a.wav\n\nb b.wav\n", "wav.scp:2: ", "is blank"),
    ("wav.scp", "", "wav.scp: ", "has no usable line"),
    ("text", "a one word\nb  \n", "text:2: b: ", "has nothing after the id"),
    ("text", "a one word\n", "text: b: ", "is missing"),
    ("text", "a one word\nb two\nc three\n", "text:3: c: ", "has no audio"),
    ("text", "b two\na one word\n", "text:2: a: ", "comes after b"),
    ("text", "a one word\na two\nb two\n", "text:2: a: ", "is there twice"),
    ("text", "a caf\udce9\nb two\n", "text:1: ", "is not UTF-8"),
    ("utt2spk", "b bob\n", "utt2spk: a: ", "is missing"),
    ("utt2dur", "a 1.0\nb two\n", "utt2dur:2: b: ", "two is no length"),
    ("utt2dur", "a 0\nb 2.0\n", "utt2dur:1: a: ", "0 is no length"),
    ("utt2dur", "a 1\n", "utt2dur: b: ", "is missing"),
]


@pytest.mark.parametrize(("name", "content", "place", "what"), FAULTS)
def test_fault_is_reported_and_refused(folder: Path, name: str, content: str, place: str, what: str) -> None:
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    faults = check_data_dir(folder)
    assert any(fault.startswith(f"{folder / place.split(':')[0]}{place[place.index(':') :]}") for fault in faults)
    assert any(what in fault for fault in faults)
    with pytest.raises(InputError) as refused:
        read_data_dir(folder)
    assert str(refused.value) == faults[0]
    assert "\n" not in faults[0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("a1 b 0.25", "is not 'utterance recording start end'"),
        ("a1 b 0.25 x", "is not 'utterance recording start end'"),
        ("a1 c 0.25 1.0", "recording c is not in wav.scp"),
        ("a1 b 1.0 1.0", "is not a span of time"),
        ("a1 b -0.5 1.0", "is not a span of time"),
        ("a1 b 0.5 nan", "is not a span of time"),
    ],
)
def test_faulty_segment_is_the_only_fault(segmented: Path, line: str, what: str) -> None:
    (segmented / "segments").write_text(f"{line}\na2 b 1.0 2\n")
    (fault,) = check_data_dir(segmented)
    assert fault.startswith(f"{segmented / 'segments'}:1: a1: ") and what in fault
    with pytest.raises(InputError, match=what):
        read_data_dir(segmented)


def test_time_past_the_end(segmented: Path) -> None:
    (segmented / "segments").write_text("a1 b 0.25 1.0\na2 b 1.0 2.5\n")
    (fault,) = check_data_dir(segmented)
    assert fault.startswith(f"{segmented / 'segments'}:2: a2: ends at 2.5 s, its recording at 2.000 s")


def test_damaged_and_empty_audio(folder: Path) -> None:
    (folder / "utt2dur").write_text("a 1\nb 2\n")
    (folder / "a.wav").write_text("not audio")
    soundfile.write(folder / "b.wav", np.array([np.nan], dtype=np.float32), SAMPLE_RATE, subtype="FLOAT")
    unreadable, not_finite = check_data_dir(folder)
    assert "a.wav: cannot be read as audio" in unreadable
    assert "b.wav: has samples that are not finite" in not_finite


def test_all_faults_are_reported(folder: Path) -> None:
    (folder / "wav.scp").write_text("b b.wav\na gone.wav\n")
    (folder / "text").write_text("a\nc three\n")
    places = [fault.removeprefix(f"{folder}/").split(": ")[:2] for fault in check_data_dir(folder)]
    assert places == [
        ["wav.scp:2", "a"],  # out of order
        ["wav.scp:2", "a"],  # no such audio file
        ["text:1", "a"],  # no words
        ["text:2", "c"],  # no audio
        ["text", "a"],  # no transcript
        ["text", "b"],  # no transcript
    ]


def test_no_data_directory(tmp_path: Path) -> None:
    (fault,) = check_data_dir(tmp_path / "gone")
    assert fault.startswith(f"{tmp_path / 'gone' / 'wav.scp'}: no such file")
    with pytest.raises(InputError):
        read_data_dir(tmp_path / "gone")


@pytest.mark.parametrize("fixture", ["folder", "segmented"])
def test_written_directory_reads_back(fixture: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    utterances = read_data_dir(request.getfixturevalue(fixture))
    write_data_dir(tmp_path / "copy", reversed(utterances))
    assert read_data_dir(tmp_path / "copy") == utterances
    assert check_data_dir(tmp_path / "copy") == []
    assert (tmp_path / "copy" / "segments").exists() == (fixture == "segmented")


def test_written_files_are_kaldis(folder: Path) -> None:
    write_data_dir(folder, read_data_dir(folder))
    content = {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".wav"}
    assert content == {
        "wav.scp": "a a.wav\nb b.wav\n",
        "text": "a one word\nb two\n",
        "utt2spk": "a ann\nb bob\n",
        "spk2utt": "ann a\nbob b\n",
        "utt2dur": "a 1.0000\nb 2.0000\n",
    }


def test_part_of_a_recording_needs_segments(folder: Path) -> None:
    write_data_dir(folder, [Utterance("x", folder / "b.wav", 0.0, 1.0, "one", "ann")])
    assert (folder / "segments").read_text() == "x x 0.0000 1.0000\n"
    assert (folder / "wav.scp").read_text() == "x b.wav\n"


@pytest.mark.parametrize("change", [{"id": "two words"}, {"id": ""}, {"text": "  "}, {"text": None}, {"id": "b"}])
def test_what_kaldi_cannot_hold_is_refused(folder: Path, change: dict[str, str]) -> None:
    first, second = read_data_dir(folder)
    changed = Utterance(**{**vars(first), **change})
    with pytest.raises(InputError):
        write_data_dir(folder / "new", [changed, second])
    assert not (folder / "new" / "wav.scp").exists()
    assert not list(folder.glob("new/.*"))


def test_text_is_one_line(folder: Path) -> None:
    write_data_dir(folder, [Utterance("a", folder / "a.wav", 0.0, 1.0, "one\nword ", "ann")])
    assert read_text(folder / "text") == {"a": "one word"}


def test_unwritable_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_table(tmp_path / "gone" / "text", [("a", "b")])


def test_cuts_hold_the_waveform_of_their_utterance(segmented: Path) -> None:
    ramp = np.arange(2 * SAMPLE_RATE, dtype=np.float32) / 32768
    write_waveform(segmented / "b.wav", ramp)
    first, second = to_cuts(read_data_dir(segmented))
    assert (first.id, first.supervisions[0].text, first.supervisions[0].speaker) == ("a1", "one word", "ann")
    np.testing.assert_array_equal(first.load_audio()[0], ramp[4_000:16_000])
    np.testing.assert_array_equal(second.load_audio()[0], ramp[16_000:])


def test_cuts_of_another_rate_are_of_16_khz(folder: Path) -> None:
    soundfile.write(folder / "a.wav", np.full(22_050, 0.25), 22_050)
    cut = to_cuts(read_data_dir(folder))[0]
    assert (cut.sampling_rate, cut.num_samples, cut.load_audio().shape) == (16_000, 16_000, (1, 16_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "utterances", "speakers", "minutes"),  # from the data's own README
    [
        ("librispeech_en", 230, 176, 41.9),
        ("aishell_zh", 250, 1, 19.9),
        ("fsdd_en_digits", 400, 4, 3.3),
        ("baudelaire_fr", 10, 1, 16.9),
        ("baudelaire_fr_long", 6, 1, 14.7),
        ("austen_en", 5, 1, 0.4),
    ],
)
def test_real_data_is_sound(shared_data: Path, name: str, utterances: int, speakers: int, minutes: float) -> None:
    read = read_data_dir(shared_data / "speech" / name)
    assert (len(read), len({utterance.speaker for utterance in read})) == (utterances, speakers)
    assert sum(utterance.duration_s for utterance in read) / 60 == pytest.approx(minutes, abs=0.06)
    assert check_data_dir(shared_data / "speech" / name) == []


def test_order_is_that_of_the_c_locale(tmp_path: Path) -> None:
    ids = ["a-1", "a1", "A", "é", "z", "\U0001f600", "\ufb01", "a_1"]
    write_table(tmp_path / "text", ((id_, "x") for id_ in ids))
    assert list(read_text(tmp_path / "text")) == sorted(ids, key=str.encode)
