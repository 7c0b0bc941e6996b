"""Tables 2 to 7 of the paper with our results, the paper's own below them, and two more: gains, and noise.

A row stands in a table where it has a result; one line below the table names what was not run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from clsr.errors import InputError
from clsr.evaluation.longform_report import WHOLE, LongFormRow
from clsr.evaluation.typeset import Column, Table
from clsr.metrics.recall import Interval
from clsr.paper import published
from clsr.paper.cells import (
    ABSENT,
    NOT_RUN,
    NUMBERS,
    SYSTEMS,
    SystemLabel,
    interval_cell,
    labelled,
    mean,
    paper_name,
    printed,
    retrieval_cells,
    system_name,
    training_cells,
)
from clsr.paper.config import TABLE_NAMES
from clsr.paper.further import further_figures
from clsr.paper.published import DATASETS, Published
from clsr.paper.results import (
    ABLATION,
    CLEAN,
    BySeed,
    Condition,
    LongFormCondition,
    collect,
    collect_longform,
    noise_families,
    signal_to_noise,
)

_RECALLS = tuple(Column(f"R@{k}", f"{way} Retrieval (↑)") for way in ("Q-C", "C-Q") for k in (1, 5, 10))
_WER = Column("WER (↓)", "ASR")
_DATASET = Column("Dataset", numbers=False)
_MODEL = Column("Model", numbers=False)
_PARADIGM = Column("Paradigm", numbers=False)
_TRAINING = (Column("Start", "Training", numbers=False),
             *(Column(title, "Training") for title in ("Steps", "Seconds", "Examples")))  # fmt: skip
_OF_TRAINING = (
    "Training: what the first of all trainings of a system started from, and what all of them took, means over seeds. "
    "† The limit of steps ended the last one before its development metric had stopped improving."
)

_TIMED_SYSTEMS = ("whisper-bge", "whisper-bge-scratch", "cascade", "cascade-8best", "clsr", "clsr-soft")
_WHISPERS = tuple(name for name in SYSTEMS if name.startswith("whisper-"))

SUMMARY_NAMES = {
    "drcd_selection (odsqa) spoken questions": "ODSQA, spoken questions",
    "drcd_selection (test) spoken questions": "DRCD, spoken questions",
    "drcd_selection (test_typed)": "DRCD, typed questions",
    "mini (test)": "mini",
    "mini (test_unseen)": "mini, unseen voice",
    "squad_closed (test)": "squad_closed",
    "squad_closed (unseen)": "squad_closed, unseen voice",
}
"""Names of sets in the summary, by the label of their condition; other sets keep their labels."""


def make_tables(experiments: Sequence[Path], only: Sequence[str] = ()) -> list[Table]:
    """Make the tables of all results at or below some folders.

    Args:
        experiments: folders with report.json and longform.json files, however deep, or such files.
        only: names of the tables wanted (`TABLE_NAMES`); empty for all.

    Raises:
        InputError: there is no result at all, one is damaged, two have the same tags, or a table with times was asked
            for by name whose systems were timed on different hardware. Unasked it only says so.
    """
    conditions, longform = collect(experiments), collect_longform(experiments)
    if not conditions and not longform:
        raise InputError(f"{experiments[0]}: no report.json at or below it: name a folder that clsr evaluate wrote to")
    wanted = [name for name in TABLE_NAMES if not only or name in only]
    tables = []
    for name in wanted:
        table = table_5(longform) if name == "5" else _TABLES[name](conditions)
        if len(machines := _timed_on(name, conditions, longform)) > 1:
            refusal = f"timed on different hardware ({'; '.join(sorted(machines))}); give folders of one machine"
            if only:
                raise InputError(f"table {name}: its systems were {refusal}")
            tables.append(replace(table, blocks=[], notes=[f"Not shown: {refusal}."]))
        else:
            tables.append(table if table.blocks else replace(table, notes=[]))
    return tables


def _timed_on(name: str, conditions: Sequence[Condition], longform: Mapping[tuple, LongFormCondition]) -> set[str]:
    """Return the hardware that the seconds of a table come from; none of a table without seconds."""
    if name == "6":
        return set().union(*(c.hardware.get(name, set()) for c in _timed(conditions) for name in _TIMED_SYSTEMS))
    if name == "5":
        answered = (c for c in longform.values() if any(row.answerer for rows in c.rows.values() for row in rows))
        return set().union(*(condition.hardware for condition in answered))
    return set()


def table_2(conditions: Sequence[Condition]) -> Table:
    """Every system on every clean set."""
    aside = ("parabge", "clsr-unquantised")
    systems = [name for name in SYSTEMS if name not in aside and not name.endswith("-noisy")]
    types = (Column("Question", "Type", numbers=False), Column("Context", "Type", numbers=False))
    whole = _clean(conditions)
    columns = (_DATASET, _MODEL, _PARADIGM, *types, _WER, *_RECALLS)
    blocks = [_system_block(c, systems, published.TABLE_2, types=True) for c in whole if _measured(c, systems)]
    notes = [
        NUMBERS,
        "The text encoder is that of the run, where the paper has BGE. Its own row is the oracle: the reference "
        "transcripts in place of recognised ones.",
    ]
    if any("speechdpr" in published.TABLE_2.get(c.dataset, {}) for c in whole):
        notes.append("19.94* is a recall@20.")
    table = Table("2", "Main results", columns, blocks, [*notes, *_remarks(whole, systems, published.TABLE_2)])
    return _with_training(table, whole)


def table_4(conditions: Sequence[Condition]) -> Table:
    """CLSR beside the same encoders without a recogniser between them."""
    return _comparison("4", "A traditional end-to-end contrastive model and CLSR", ["parabge", "clsr", "clsr-soft"],
                       published.TABLE_4, _clean(conditions), paradigm=True)  # fmt: skip


def table_7(conditions: Sequence[Condition]) -> Table:
    """CLSR beside Whisper+BGE, fine-tuned on Whisper's transcripts too."""
    return _comparison("7", "CLSR and Whisper+BGE fine-tuned on noisy transcripts (*)",
                       [*_WHISPERS, "clsr", "clsr-soft"], published.TABLE_7,
                       _clean(conditions), paradigm=False)  # fmt: skip


