"""Results of many evaluations: reports found below folders and told apart by their tags, seeds side by side."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clsr.errors import InputError
from clsr.evaluation.longform_report import LongFormRow, read_longform
from clsr.evaluation.report import read_report
from clsr.evaluation.scores import CONTRASTS, Report, ReportRow
from clsr.metrics.recall import Interval, paired_difference
from clsr.paper.published import DATASETS, SPOKEN_QUESTIONS

ABLATION = ("pretrain_asr", "pretrain_text", "vq", "sampler", "post")
NOISES = ("snr_db", "question_snr_db")
CLEAN = math.inf

BySeed = dict[str, ReportRow]
"""One system's row of each seed, seeds in order."""


@dataclass
class Condition:
    """What was measured under the same tags but for the seed.

    Attributes:
        tags: without the seed; of a report without a dataset, its set in the place of one.
        rows: rows of each system, by seed.
        gains: what CLSR gains over each baseline in Q-C recall@1, by seed (`clsr.evaluation.scores.CONTRASTS`).
        commits: of the code that measured.
        hardware: that each system was measured on.
    """

    tags: dict[str, str]
    rows: dict[str, BySeed] = field(default_factory=dict)
    gains: dict[tuple[str, str], dict[str, Interval]] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    hardware: dict[str, set[str]] = field(default_factory=dict)
    sources: dict[tuple[str, str], Path] = field(default_factory=dict)  # of each row and seed

    @property
    def dataset(self) -> str:
        """Tag of the dataset."""
        return self.tags["dataset"]

    @property
    def spoken(self) -> bool:
        """Whether the questions are spoken."""
        return self.dataset in SPOKEN_QUESTIONS or "question_snr_db" in self.tags

    @property
    def label(self) -> str:
        """Dataset and split, then whatever else sets the condition apart but noise and ablation."""
        split = [f"({self.tags['split']})"] if "split" in self.tags else []
        split += ["spoken questions"] if self.spoken and self.dataset not in SPOKEN_QUESTIONS else []
        others = [f"{k}={v}" for k, v in self.tags.items() if k not in ("dataset", "split", *NOISES, *ABLATION)]
        return " ".join([DATASETS.get(self.dataset, self.dataset), *split, *others])

    @property
    def clean(self) -> bool:
        """Whether no noise was added, neither to passages nor to questions."""
        return all(signal_to_noise(self.tags, key) == CLEAN for key in NOISES)

    @property
    def ablated(self) -> bool:
        """Whether it is a line of the ablation."""
        return any(tag in self.tags for tag in ABLATION)

    @property
    def aside(self) -> bool:
        """Whether it is a checkpoint of mid-training (tag ``step``) or a training of a study (tag ``training``)."""
        return "step" in self.tags or "training" in self.tags

    @property
    def seeds(self) -> list[str]:
        """Seeds of any of its rows, in order."""
        return sorted({seed for of_row in self.rows.values() for seed in of_row}, key=_natural)


def signal_to_noise(tags: Mapping[str, str], key: str) -> float:
    """Return a signal-to-noise ratio in dB by its tag, infinite where it is ``clean`` or absent.

    Raises:
        InputError: it is no number.
    """
    value = tags.get(key, "clean")
    try:
        return CLEAN if value == "clean" else float(value)
    except ValueError:
        raise InputError(f"tag {key}={value}: neither a number of decibels nor 'clean'") from None


def find_files(experiments: Iterable[Path], name: str) -> list[Path]:
    """Return the files of this name, given or below the folders given, sorted; of exact copies the fullest folder's.

    A recipe leaves a copy of its main report in the folder of the experiment: that is one report, not two.
    """
    files = {}
    for experiment in experiments:
        found = [experiment] if experiment.name == name else experiment.rglob(name)
        files.update({file.resolve(): file for file in sorted(found) if file.is_file()})
    unique: dict[bytes, Path] = {}
    for file in sorted(files.values(), key=lambda file: (not file.with_name("rankings.jsonl").exists(), file)):
        unique.setdefault(file.read_bytes(), file)
    return sorted(unique.values())


def collect(experiments: Sequence[Path]) -> list[Condition]:
    """Read every report at or below the folders and put those together whose tags differ in the seed alone.

    Reports of equal tags, seed included, may hold different systems, measured one after the other.

    Raises:
        InputError: a folder does not exist, a report is damaged, or two reports of equal tags have the same system.
    """
    for experiment in experiments:
        if not experiment.exists():
            raise InputError(f"{experiment}: no such folder: name one with the reports of clsr evaluate below it")
    conditions: dict[tuple, Condition] = {}
    for file in find_files(experiments, "report.json"):
        report = read_report(file)
        tags = condition_tags(report, file)
        condition = conditions.setdefault(tuple(tags.items()), Condition(tags))
        _add(condition, report, file)
    for condition in conditions.values():
        _fill_gains(condition)
    return sorted(conditions.values(), key=lambda c: (*_rank(c.dataset), *_order(c.tags)))


def condition_tags(report: Report, file: Path) -> dict[str, str]:
    """Return the tags of a report without the seed, sorted.

    Its set stands for a dataset that was not tagged; ``snr_db: clean`` is as good as none; ratios are written alike.
    ``question_snr_db``, given at all, says that questions were spoken.

    Raises:
        InputError: a signal-to-noise ratio is no number.
    """
    tags = {"dataset": report.set, **report.tags}
    tags.pop("seed", None)
    for key in NOISES:
        if key in tags:
            try:
                ratio = signal_to_noise(tags, key)
            except InputError as error:
                raise InputError(f"{file}: {error}: measure again, or mend the tag") from error
            tags[key] = "clean" if ratio == CLEAN else f"{ratio:g}"
    if tags.get("snr_db") == "clean":
        del tags["snr_db"]
    return dict(sorted(tags.items()))


