"""Every command: what it prints and leaves, and one line on standard error for a fault in what was given."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.checkpoint_folder import read_meta
from clsr.cli.indexing import MakeIndex
from clsr.cli.main import main
from clsr.cli.measuring import CompareReports
from clsr.cli.training import TrainAsr, TrainJoint
from clsr.config import TrainingConfig
from clsr.data.kaldi import write_data_dir
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_settings, write_yaml
from clsr.training.asr import AsrModule

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def clsr(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; return its status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def fault(clsr: Command) -> Callable[..., str]:
    """Run a command that must fail with status 2 and one line on standard error, and return that line."""

    def run(*arguments: object) -> str:
        status, _, err = clsr(*arguments)
        assert status == 2
        assert err.startswith("clsr: ") and err.count("\n") == 1 and "Traceback" not in err
        with pytest.raises((InputError, OSError)):
            main([*map(str, arguments), "--debug"])
        return err.strip()

    return run


@pytest.fixture
def corpus(tone_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the language of tones, to be damaged."""
    return shutil.copytree(tone_corpus, tmp_path / "corpus")


@pytest.fixture
def model(tone_model: Path, tmp_path: Path) -> Path:
    """A copy of the trained recogniser, to be damaged."""
    return shutil.copytree(tone_model, tmp_path / "model", ignore=shutil.ignore_patterns("logs", "state"))


@pytest.fixture
def settings(tiny_settings: TrainingConfig, tmp_path: Path) -> Path:
    """Settings of a training of eight steps, measured every two."""
    path = tmp_path / "settings.yaml"
    options = ["--optimizer.max_steps=8", "--trainer.validate_every=2"]
    write_yaml(tmp_path / "tiny.yaml", tiny_settings)
    write_yaml(path, read_settings(TrainingConfig, [tmp_path / "tiny.yaml"], options))
    return path


# What commands do