def _comparison(
    name: str, title: str, systems: list[str], paper: Published, whole: list[Condition], paradigm: bool
) -> Table:
    kinds = (_PARADIGM,) if paradigm else ()
    columns = (_DATASET, _MODEL, *kinds, _WER, *_RECALLS)
    blocks = [_system_block(c, systems, paper, paradigm=paradigm) for c in whole if _measured(c, systems)]
    table = Table(name, title, columns, blocks, [NUMBERS, *_remarks(whole, systems, paper)])
    return _with_training(table, whole)


def _with_training(table: Table, conditions: Sequence[Condition]) -> Table:
    """Add what is known of the training of each row; nothing where that is known of none."""
    cells = {(condition.label, system_name(name)): training_cells(rows)
             for condition in conditions for name, rows in condition.rows.items()}  # fmt: skip
    if all(found[0] == ABSENT for found in cells.values()):
        return table
    blocks = [[[*row, *cells.get((block[0][0], row[1]), [ABSENT] * len(_TRAINING))] for row in block]
              for block in table.blocks]  # fmt: skip
    return replace(table, columns=(*table.columns, *_TRAINING), blocks=blocks, notes=[*table.notes, _OF_TRAINING])


def table_3(conditions: Sequence[Condition]) -> Table:
    """What each part of training brings: a line for each setting of the tags of the ablation."""
    ablated = [condition for condition in conditions if condition.ablated and condition.clean]
    settings: dict[tuple, dict[str, Condition]] = {}
    for condition in ablated:
        where = tuple(sorted((k, v) for k, v in condition.tags.items() if k not in ABLATION))
        settings.setdefault(where, {})[_setting(condition)] = condition
    blocks = [_ablation_block(of_set) for of_set in settings.values()]
    not_run = [part for of_set in settings.values() for part in _settings_not_run(of_set)]
    columns = tuple(Column(title, group, numbers=False) for title, group in (
        ("ASR", "Pre-train"), ("BGE", "Pre-train"), ("VQ", "Joint-train"), ("Sampler", "Joint-train"),
        ("BGE", "Post-train"), ("Model", ""), ("Dataset", "")))  # fmt: skip
    notes = [NUMBERS, *_sentence("Not run:", not_run), *_character_errors(ablated)]
    return Table("3", "Ablation", (*columns, _WER, *_RECALLS), blocks, notes)


