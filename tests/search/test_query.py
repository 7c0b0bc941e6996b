"""Questions typed, spoken and listed in files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loudness import rattle

from clsr.audio.clip import Clip
from clsr.audio.waveform import SAMPLE_RATE
from clsr.checkpoint import load_speech_encoder
from clsr.errors import InputError
from clsr.evaluation.measure import load_system
from clsr.model import Model
from clsr.search.query import EncodedQuery, ListedQuery, encode_queries, read_queries

Speak = Callable[[Path, str], Path]


def encode(speech_encoder: Any, *queries: Any) -> list[EncodedQuery]:
    return encode_queries(queries, Model(Path("model"), recogniser=speech_encoder))


def test_typed_and_spoken_questions_keep_their_places(speech_encoder: Any, speak: Speak, tmp_path: Path) -> None:
    spoken = speak(tmp_path / "q.wav", "the cat")
    waveform = np.full(SAMPLE_RATE, 3 / 16, np.float32) + rattle()  # "dog"
    known = EncodedQuery("known", np.ones(8) / 8**0.5)
    queries = encode(speech_encoder, "sea", spoken, known, waveform, "tea tea")
    assert [one.text for one in queries] == ["sea", "the cat", "known", "dog", "tea tea"]
    axes = [[0, 0, 0, 0, 0, 1, 0, 0], [0, 0.5**0.5, 0.5**0.5, 0, 0, 0, 0, 0]]
    assert [one.vector.tolist() for one in queries[:2]] == [pytest.approx(axis) for axis in axes]
    assert queries[2] is known
    assert speech_encoder.batches == [2]  # both spoken ones at once


def test_a_question_that_is_cut_is_said(speech_encoder: Any, caplog: pytest.LogCaptureFixture) -> None:
    encode(speech_encoder, "sea " * 100)
    assert not caplog.records
    encode(speech_encoder, "sea " * 130)
    assert "its last 30 of 130 tokens have no part in its vector; shorten it (sea sea" in caplog.text


def test_bytes_that_are_no_text_become_question_marks(speech_encoder: Any) -> None:
    assert encode(speech_encoder, "sea \udcff")[0].text == "sea ?"


def test_typed_queries_load_no_speech_encoder(speech_encoder: Any, tmp_path: Path) -> None:
    text_encoder_alone = Model(tmp_path, text_encoder=speech_encoder.text_encoder)  # nothing can be loaded from there
    assert encode_queries(["sea"], text_encoder_alone)[0].text == "sea"


def test_questions_that_cannot_be_understood_are_refused(speech_encoder: Any, speak: Speak, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="question is empty"):
        encode(speech_encoder, "sea", " \n")
    with pytest.raises(InputError, match=r"q\.wav: no words were recognised"):
        encode(speech_encoder, speak(tmp_path / "q.wav", "- -"))
    with pytest.raises(InputError, match=r"long\.wav: lasts longer than 60 s"):
        encode(speech_encoder, speak(tmp_path / "long.wav", "sea " * 61))
    assert encode(speech_encoder, speak(tmp_path / "minute.wav", "sea " * 60))
    with pytest.raises(InputError, match=r"no\.wav: no such audio file"):
        encode(speech_encoder, tmp_path / "no.wav")
    for waveform in (np.zeros((2, 100)), np.zeros(0), np.array([0.0, np.nan])):
        with pytest.raises(InputError, match="the spoken question: has shape"):
            encode(speech_encoder, waveform.astype(np.float32))


def test_spoken_questions_have_the_vectors_of_evaluation(
    tone_model: Path, say_in_tones: Callable[[str], np.ndarray]
) -> None:
    waveforms = [say_in_tones("old boat red"), say_in_tones("sun")]
    encoder, system = load_speech_encoder(tone_model), load_system(str(tone_model), None)
    queries = encode_queries(waveforms, Model(tone_model, recogniser=encoder))
    expected = system.encode(system.recognise(waveforms), "clsr-soft", "question").numpy()
    assert np.allclose([one.vector for one in queries], expected, atol=1e-6)
    assert [one.text for one in queries] == ["old boat red", "sun"]


def test_parts_are_one_query(speech_encoder: Any, speak: Speak, tmp_path: Path) -> None:
    spoken = speak(tmp_path / "q.wav", "the cat")
    parts = ["sea", Clip(spoken, 1.0), " tea "]
    mixed, typed = encode(speech_encoder, parts, "sea cat tea")
    assert (mixed.text, mixed.vector.tolist()) == ("sea cat tea", pytest.approx(typed.vector.tolist()))
    assert encode(speech_encoder, (np.full(SAMPLE_RATE, 3 / 16, np.float32) + rattle(), "sun"))[0].text == "dog sun"
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert encode(speech_encoder, ["sea", silence, "", spoken])[0].text == "sea the cat"


def test_parts_at_fault_are_named(speech_encoder: Any, speak: Speak, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    hour = np.broadcast_to(np.float32(0.1), 3600 * SAMPLE_RATE)
    for query, message in (
        ([], "query 2: has no parts"),
        (["", " "], "query 2: no part has words or speech"),
        ([np.zeros(SAMPLE_RATE, np.float32)], "query 2: no part has words or speech"),
        ([speak(tmp_path / "q.wav", "- -")], "query 2: no words were recognised"),
        (["sea", tmp_path / "no.wav"], f"query 2, part 2: {tmp_path}/no.wav: "),
        (["sea", 5], "query 2, part 2: is of type int"),
        (["sea", hour], "query 2, part 2: the samples: lasts longer than 60 s; ask in fewer words"),
    ):
        with pytest.raises(InputError, match=message) as fault:
            encode(speech_encoder, "sea", query)
        assert "\n" not in str(fault.value)
    with pytest.raises(InputError, match="q7, part 1: .*none"):
        encode_queries([[tmp_path / "none.wav"]], Model(Path("model"), recogniser=speech_encoder), ["q7"])


def test_parts_have_the_vectors_of_the_model(tone_model: Path, say_in_tones: Callable[[str], np.ndarray]) -> None:
    model = Model(tone_model, recogniser=load_speech_encoder(tone_model))
    parts = ["where is the", say_in_tones("old boat"), "sun"]
    (query,) = encode_queries([parts], model)
    assert query.text == "where is the old boat sun"
    assert np.allclose(query.vector, model.encode([parts], "question")[0], atol=1e-6)


def test_questions_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("\ufeffwho sold a horse?\n\n  where is it? \n", encoding="utf-8")
    assert read_queries(file) == [ListedQuery("1", "who sold a horse?"), ListedQuery("3", "where is it?")]


def test_questions_of_a_jsonl_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"id": "q1", "question": "who?"}, {"id": 2, "audio": "spoken/q.wav", "question": None}]
    rows.append({"id": "q3", "data": ["what does", "a.wav:1-2.5", "say?", "b.flac"]})
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert read_queries(file) == [
        ListedQuery("q1", "who?"),
        ListedQuery("2", tmp_path / "spoken" / "q.wav"),
        ListedQuery("q3", ["what does", Clip(tmp_path / "a.wav", 1.0, 2.5), "say?", tmp_path / "b.flac"]),
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("[]", "q2: data is no list of parts, or has none"),
        ('"who?"', "q2: data is no list of parts"),
        ('["who?", 7]', "q2: part 2: is neither text nor the path of audio"),
        ('["who?", ["a"]]', "q2: part 2: is neither text nor the path of audio"),
        ('["a.wav:3-2"]', "q2: part 1: .*a.wav:3-2: the span is empty"),
    ],
)
def test_listed_parts_at_fault_are_named(tmp_path: Path, data: str, fault: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "q1", "question": "who?"}\n{"id": "q2", "data": ' + data + "}\n")
    with pytest.raises(InputError, match=rf"questions\.jsonl:2: .*{fault}") as error:
        read_queries(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '"x"', "7", '{"question": "who?"}', '{"id": "a"}', '{"id": "a", "question": " "}',
     '{"id": "a", "question": "b", "question": "c"}',
     '{"id": "a", "question": 7}', '{"id": null, "question": "who?"}', '{"id": "a", "question": "b", "audio": "c"}'],
)  # fmt: skip
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "q1", "question": "who?"}\n' + line)
    with pytest.raises(InputError, match=r"questions\.jsonl:2: is no question"):
        read_queries(file)


def test_files_of_no_questions(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "q1", "question": "who?"}\n{"id": "q1", "question": "where?"}\n')
    with pytest.raises(InputError, match=r"questions\.jsonl:2: q1: is there twice"):
        read_queries(file)
    file.write_text("\n\n")
    with pytest.raises(InputError, match="holds no question"):
        read_queries(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_queries(file)
    with pytest.raises(InputError, match="cannot be read as text"):
        read_queries(tmp_path / "none.txt")