def test_help_needs_no_heavy_libraries():
    heavy = "torch numpy lhotse yaml soundfile jsonargparse lancedb pyarrow gradio matplotlib".split()
    code = f"""if True:
        import sys
        from clsr.cli.main import main
        for command in ([], ["train-joint"], ["evaluate"], ["index"], ["search"], ["serve"], ["data", "synthesize"]):
            try:
                main([*command, "--help"])
            except SystemExit:
                pass
        sys.exit(" ".join(set({heavy}) & set(sys.modules)) or 0)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(f"\n    {command} " in run.stdout for command in ("train-asr", "evaluate", "index", "search"))


def test_settings_are_listed(clsr: Command, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["train-joint", "--settings"])
    assert stop.value.code == 0
    assert "--loss.nll_weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "FILE --data D --output O --optimizer.max_steps 7 --seed 3",
        "FILE --optimizer.max_steps=7 --data D --seed=3 --output O",
        "--optimizer.max_steps 7 --data D FILE --output O --seed 3",
        "--seed 3 --data D --output O --optimizer.max_steps 7 FILE",
    ],
)
def test_settings_may_stand_anywhere(clsr: Command, tmp_path: Path, monkeypatch, arguments: str):
    (tmp_path / "file.yaml").write_text("seed: 9\noptimizer: {warmup_steps: 2}\n")
    seen = []
    monkeypatch.setattr(TrainAsr, "stage", lambda self: lambda *given: seen.append(given))
    status, out, _ = clsr("train-asr", *arguments.replace("FILE", str(tmp_path / "file.yaml")).split())
    ((config, data, output, start),) = seen
    assert (status, out) == (0, "O: done\n")
    assert (config.optimizer.max_steps, config.optimizer.warmup_steps, config.seed) == (7, 2, 3)
    assert (data, output, start) == (Path("D"), Path("O"), None)


def test_options_alone_are_settings_enough(clsr: Command, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(TrainAsr, "stage", lambda self: lambda config, *_: seen.append(config))
    clsr("train-asr", "--data", "D", "--output", "O", "--optimizer.max_steps", "7")
    assert seen[0].optimizer.max_steps == 7


def test_a_start_gives_its_sizes(clsr: Command, tone_model: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(TrainJoint, "stage", lambda self: lambda config, *_: seen.append(config))
    clsr("train-joint", "--data", "D", "--output", "O", "--start", tone_model, "--model.cif.tail", "0.6")
    assert seen[0].model.encoder.width == 32 and seen[0].model.cif.tail == 0.6
    assert seen[0].optimizer == TrainingConfig().optimizer


def test_train_evaluate_report(clsr: Command, tone_corpus: Path, settings: Path, tone_model: Path, tmp_path: Path):
    status, out, _ = clsr("train-asr", settings, "--data", tone_corpus, "--output", tmp_path / "asr", "--seed", "4")
    assert status == 0 and out.endswith(f"{tmp_path / 'asr'}: done\n")
    assert read_settings(TrainingConfig, [tmp_path / "asr" / "config.yaml"]).seed == 4
    for name, checkpoint in (("good", tone_model), ("poor", tmp_path / "asr")):
        arguments = ("--model", checkpoint, "--set", tone_corpus / "dev", "--output", tmp_path / name)
        status, out, _ = clsr("evaluate", *arguments)
        assert status == 0 and "clsr-soft" in out
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert files == {"report.json", "report.md", "transcripts.jsonl", "rankings.jsonl"}
    wer = [row["wer"] for row in json.loads((tmp_path / "good" / "report.json").read_text())["rows"]]
    assert wer[0] is None
    english = wer[1].pop("english", wer[1])  # where whisper-normalizer is installed
    assert english == wer[1] == {"value": 0.0, "errors": 0, "words": 19}
    status, out, _ = clsr("report", tmp_path / "good", tmp_path / "poor")
    assert status == 0 and "Differences from run 1" in out


def without_confidence(line: str) -> str:
    """What a line of the status says before the confidence, which is a probability: clear tones are well recognised."""
    before, _, confidence = line.rstrip("\n").partition("  confidence ")
    assert 0.5 < float(confidence) <= 1.0
    return before


def test_index_tells_what_it_holds(clsr: Command, tone_model: Path, say_in_tones, tmp_path: Path):
    talk, gone, place = tmp_path / "talk.wav", tmp_path / "gone.flac", ("--index", tmp_path / "index")
    write_waveform(talk, say_in_tones("red dog blue cat"))
    soundfile.write(gone, say_in_tones("old boat"), 16_000)
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF")
    assert clsr("index", *place, "--status", talk)[0] == 2  # no index here yet
    status, out, _ = clsr("index", "--model", tone_model, *place, "--windows", "0.6,1.2", f"{tmp_path}/*.*")
    first, *others = out.splitlines()
    assert status == 2 and first.startswith(
        f"{damaged}  failed  0.0 s, 0.0 indexed, 0.0 silent  0 windows: {damaged}: "
    )
    assert [without_confidence(line) for line in others] == [
        f"{gone}  indexed  0.6 s, 0.6 indexed, 0.0 silent  1 windows",
        f"{talk}  indexed  1.2 s, 1.2 indexed, 0.0 silent  4 windows",  # from 0, 0.45 and 0.6, and the whole
    ]
    assert clsr("index", *place, "--status")[1] == out
    gone.unlink()
    status, told, _ = clsr("index", *place, "--verify")
    assert status == 0 and f"{gone}: its file is gone" in told and "sound, but" in told
    status, out, err = clsr("index", *place, "--prune")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "1 of 3 recordings with 0.00 hours of speech would be removed, and that is more than a tenth" in err
    assert len(clsr("index", *place, "--status")[1].splitlines()) == 3  # nothing is removed
    assert clsr("index", *place, "--prune", "--yes")[1] == f"{gone}: removed, its file is gone\n"
    statuses = [json.loads(line) for line in clsr("index", *place, "--status", "--json")[1].splitlines()]
    assert [row["path"] for row in statuses] == [str(damaged), str(talk)]
    assert set(statuses[0]) == {"path", "status", "duration_s", "indexed_s", "silent_s", "windows", "reason"}
    assert clsr("index", *place)[0] == 2


def test_transcribe_index_search(clsr: Command, tone_model: Path, say_in_tones, tmp_path: Path):
    write_waveform(tmp_path / "talk.wav", say_in_tones("red dog blue cat old boat green sun"))
    status, out, _ = clsr("transcribe", "--model", tone_model, tmp_path / "talk.wav")
    assert (status, out) == (0, f"{tmp_path / 'talk.wav'}\tred dog blue cat old boat green sun\n")
    _, out, _ = clsr("transcribe", "--json", "--model", tone_model, tmp_path / "talk.wav")
    transcript = json.loads(out)
    assert set(transcript) == {"audio", "text", "token_ids", "times", "duration_s"}
    assert len(transcript["token_ids"]) == len(transcript["times"]) == 8
    place = ("--index", tmp_path / "index")
    cut = ("--windows", "0.6/0.6")
    status, out, _ = clsr("index", "--model", tone_model, *place, *cut, tmp_path / "talk.wav")
    held = f"{tmp_path / 'talk.wav'}  indexed  2.4 s, 2.4 indexed, 0.0 silent  4 windows"
    assert (status, without_confidence(out)) == (0, held)
    _, out, _ = clsr("index", "--json", "--model", tone_model, *place, *cut, tmp_path / "talk.wav")
    assert json.loads(out)["status"] == "indexed"
    status, out, _ = clsr("search", *place, "--mode", "dense", "--top-k", 2, "old boat")
    first, second = out.splitlines()
    assert status == 0 and first.startswith(f"{tmp_path / 'talk.wav'}  00:01-00:02  0.99")
    assert "boat" in first and "*" in first and second
    _, out, _ = clsr("search", *place, "--json", "--top-k", 1, "old boat")
    hit = json.loads(out)
    assert (hit["rank"], hit["start_s"], hit["end_s"], hit["text"]) == (1, 1.2, 1.8, "old boat")


def test_validate_says_sound_or_names_each_fault(clsr: Command, corpus: Path):
    assert clsr("data", "validate", corpus / "dev") == (0, f"{corpus / 'dev'}: sound\n", "")
    (corpus / "dev" / "passages" / "p01.wav").write_bytes(b"")
    (corpus / "dev" / "qrels").write_text("q00 0 p00 1\nq01 0 p77 1\n")
    status, out, _ = clsr("data", "validate", corpus / "dev")
    assert status == 2
    assert "p01.wav: is empty" in out and "qrels:2: q01: passage p77" in out and "q05: no passage answers it" in out


def test_the_reader_may_leave_early(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def leave(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(CompareReports, "run", leave)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main(["report", "x"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("command", "resumes"), [("report", False), ("index", True)])
def test_an_interruption_promises_only_what_holds(
    clsr: Command, monkeypatch: pytest.MonkeyPatch, command: str, resumes: bool
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CompareReports, "run", interrupt)
    monkeypatch.setattr(MakeIndex, "run", interrupt)
    status, _, err = clsr(*{"report": ("report", "x"), "index": ("index", "--index", "i", "x")}[command])
    promise = "; the same command resumes where it stopped" if resumes else ""
    assert (status, err) == (130, f"clsr: interrupted{promise}\n")
    assert clsr("index", "--index", "i", "--status")[2] == "clsr: interrupted\n"


def test_two_interruptions_are_one_line():
    """People press Ctrl-C twice; what the first one ends takes a moment."""
    code = """if True:
        import sys, time
        from clsr.cli.indexing import MakeIndex
        from clsr.cli.main import main

        def run(self):
            print("ready", flush=True)
            time.sleep(60)

        MakeIndex.run = run
        sys.argv[1:] = ["index", "--index", "i", "talks"]
        sys.exit(main())
    """
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "clsr: interrupted; the same command resumes where it stopped\n")


def test_an_unexpected_error_is_one_line(clsr: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fail(*_: object) -> None:
        raise RuntimeError("a\nfault \ud800")

    monkeypatch.setattr(CompareReports, "run", fail)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    status, out, err = clsr("report", "x", "--debug-token")
    assert status == 2  # there is no such option
    status, out, err = clsr("report", "secret")
    (log,) = tmp_path.rglob("*.log")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("clsr: unexpected error (RuntimeError: a fault \\ud800)") and f"its log {log}\n" in err
    assert "in fail" in log.read_text() and "secret" not in log.read_text()
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    monkeypatch.setenv("TMPDIR", "/nowhere")
    assert clsr("report", "x")[0] == 1
    with pytest.raises(RuntimeError):
        main(["report", "x", "--debug"])


def test_a_missing_temporary_folder_is_not_used(
    clsr: Command, tone_model: Path, say_in_tones, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    write_waveform(tmp_path / "talk.wav", say_in_tones("old boat"))
    monkeypatch.setenv("TMPDIR", "/nowhere")
    status, _, err = clsr("index", "--model", tone_model, "--index", tmp_path / "index", tmp_path / "talk.wav")
    assert status == 0, err


# What is wrong with what was given


def test_commands_and_options_that_are_none(fault: Callable[..., str]):
    assert "invalid choice: 'fly'" in fault("fly")
    assert "did you mean search?" in fault("serch")
    assert "--topk; did you mean --top-k?: see clsr search --help" in fault("search", "--topk", 3, "who?")
    assert "did you mean --optimizer.max_steps?" in fault("train-asr", "--optimiser.max_steps=3")
    assert "required: COMMAND" in fault()
    assert "--frob: see clsr" in fault("report", "x", "--frob")
    assert "required: --data" in fault("train-asr", "--dat", "x", "--output", "y")  # no abbreviations
    assert "--optimizer.max_step" in fault("train-asr", "--data", "x", "--output", "y", "--optimizer.max_step=3")
    assert "optimizer.max_steps" in fault("train-asr", "--data", "x", "--output", "y", "--optimizer.max_steps", "many")


def test_an_unknown_key_names_file_and_key(fault: Callable[..., str], tone_corpus: Path, tmp_path: Path):
    (tmp_path / "my.yaml").write_text("optimizer:\n  learning_rat: 0.1\n")
    line = fault("train-asr", tmp_path / "my.yaml", "--data", tone_corpus, "--output", tmp_path / "out")
    assert f"{tmp_path / 'my.yaml'}: " in line and "optimizer.learning_rat" in line
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint(fault: Callable[..., str], model: Path, tone_corpus: Path, tmp_path: Path):
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    for command in (
        ("evaluate", "--model", model, "--set", tone_corpus / "dev", "--output", tmp_path / "out"),
        ("transcribe", "--model", model, tone_corpus / "dev" / "passages" / "p00.wav"),
        ("index", "--model", model, "--index", tmp_path / "out", tone_corpus / "dev" / "passages" / "p00.wav"),
        ("train-joint", "--start", model, "--data", tone_corpus, "--output", tmp_path / "out"),
    ):
        assert f"{model / 'model.safetensors'}: missing or truncated" in fault(*command)
        assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_checkpoint(fault: Callable[..., str], tone_corpus: Path, tmp_path: Path):
    line = fault("evaluate", "--model", tmp_path, "--set", tone_corpus / "dev", "--output", tmp_path / "out")
    assert f"{tmp_path}: no checkpoint" in line


def test_a_text_encoder_with_another_vocabulary(
    fault: Callable[..., str], model: Path, tone_corpus: Path, tiny_bert: Path, tmp_path: Path
):
    other = shutil.copytree(tiny_bert, tmp_path / "other")
    words = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(
        words.replace('"red"', '"RED"').replace('"boat"', '"red"').replace("RED", "boat")
    )
    line = fault(
        "train-asr", "--start", model, "--text_encoder", other, "--data", tone_corpus, "--output", tmp_path / "out"
    )
    assert "vocabulary.txt:" in line and "in the text encoder: name the text encoder" in line
    assert not (tmp_path / "out").exists()
    meta = json.loads((model / "meta.json").read_text())
    (model / "meta.json").write_text(json.dumps(meta | {"text_encoder": str(other)}))
    line = fault("transcribe", "--model", model, tone_corpus / "dev" / "passages" / "p00.wav")
    assert f"{model}: trained with text encoder {other}" in line and load_text_encoder(str(other)).fingerprint in line


def test_a_transcript_with_no_known_piece(fault: Callable[..., str], corpus: Path, settings: Path, tmp_path: Path):
    text = corpus / "train" / "passages" / "text"
    lines = text.read_text().splitlines()
    text.write_text("\n".join(["p00 ¿?…", *lines[1:]]) + "\n")
    line = fault("train-asr", settings, "--data", corpus, "--output", tmp_path / "out")
    assert "p00: transcript '¿?…' holds no known piece" in line


def test_a_question_without_a_passage(fault: Callable[..., str], corpus: Path, tone_model: Path, tmp_path: Path):
    qrels = corpus / "dev" / "qrels"
    qrels.write_text("".join(qrels.read_text().splitlines(keepends=True)[1:]))
    for command in (
        ("evaluate", "--model", tone_model, "--set", corpus / "dev", "--output", tmp_path / "out"),
        ("train-joint", "--data", corpus, "--output", tmp_path / "out"),
    ):
        assert f"{qrels}: q00: no passage answers it" in fault(*command)
        assert not (tmp_path / "out").exists()


def test_missing_and_empty_audio(
    fault: Callable[..., str], clsr: Command, corpus: Path, tone_model: Path, tmp_path: Path
):
    passages = corpus / "dev" / "passages"
    evaluate = ("evaluate", "--model", tone_model, "--set", corpus / "dev", "--output", tmp_path / "out")
    (passages / "p02.wav").write_bytes(b"")
    assert "p02.wav: is empty" in fault(*evaluate)
    (passages / "p02.wav").unlink()
    assert "p02: no such audio file" in fault(*evaluate)
    assert not (tmp_path / "out").exists()
    assert "gone.wav" in fault("transcribe", "--model", tone_model, tmp_path / "gone.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    status, out, err = clsr("transcribe", "--model", tone_model, tmp_path / "empty.wav", passages / "p00.wav")
    assert status == 2 and "empty.wav: is empty" in err and "p00.wav\t" in out  # the others are transcribed


def test_an_utterance_of_no_length(fault: Callable[..., str], corpus: Path, settings: Path, tmp_path: Path):
    passages = corpus / "train" / "passages"
    ids = [line.split()[0] for line in (passages / "wav.scp").read_text().splitlines()]
    (passages / "segments").write_text("".join(f"{i} {i} 0.1 {0.1 if i == 'p03' else 0.5}\n" for i in ids))
    line = fault("train-asr", settings, "--data", corpus, "--output", tmp_path / "out")
    assert "segments:4: p03: 0.1 to 0.1 s is not a span of time" in line


def test_other_rates_and_channels_are_said_once(
    clsr: Command, tone_model: Path, say_in_tones, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch
):
    monkeypatch.setattr("clsr.audio.waveform._logged", set())
    waveform = np.repeat(say_in_tones("red dog"), 3)  # 48 kHz, roughly
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([waveform, waveform], axis=1), 3 * SAMPLE_RATE)
    status, out, _ = clsr("transcribe", "--model", tone_model, tmp_path)
    assert status == 0 and out.count("red dog") == 2
    messages = [record.getMessage() for record in caplog.records if record.name == "clsr"]
    assert len([message for message in messages if "48000 Hz is resampled to 16000 Hz" in message]) == 1
    assert len([message for message in messages if "2 channels are averaged to one" in message]) == 1


def test_interrupted_stage_resumes_with_its_settings(
    clsr: Command, fault: Callable[..., str], tone_corpus: Path, settings: Path, tmp_path: Path, monkeypatch
):
    taken: list[int] = []
    step = AsrModule.training_step

    def interrupt_at_5(self: AsrModule, *arguments: object) -> object:
        taken.append(self.global_step)
        if taken == [0, 1, 2, 3, 4, 5]:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(AsrModule, "training_step", interrupt_at_5)
    train = ("train-asr", settings, "--data", tone_corpus, "--output", tmp_path / "out")
    handler = signal.getsignal(signal.SIGINT)
    try:
        status, _, err = clsr(*train)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert status == 130
    assert err.splitlines()[-1] == "clsr: interrupted; the same command resumes where it stopped"
    assert f"{tmp_path / 'out'}: holds a run with other settings: name another --output" in fault(*train, "--seed", "1")
    assert clsr(*train)[0] == 0
    assert taken[6:] == [4, 5, 6, 7]
    assert read_meta(tmp_path / "out").kind == "asr"


@pytest.mark.parametrize("full_at", ["state", "checkpoint"])
def test_full_disk_is_reported_and_a_rerun_resumes(
    clsr: Command, tone_corpus: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "out"))

    place = {"state": "lightning_fabric.plugins.io.torch_io._atomic_save", "checkpoint": "pathlib.Path.write_bytes"}
    train = ("train-asr", settings, "--data", tone_corpus, "--output", tmp_path / "out")
    with monkeypatch.context() as full:
        full.setattr(place[full_at], fail)
        status, _, err = clsr(*train)
    assert status == 2
    assert "No space left on device" in err.splitlines()[-1] and "Traceback" not in err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".partial")]
    assert not (tmp_path / "out" / "meta.json").exists()
    assert clsr(*train)[0] == 0
    assert read_meta(tmp_path / "out").kind == "asr"


def test_a_full_disk_leaves_no_report(
    fault: Callable[..., str], tone_model: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = Path.write_text

    def fail(self: Path, content: str, *arguments: object, **options: object) -> int:
        if self.name == "report.md":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, content, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", fail)
    evaluate = (
        "evaluate",
        "--model",
        tone_model,
        "--set",
        tone_corpus / "dev" / "passages",
        "--output",
        tmp_path / "out",
    )
    status = main([str(argument) for argument in evaluate])
    assert status == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_data_that_is_neither_set_nor_directory(fault: Callable[..., str], tone_model: Path, tmp_path: Path):
    assert f"{tmp_path}: no retrieval set" in fault("data", "validate", tmp_path)
    write_data_dir(tmp_path, [])
    assert "wav.scp" in fault("evaluate", "--model", tone_model, "--set", tmp_path, "--output", tmp_path / "out")


def test_commands_on_the_wrong_kind_of_checkpoint(
    fault: Callable[..., str], tone_corpus: Path, model: Path, tmp_path: Path
):
    (model / "vocabulary.txt").unlink()  # as in a checkpoint of ParaBGE or of a text encoder
    audio = tone_corpus / "dev" / "passages" / "p00.wav"
    assert "vocabulary.txt: missing" in fault("transcribe", "--model", model, audio)
    assert "vocabulary.txt: missing" in fault("index", "--model", model, "--index", tmp_path / "index", audio)


def test_import_and_transcribe(clsr: Command, tiny_release: Path, tone_corpus: Path, tmp_path: Path):
    status, out, _ = clsr("import-funasr", tiny_release, "--output", tmp_path / "own")
    assert status == 0
    left_out, done = out.splitlines()
    assert left_out.startswith("left out, since the recogniser needs none of it: decoder.embed (1 tensors), predictor.")
    assert done == f"{tmp_path / 'own'}: done"
    audio = tone_corpus / "dev" / "passages" / "p00.wav"
    status, out, _ = clsr("transcribe", "--model", tmp_path / "own", "--json", audio)
    assert status == 0
    transcript = json.loads(out)
    assert transcript["token_ids"] and all(2 < i < 18 for i in transcript["token_ids"])
    assert len(transcript["times"]) == len(transcript["token_ids"])


def test_import_with_a_new_head_and_train(
    clsr: Command, tiny_release: Path, tiny_bert: Path, tone_corpus: Path, tmp_path: Path
):
    new = ("--output", tmp_path / "new", "--vocabulary", tiny_bert, "--seed", 3)
    assert clsr("import-funasr", tiny_release, *new)[0] == 0
    few = ("--data", tone_corpus, "--optimizer.max_steps", 2, "--data.batch_s", 15)
    assert clsr("train-asr", *few, "--output", tmp_path / "asr", "--start", tmp_path / "new")[0] == 0
    assert clsr("train-joint", *few, "--output", tmp_path / "joint", "--start", tmp_path / "asr")[0] == 0
    config = read_settings(TrainingConfig, [tmp_path / "joint" / "config.yaml"])
    assert (config.text_encoder, config.model.cif.ending) == (str(tiny_bert), "scale")
    pieces = [(tmp_path / name / "vocabulary.txt").read_text() for name in ("new", "joint")]
    assert pieces[0] == pieces[1]


def test_release_with_its_own_tokens_cannot_retrieve(
    fault: Callable[..., str], release_model: Path, tone_corpus: Path, tmp_path: Path
):
    commands: list[tuple] = [
        ("bench", "--only", "stages", "--model", release_model),
        *(
            (stage, "--data", tone_corpus, "--start", release_model, "--output", tmp_path / "out")
            for stage in ("train-asr", "train-joint", "train-post")
        ),
    ]
    for command in commands:
        line = fault(*command)
        assert (
            "recognises its own tokens, not a text encoder's pieces: import the model again with --vocabulary" in line
        )
    assert not (tmp_path / "out").exists()


def test_silent_hub_is_given_up_at_once(fault: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clsr.hub.HUB", "http://127.0.0.1:9")  # where nothing listens
    start = time.perf_counter()
    line = fault("import-funasr", "--hub", "modelscope", "iic/none", "--output", tmp_path / "out")
    assert (
        "model 'iic/none' could not be fetched from ModelScope (no network: http://127.0.0.1:9 does not answer)" in line
    )
    assert "run 'modelscope download --model iic/none --local_dir DIR', bring DIR here" in line
    assert time.perf_counter() - start < 20  # most of it is the import of modelscope
    assert not (tmp_path / "out").exists()