def _add(condition: Condition, report: Report, file: Path) -> None:
    seed = report.tags.get("seed", "")
    for row in report.rows:
        earlier = condition.sources.setdefault((row.name, seed), file)
        if earlier != file:
            raise InputError(
                f"{earlier} and {file}: both have row {row.name} under the same tags: "
                "measure with --tag, seed=1 for instance, to tell them apart, or leave one out"
            )
        condition.rows.setdefault(row.name, {})[seed] = row
        condition.rows[row.name] = _ordered(condition.rows[row.name])
        condition.hardware.setdefault(row.name, set()).add(report.hardware)
    condition.commits.add(report.commit)
    for pair, interval in _written_gains(file).items():
        condition.gains.setdefault(pair, {})[seed] = interval


def _written_gains(file: Path) -> dict[tuple[str, str], Interval]:
    """Differences in Q-C recall@1 as the report has them: they are there without its rankings too."""
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")).get("differences", [])
        return {
            (entry["a"], entry["b"]): Interval(entry["value"], entry["low"], entry["high"])
            for entry in entries
            if (entry["direction"], entry["metric"]) == ("q2c", "recall@1")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not a whole report ({error!r}): run clsr evaluate again") from error


def _fill_gains(condition: Condition) -> None:
    """Add the differences between rows of different reports, where both have their rankings."""
    for ours, baseline in CONTRASTS:
        both = condition.rows.get(ours, {}).keys() & condition.rows.get(baseline, {}).keys()
        for seed in sorted(both - condition.gains.get((ours, baseline), {}).keys()):
            a, b = condition.rows[ours][seed].q2c, condition.rows[baseline][seed].q2c
            if a and b and a.queries and a.query_ids == b.query_ids:
                interval = paired_difference(a.values("recall@1"), b.values("recall@1"))
                condition.gains.setdefault((ours, baseline), {})[seed] = interval
        if (ours, baseline) in condition.gains:
            condition.gains[ours, baseline] = _ordered(condition.gains[ours, baseline])


def _ordered(by_seed: dict[str, Any]) -> dict[str, Any]:
    return {seed: by_seed[seed] for seed in sorted(by_seed, key=_natural)}


def _natural(text: str) -> tuple[bool, float, str]:
    """Numbers by value, before words."""
    return (not text.isdigit(), float(text) if text.isdigit() else 0.0, text)


def _order(tags: Mapping[str, str]) -> tuple:
    """By split, then clean before noisy, loud noise last."""
    return (tags.get("split", ""), *(-signal_to_noise(tags, key) for key in NOISES), sorted(tags.items()))


def _rank(dataset: str) -> tuple[int, str]:
    """The paper's datasets in its order, then others by name."""
    names = list(DATASETS)
    return (names.index(dataset) if dataset in names else len(names), dataset)


class NoiseFamily(NamedTuple):
    """Conditions that differ in one signal-to-noise ratio alone, by that ratio in dB; infinite is clean."""

    label: str
    key: str  # the tag that differs
    by_ratio: dict[float, Condition]

    @property
    def noisy(self) -> str:
        """What the noise is in."""
        return "passages" if self.key == "snr_db" else "questions"


def noise_families(conditions: Sequence[Condition]) -> list[NoiseFamily]:
    """Put conditions together that differ in the noise of passages alone, or of questions alone; the noisy ones."""
    families = []
    for key, other in (("snr_db", "question_snr_db"), ("question_snr_db", "snr_db")):
        found: dict[tuple, dict[float, Condition]] = {}
        for c in sorted(conditions, key=lambda c: key in c.tags):  # a tagged clean one over one without the tag
            if not c.ablated and not c.aside and signal_to_noise(c.tags, other) == CLEAN:
                rest = tuple(item for item in c.tags.items() if item[0] != key)
                found.setdefault(rest, {})[signal_to_noise(c.tags, key)] = c
        families += [NoiseFamily(max(ratios.items())[1].label, key, dict(sorted(ratios.items())))
                     for ratios in found.values() if set(ratios) - {CLEAN}]  # fmt: skip
    return families


class LongFormCondition(NamedTuple):
    """What was measured on long recordings under the same tags but for the seed.

    Attributes:
        rows: by title, a row of each seed.
        hardware: that it was measured on.
    """

    rows: dict[str, list[LongFormRow]]
    hardware: set[str]


def collect_longform(experiments: Sequence[Path]) -> dict[tuple[tuple[str, str], ...], LongFormCondition]:
    """Read every longform.json at or below the folders, by tags but for the seed.

    Raises:
        InputError: a file is damaged, or two have the same tags.
    """
    found: dict[tuple[tuple[str, str], ...], LongFormCondition] = {}
    sources: dict[tuple, Path] = {}
    for file in find_files(experiments, "longform.json"):
        tags, rows, hardware = read_longform(file)
        earlier = sources.setdefault(tuple(sorted(tags.items())), file)
        if earlier != file:
            raise InputError(
                f"{earlier} and {file}: have the same tags: give each a --tag of its own, or leave one out"
            )
        of_tags = tuple(sorted((k, v) for k, v in tags.items() if k != "seed"))
        condition = found.setdefault(of_tags, LongFormCondition({}, set()))
        condition.hardware.add(hardware)
        for row in rows:
            condition.rows.setdefault(row.title, []).append(row)
    return found
