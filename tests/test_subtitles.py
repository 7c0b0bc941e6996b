"""Words with times become cues and files of subtitles."""

import io
import random
from itertools import pairwise

import av
import pytest

from clsr.subtitles import LINE_COLUMNS, Cue, columns, format_words, make_cues
from clsr.vocabulary import Word, join_words


def say(text: str, word_s: float = 0.3, start_s: float = 0.0) -> list[Word]:
    """Words one after the other; a bar is a pause of half a second."""
    words: list[Word] = []
    for part in text.split():
        if part == "|":
            start_s += 0.5
        else:
            words.append(Word(part, start_s, start_s + word_s))
            start_s += word_s
    return words


def test_a_long_pause_ends_a_cue():
    words = [*say("so far so good"), *say("and on", start_s=2.2)]
    assert [cue.lines for cue in make_cues(words)] == [["so far so good"], ["and on"]]
    close = [*say("so far so good"), *say("and on", start_s=2.1)]  # a pause of 0.9 s
    assert [cue.lines for cue in make_cues(close)] == [["so far so good and on"]]


def test_full_cues_end_at_pauses_and_sentences():
    head, tail = "ten of these words make one full line here now", "and then there is more than the two lines hold ok"
    with_pause = make_cues(say(f"{head} | {tail}", 0.1))
    assert [" ".join(cue.lines) for cue in with_pause] == [head, tail]
    with_stop = make_cues(say(f"{head}. {tail}", 0.1))
    assert [" ".join(cue.lines) for cue in with_stop] == [f"{head}.", tail]


def test_cues_hold_all_words_in_short_lines():
    rng = random.Random(0)
    for _ in range(200):
        start_s, words = 0.0, []
        for _ in range(rng.randint(1, 120)):
            start_s += rng.choice([0.0, 0.0, 0.05, 0.3, 2.0])
            end_s = start_s + rng.uniform(0.0, 0.8)
            words.append(Word("".join(rng.choices("abcdefgh", k=rng.randint(1, 12))), start_s, end_s))
            start_s = end_s
        cues = make_cues(words)
        assert " ".join(line for cue in cues for line in cue.lines) == " ".join(word.text for word in words)
        assert all(1 <= len(cue.lines) <= 2 and max(map(columns, cue.lines)) <= LINE_COLUMNS for cue in cues)
        assert all(before.end_s <= after.start_s for before, after in pairwise(cues))
        assert all(cue.end_s - cue.start_s <= 7.0 + 1e-9 for cue in cues)


def test_wide_words_and_characters_keep_the_line():
    (first, second) = make_cues([Word("x" * 100, 0.0, 3.0), Word("end", 3.0, 3.1)])
    assert "".join(first.lines + second.lines).replace(" ", "") == "x" * 100 + "end"
    assert max(map(columns, first.lines + second.lines)) <= LINE_COLUMNS
    han = [Word("北", i * 0.1, i * 0.1 + 0.1) for i in range(30)]
    assert make_cues(han)[0].lines == ["北" * 15, "北" * 15]  # of two columns each


def test_short_cues_stay_for_a_second():
    cues = make_cues([Word("so", 0.0, 0.2), Word("far", 1.4, 1.5), Word("good", 2.6, 2.7)])
    assert cues == [Cue(0.0, 1.0, ["so"]), Cue(1.4, 2.4, ["far"]), Cue(2.6, 3.6, ["good"])]


@pytest.mark.parametrize(("kind", "demuxer"), [("srt", "srt"), ("vtt", "webvtt")])
def test_ffmpeg_reads_the_same_cues(kind: str, demuxer: str):
    words = say("if a < b & c > d | then so far so good | and on and on it goes to the end of this long line of words")
    cues = make_cues(words)
    with av.open(io.BytesIO(format_words(words, kind).encode()), format=demuxer) as file:
        packets = [packet for packet in file.demux() if packet.size]
        read = [
            (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base), bytes(p).decode()) for p in packets
        ]
    assert len(read) == len(cues) > 1
    for (start_s, end_s, text), cue in zip(read, cues, strict=True):
        assert (start_s, end_s) == pytest.approx((cue.start_s, cue.end_s), abs=1e-3)
        plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert plain.splitlines() == cue.lines


def test_tables_count_milliseconds():
    assert format_words(say("so far"), "tsv") == "start\tend\ttext\n0\t1000\tso far\n"


def test_plain_text_has_a_line_for_each_run():
    words = [*say("so far so good"), *say("and on", start_s=3.0)]
    assert format_words(words, "txt") == "so far so good\nand on\n"
    assert format_words([], "txt") == format_words([], "srt") == "" and join_words([]) == ""