def _setting(condition: Condition) -> str:
    """The five tags of the ablation, as `published.TABLE_3` has them."""
    values = [condition.tags.get(tag) for tag in ABLATION]
    if any(value not in ("yes", "no") for value in values):
        given = ", ".join(f"{tag}={condition.tags.get(tag, 'nothing')}" for tag in ABLATION)
        where = next(iter(condition.sources.values()))
        raise InputError(f"{where}: its tags have {given}: each must be yes or no, or none of them be given")
    return " ".join(value for value in values if value)


def _ablation_block(of_set: Mapping[str, Condition]) -> list[list[str]]:
    """The paper's eight settings on one set, then any others."""
    first = next(iter(of_set.values()))
    rows = []
    for setting in [*published.TABLE_3, *sorted(of_set.keys() - published.TABLE_3.keys())]:
        marks = _marks(setting)
        measured = of_set[setting].rows if setting in of_set else {}
        for name in ("clsr", "clsr-unquantised", "clsr-soft"):
            if name in measured:
                rows.append([*marks, system_name(name), first.label, *retrieval_cells(name, measured[name])])
        if first.dataset == "spoken_squad" and setting in published.TABLE_3:
            rows.append([*marks, "paper: CLSR", first.label, *map(printed, published.TABLE_3[setting])])
    return rows


def _marks(setting: str) -> list[str]:
    return ["✓" if value == "yes" else "✗" for value in setting.split()]


def _settings_not_run(of_set: Mapping[str, Condition]) -> list[str]:
    """The settings of the paper that were not run on a set."""
    missing = ["".join(_marks(setting)) for setting in published.TABLE_3 if setting not in of_set]
    return [f"{', '.join(missing)} on {next(iter(of_set.values())).label}"] if missing else []


def table_5(longform: Mapping[tuple, LongFormCondition]) -> Table:
    """Answers from whole recordings and from the windows that CLSR found in them."""
    shares = (
        "EM (↑)",
        "F1 (↑)",
        "Cost time (s)",
        "SpeedUP",
        "Returned (s)",
        "Span returned",
        "Time IoU",
    )
    kinds = (Column("w/ CLSR", numbers=False), Column("Context", numbers=False))
    columns = (_DATASET, *kinds, *map(Column, shares))
    blocks = []
    for tags, (rows, _) in longform.items():
        dataset, split = (dict(tags).get(key, "") for key in ("dataset", "split"))
        label = " ".join(filter(None, [DATASETS.get(dataset, dataset), split and f"({split})"]))
        block = [_longform_cells(name, of_seeds, rows) for name, of_seeds in rows.items()]
        for with_clsr, paper in published.TABLE_5.get(dataset, {}).items():
            name = "paper: top 1 window of 40 s" if with_clsr else "paper: whole recording"
            block.append(["✓" if with_clsr else "✗", name, *paper, *[ABSENT] * 3])
        blocks.append(labelled(label, block))
    notes = [
        NUMBERS,
        "Cost time: to search and to answer all questions. Not in the paper: how much speech is returned, whether it "
        "holds the answer, and how far its times overlap with the passage.",
    ]
    return Table("5", "Answers from long recordings", columns, blocks, notes)


