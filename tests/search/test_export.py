"""Hits as subtitles and clips."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.errors import InputError
from clsr.search.export import format_srt, save_clips, write_srt
from clsr.search.hit import Hit
from clsr.vocabulary import Word

Speak = Callable[[Path, str], Path]


def hit(rank: int, recording: str | Path, start_s: float, end_s: float, text: str = "the sea") -> Hit:
    matches = (Word("sea", start_s, end_s),)
    return Hit(rank, str(recording), start_s, end_s, 0.0, 9.0, 0.5, text, f"a boat {text}", matches)


def test_subtitles_of_one_recording_go_by_time() -> None:
    hits = [hit(1, "/a.wav", 3725.0624, 3729.9996), hit(2, "/a.wav", 2.5, 4.0, "tea sea sea")]
    assert format_srt(hits) == (
        "1\n00:00:02,500 --> 00:00:04,000\ntea <b>sea</b> <b>sea</b>\n\n"
        "2\n01:02:05,062 --> 01:02:10,000\nthe <b>sea</b>\n"
    )


def test_subtitles_of_several_recordings_name_them_best_first() -> None:
    hits = [hit(1, "/b.wav", 5, 6), hit(2, "/a.wav", 1, 2), hit(3, "/b.wav", 0, 1)]
    lines = format_srt(hits).splitlines()
    assert [line for line in lines if line.endswith(".wav")] == ["b.wav", "b.wav", "a.wav"]
    assert next(line for line in lines if "-->" in line).startswith("00:00:00,000")
    assert format_srt([]) == ""


def test_subtitles_name_no_absolute_path() -> None:
    hits = [hit(1, "/home/ann/x/talk.wav", 5, 6), hit(2, "/home/ann/y/z/talk.wav", 1, 2)]
    lines = format_srt(hits).splitlines()
    assert [line for line in lines if ".wav" in line] == ["x/talk.wav", "y/z/talk.wav"]


def test_subtitles_and_clips_have_no_control_characters(speak: Speak, tmp_path: Path) -> None:
    """A line break in a name would be a cue of its own, and an escape sequence would reach the terminal."""
    evil = speak(tmp_path / "a\n\n9\n00:00:00,000 --> 00:00:01,000\x1b[2J\u202e.wav", "cat dog")
    hits = [hit(1, evil, 0, 1, "the\x07sea"), hit(2, tmp_path / "b.wav", 0, 1)]
    text = format_srt(hits)
    assert sum("-->" in line and line[0].isdigit() for line in text.splitlines()) == 2
    assert not [c for c in text if c != "\n" and (not c.isprintable())]
    (file,) = save_clips(hits[:1], tmp_path / "clips")
    assert str(file.name).isprintable() and file.is_file()


def test_hits_are_one_line_without_escape_sequences() -> None:
    line = str(hit(1, "/a\n\x1b[2J\u202e\x9b.wav", 0, 1, "the\x07sea"))
    assert line == r"/a\n\x1b[2J\u202e\x9b.wav  00:00-00:01  0.500  the\x07sea"


def test_subtitles_go_into_a_new_file(tmp_path: Path) -> None:
    write_srt([hit(1, "/a.wav", 0, 1)], tmp_path / "a.srt")
    assert (tmp_path / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\nthe <b>sea</b>\n"
    with pytest.raises(InputError, match=r"a\.srt: exists already"):
        write_srt([], tmp_path / "a.srt")
    with pytest.raises(InputError, match="cannot be written"):
        write_srt([], tmp_path / "none" / "a.srt")


def test_clips_add_half_a_second_on_each_side(speak: Speak, tmp_path: Path) -> None:
    talk = speak(tmp_path / "my talk.wav", "cat dog tea sea sun boat")
    hits = [hit(1, talk, 2.0, 3.0), hit(2, talk, 0.2, 1.0), hit(12, talk, 5.5, 6.0)]
    files = save_clips(hits, tmp_path / "clips")
    names = ["01_my talk_2.0s.wav", "02_my talk_0.2s.wav", "12_my talk_5.5s.wav"]
    assert [file.name for file in files] == names
    whole = read_waveform(talk)
    for file, (start_s, end_s) in zip(files, [(1.5, 3.5), (0.0, 1.5), (5.0, 6.0)], strict=True):
        assert np.array_equal(read_waveform(file), whole[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)])


def test_existing_clips_block_the_whole_export(speak: Speak, tmp_path: Path) -> None:
    talk = speak(tmp_path / "a.wav", "cat dog tea")
    save_clips([hit(2, talk, 1.0, 2.0)], tmp_path / "clips")
    before = (tmp_path / "clips" / "02_a_1.0s.wav").read_bytes()
    with pytest.raises(InputError, match=r"02_a_1\.0s\.wav: exists already"):
        save_clips([hit(1, talk, 0.0, 1.0), hit(2, talk, 1.0, 2.0)], tmp_path / "clips")
    assert [file.name for file in (tmp_path / "clips").iterdir()] == ["02_a_1.0s.wav"]
    assert (tmp_path / "clips" / "02_a_1.0s.wav").read_bytes() == before


def test_clips_of_long_names_and_deleted_recordings(speak: Speak, tmp_path: Path) -> None:
    talk = speak(tmp_path / f"{'ü' * 120}.wav", "cat dog")
    (file,) = save_clips([hit(1, talk, 0.0, 1.0)], tmp_path / "clips")
    assert file.name == f"01_{'ü' * 100}_0.0s.wav" and file.is_file()  # 200 bytes of the name
    widest = speak(tmp_path / f"{'🎙' * 58}.wav", "cat dog")
    (file,) = save_clips([hit(1, widest, 0.0, 1.0)], tmp_path / "clips")
    assert file.name == f"01_{'🎙' * 50}_0.0s.wav" and file.is_file()
    talk.unlink()
    with pytest.raises(InputError, match="no such audio file"):
        save_clips([hit(1, talk, 0.0, 1.0)], tmp_path / "other")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        save_clips([], tmp_path / "file" / "clips")
