"""What references stand for, against files whose sizes are known."""

import dataclasses
import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clsr import __version__
from clsr.checkpoint_folder import RELEASE, read_meta
from clsr.cli.main import main
from clsr.config import DEFAULT_MODEL, OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.systems.info import FACTS, Measured, SystemInfo, count_parameters, describe
from clsr.systems.sources import parse_reference

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "joint"


def text(word: str) -> bytes:
    return struct.pack("<H", len(word) + 1) + word.encode() + b"\0"


def write_ctranslate2(path: Path, arrays: dict[str, Sequence[int]]) -> None:
    """Write a file in the layout of CTranslate2: arrays of two bytes a number, all zero."""
    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, shape in arrays.items():
        size = 2 * torch.Size(shape).numel()
        content += text(name) + struct.pack("<B", len(shape)) + struct.pack(f"<{len(shape)}I", *shape)
        content += struct.pack("<BI", 4, size) + bytes(size)
    path.write_bytes(content + struct.pack("<I", 0))


def test_parameters_are_counted_in_either_layout(tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "model.bin", {"encoder/conv1/weight": (4, 80, 3), "scale": ()})
    save_file({"a": torch.zeros(4, 80, 3), "b": torch.zeros(())}, tmp_path / "model.safetensors")
    assert count_parameters(tmp_path / "model.bin") == count_parameters(tmp_path / "model.safetensors") == 961
    assert count_parameters(tmp_path / "model.pt") is None


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
def test_damaged_weights_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(InputError, match=f"{name}: damaged"):
        count_parameters(tmp_path / name)


def test_checkpoint_is_described() -> None:
    found = describe(str(CHECKPOINT))
    tokens = (CHECKPOINT / "vocabulary.txt").read_text().splitlines()
    assert (found.kind, found.vocabulary, found.trained, found.default) == ("joint", len(tokens), True, False)
    assert found.text_encoder == str(CHECKPOINT / "text_encoder") and found.folder == str(CHECKPOINT)
    assert found.parameters and found.languages == [] and found.licence is None


def test_untrained_and_release_are_marked(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "imported")
    meta = dataclasses.replace(read_meta(folder), kind=RELEASE, untrained=True)
    (folder / "meta.json").write_text(json.dumps(dataclasses.asdict(meta)))
    found = describe(str(folder))
    assert found.text_encoder == OFFLINE_TEXT_ENCODER and not found.trained
    assert "has to come first" in str(found)


@pytest.mark.parametrize(("tokens", "languages"), [(51_864, ["English"]), (51_865, ["99 languages"]), (100, [])])
def test_vocabulary_tells_the_languages(tmp_path: Path, tokens: int, languages: list[str]) -> None:
    write_ctranslate2(tmp_path / "model.bin", {"a": (1,)})
    (tmp_path / "vocabulary.json").write_text(json.dumps(list(range(tokens))))
    assert describe(f"whisper:{tmp_path}").languages == languages


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has none of model.safetensors"):
        describe(f"whisper:{tmp_path}")


def test_default_is_english_and_free(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ctranslate2")
    found = describe()
    assert found.reference == DEFAULT_MODEL and found.default and found.trained
    assert (found.name, found.languages, found.licence) == ("Whisper tiny.en", ["English"], "MIT")
    assert found.parameters == pytest.approx(37.8e6, rel=0.01)
    assert main(["info"]) == 0
    assert capsys.readouterr().out == f"{found}\n"


def test_figures_are_those_of_the_kept_report() -> None:
    root = Path(__file__).parents[2]
    known = json.loads(FACTS.read_text())
    for facts in known.values():
        for figures in facts["measured"]:
            report = json.loads((root / figures["report"]).read_text())
            (row,) = report["rows"]
            assert figures["questions"] == report["questions"]
            assert figures["word_error_rate"] == round(100 * row["wer"]["value"], 1)
            assert figures["recall_at_1"] == round(100 * row["q2c"]["recall@1"]["value"], 1)
    headline = known[parse_reference(DEFAULT_MODEL).place]["measured"][0]["recall_at_1"]
    assert f"| {headline} [" in (root / "README.md").read_text()  # with one vector for each passage


def test_figures_are_printed_a_set_a_line() -> None:
    figures = Measured("people, clean", 9.25, 72.5, 201, "minilm", "recipes/people/results")
    info = SystemInfo("r", True, "whisper", "W", "/w", 1.0, 2, 3, "minilm", ["English"], "MIT", True, [figures])
    assert str(info).splitlines()[-1] == "people, clean  WER 9.2 %, R@1 72.5 % of 201 questions"


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"clsr {__version__}\n"