def _longform_cells(name: str, rows: list[LongFormRow], all_rows: Mapping[str, list[LongFormRow]]) -> list[str]:
    """A row of Table 5: time counts where there was an answer, as in the paper."""
    seconds, whole_seconds = (
        mean(row.seconds for row in found if row.answerer) for found in (rows, all_rows.get(WHOLE, []))
    )
    exact, f1, time_iou = ([share for row in rows if (share := getattr(row, measure))] for measure in (
        "exact_match", "f1", "time_iou"))  # fmt: skip
    within = [row.span_in_top_k[max(row.span_in_top_k, key=int)] for row in rows if row.span_in_top_k]
    speed_up = f"{whole_seconds / seconds:.2f}X" if seconds and whole_seconds else ABSENT
    returned = mean(row.returned_s for row in rows)
    return [
        "✓" if name.startswith("clsr") else "✗", name, interval_cell(exact) or NOT_RUN, interval_cell(f1) or NOT_RUN,
        f"{seconds:.1f}" if seconds is not None else NOT_RUN, speed_up,
        f"{returned:.1f}" if returned is not None else ABSENT,
        interval_cell(within) or ABSENT, interval_cell(time_iou) or ABSENT,
    ]  # fmt: skip


def table_6(conditions: Sequence[Condition]) -> Table:
    """How long it takes to encode all passages."""
    columns = (_DATASET, _MODEL, _WER, _RECALLS[0], _RECALLS[3],
               Column("Cost Time (s)"), Column("SpeedUp"))  # fmt: skip
    timed = _timed(conditions)
    blocks = []
    for condition in timed:
        baseline = condition.rows.get("whisper-bge") or condition.rows.get("whisper-bge-scratch", {})
        baseline_s = mean(row.seconds for row in baseline.values())
        block = []
        for name in _TIMED_SYSTEMS:
            if name in condition.rows:
                block.append([system_name(name), *_time_cells(name, condition.rows[name], baseline_s)])
            if paper := published.TABLE_6.get(condition.dataset, {}).get(name):
                block.append([paper_name(name), *map(printed, paper)])
        blocks.append(labelled(condition.label, block))
    hardware = " ".join(_timed_on("6", conditions, {}))
    notes = (
        [f"{NUMBERS} Seconds: to recognise and encode all passages, mean over seeds; on {hardware}."] if timed else []
    )
    return Table("6", "Runtime of CLSR and Whisper+BGE", columns, blocks, notes + _remarks(timed, _TIMED_SYSTEMS, {}))


def _timed(conditions: Sequence[Condition]) -> list[Condition]:
    return [c for c in _clean(conditions) if _measured(c, _TIMED_SYSTEMS)]


def _time_cells(name: str, rows: BySeed, baseline_s: float | None) -> list[str]:
    wer, q2c, _, _, c2q, _, _ = retrieval_cells(name, rows)
    seconds = mean(row.seconds for row in rows.values())
    speed_up = f"{baseline_s / seconds:.2f}X" if seconds and baseline_s else ABSENT
    return [wer, q2c, c2q, f"{seconds:.1f}" if seconds is not None else ABSENT, speed_up]


def gains_table(conditions: Sequence[Condition]) -> Table:
    """What soft codes gain over each baseline, noisy sets included."""
    columns = (_DATASET, Column("Q-C R@1, difference", numbers=False), Column("Points"),
               Column("95 % paired-bootstrap interval of each seed", numbers=False), Column("Above 0"))  # fmt: skip
    blocks = []
    for condition in conditions:
        if condition.gains and not condition.ablated and not condition.aside:
            lines = [_gain_cells(*pair, list(gains.values())) for pair, gains in condition.gains.items()]
            label = " ".join([condition.label, *_noise_label(condition)])
            blocks.append(labelled(label, lines))
    notes = [
        "In points. Several seeds: mean [lowest, highest]. Above 0: number of seeds whose whole interval is above 0."
    ]
    return Table("gains", "What soft codes gain", columns, blocks, notes)


def _gain_cells(ours: str, baseline: str, gains: list[Interval]) -> list[str]:
    values = [100 * gain.value for gain in gains]
    points = f"{sum(values) / len(values):+.1f}"
    if len(gains) > 1:
        points += f" [{min(values):+.1f}, {max(values):+.1f}]"
    bounds = ", ".join(f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" for gain in gains)
    return [f"{ours} − {baseline}", points, bounds, f"{sum(gain.low > 0 for gain in gains)} of {len(gains)}"]


def summary_table(conditions: Sequence[Condition]) -> Table:
    """A line a set, noisy ones included: Q-C recall@1 of CLSR, of what it is compared with, and of the oracle."""
    systems = {"parabge": "no recogniser", "cascade": "transcript", "cascade-8best": "8 transcripts",
               "clsr-soft": "CLSR, soft codes", "text": "oracle"}  # fmt: skip
    columns = (_DATASET, _WER, *(Column(title, "R@1:") for title in systems.values()))
    shown = [c for c in conditions if not c.ablated and not c.aside and _measured(c, list(systems))]
    blocks = []
    for condition in shown:
        cells = {name: retrieval_cells(name, of) for name, of in condition.rows.items() if name in systems}
        wer = next((rates[0] for name, rates in cells.items() if name != "text" and rates[0] != ABSENT), ABSENT)
        recalls = [cells[name][1] if name in cells else ABSENT for name in systems]
        name = SUMMARY_NAMES.get(condition.label, condition.label)
        blocks.append([[", ".join([name, *_noise_label(condition)]), wer, *recalls]])
    seeds = {len(condition.seeds) for condition in shown}
    several = len(seeds) == 1 and max(seeds) > 1
    notes = [f"In percent; mean of {max(seeds)} seeds [lowest, highest]." if several else NUMBERS]
    notes += ["The WER of Chinese sets is a character error rate."] if _character_errors(shown) else []
    return Table("summary", "Summary", columns, blocks, notes)


def noise_table(conditions: Sequence[Condition]) -> Table:
    """Recall and word errors of each system against the signal-to-noise ratio, of passages or of spoken questions."""
    families = noise_families(conditions)
    ratios = sorted({ratio for family in families for ratio in family.by_ratio})
    columns = (_DATASET, Column("Noise in", numbers=False), _MODEL, Column("", numbers=False),
               *(Column("clean" if ratio == CLEAN else f"{ratio:g} dB") for ratio in ratios))  # fmt: skip
    blocks = []
    for family in families:
        names = [n for n in SYSTEMS if any(n in c.rows for c in family.by_ratio.values())]
        at_ratios = [family.by_ratio.get(ratio) for ratio in ratios]
        block = []
        for name in names:
            cells = [retrieval_cells(name, c.rows.get(name) if c else None)[:2] for c in at_ratios]
            block.append([system_name(name), "Q-C R@1", *[recall for _, recall in cells]])
            if family.key == "snr_db" and any(wer not in (NOT_RUN, ABSENT, "0") for wer, _ in cells):
                block.append([system_name(name), "WER", *[wer for wer, _ in cells]])
        blocks.append(labelled(family.label, [[family.noisy, *row] for row in block]))
    shown = [condition for family in families for condition in family.by_ratio.values()]
    notes = [NUMBERS, "Noise is white.", *_meaning_of_wer(shown, list(SYSTEMS))]
    return Table("noise", "Noise", columns, blocks, notes)


def _system_block(condition: Condition, systems: Sequence[str], paper: Published, types: bool = False,
                  paradigm: bool = True) -> list[list[str]]:  # fmt: skip
    """The rows of one condition: of each system ours, where run, then the paper's; then systems it lacks."""
    others = [name for name in condition.rows if name not in SYSTEMS] if types else []
    rows = []
    for name in [*systems, *others]:
        system = SYSTEMS.get(name, SystemLabel(name, ABSENT, ABSENT, ABSENT, ABSENT))
        question = system.spoken if condition.spoken else system.typed
        kinds = [system.paradigm] * paradigm + [question, system.context] * types
        if name in condition.rows:
            rows.append([system_name(name), *kinds, *retrieval_cells(name, condition.rows[name])])
        if cells := paper.get(condition.dataset, {}).get(name):
            kinds = [system.paradigm] * paradigm + [system.published or question, system.context] * types
            rows.append([paper_name(name), *kinds, *map(printed, cells)])
    return labelled(condition.label, rows)


def _clean(conditions: Sequence[Condition]) -> list[Condition]:
    """Those that the paper's tables are of: without noise, outside ablation and studies, of a training's end."""
    return [c for c in conditions if c.clean and not c.ablated and not c.aside]


def _measured(condition: Condition, systems: Sequence[str]) -> bool:
    return any(name in condition.rows for name in systems)


def _noise_label(condition: Condition) -> list[str]:
    sides = {"snr_db": "noise", "question_snr_db": "noise in questions"}
    ratios = {side: signal_to_noise(condition.tags, key) for key, side in sides.items()}
    return [f"{side} {ratio:g} dB" for side, ratio in ratios.items() if ratio != CLEAN]


def _remarks(conditions: Sequence[Condition], systems: Sequence[str], paper: Published) -> list[str]:
    """Which seeds were measured, what was not run, and where a rate counts characters."""
    shown = [condition for condition in conditions if _measured(condition, systems)]
    seeds = []
    for condition in shown:
        of_rows = {name: list(condition.rows[name]) for name in systems if name in condition.rows}
        parts = [", ".join(filter(None, condition.seeds))]
        parts += [f"{n}: {', '.join(filter(None, of))}" for n, of in of_rows.items() if of != condition.seeds]
        if parts[0]:
            seeds.append(f"{condition.label}: {'; '.join(parts)}")
    notes = [*_sentence("Seeds of", seeds), *_sentence("Not run:", _not_run(shown, systems, paper))]
    notes += [*_meaning_of_wer(shown, systems), *_character_errors(shown)]
    return [*notes, *further_figures(shown, systems)]


def _not_run(shown: Sequence[Condition], systems: Sequence[str], paper: Published) -> list[str]:
    """Systems that were not run, those of the same sets together, and the datasets that only the paper has."""
    by_place: dict[str, list[str]] = {}
    for name in (name for name in systems if "scratch" not in name):  # which stands in for a released one
        run, missing = ([c.label for c in shown if (name in c.rows) is there] for there in (True, False))
        if missing:
            place = "any set of this table" if not run else ", ".join(missing)
            if run and len(run) < len(missing):
                place = f"any set of this table but {', '.join(run)}"
            by_place.setdefault(place, []).append(system_name(name))
    parts = [f"{', '.join(names)} on {place}" for place, names in by_place.items()]
    datasets = [DATASETS[name] for name in paper if name not in {condition.dataset for condition in shown}]
    return [*parts, *([f"the paper's {', '.join(datasets)}"] if datasets else [])]


def _sentence(start: str, parts: Sequence[str]) -> list[str]:
    return [f"{start} {'; '.join(parts)}."] if parts else []


def _character_errors(conditions: Sequence[Condition]) -> list[str]:
    rows = [(condition, row) for condition in conditions for of in condition.rows.values() for row in of.values()]
    chinese = {DATASETS.get(condition.dataset, condition.dataset)
               for condition, row in rows if row.wer and row.wer.unit == "character"}  # fmt: skip
    return [f"The WER of {' and '.join(sorted(chinese))} is a character error rate."] if chinese else []


def _meaning_of_wer(conditions: Sequence[Condition], systems: Sequence[str]) -> list[str]:
    """What the error rate of a row counts, where that is not plain."""
    notes = []
    if "cascade-8best" in systems and any("cascade-8best" in condition.rows for condition in conditions):
        notes.append("The WER of cascade-8best is that of the 1-best transcript.")
    if any(condition.spoken for condition in conditions):
        notes.append("WER is that of the passages; reports have none of spoken questions.")
    return notes


_TABLES: dict[str, Callable[[Sequence[Condition]], Table]] = {
    "2": table_2, "gains": gains_table, "3": table_3, "4": table_4, "6": table_6, "7": table_7, "noise": noise_table,
    "summary": summary_table,
}  # fmt: skip
