"""The paper's numbers: where its tables repeat one another they agree, and quotients are those of their numbers."""

import re
from itertools import chain

import pytest

from clsr.paper.published import DATASETS, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7

TABLES = {"2": TABLE_2, "4": TABLE_4, "6": TABLE_6, "7": TABLE_7}


def test_every_line_has_the_cells_of_its_table() -> None:
    for name, table in TABLES.items():
        assert table.keys() <= DATASETS.keys()
        for cells in chain.from_iterable(rows.values() for rows in table.values()):
            assert len(cells) == (5 if name == "6" else 7)
            assert all(re.fullmatch(r"-|0|\d{1,4}\.\d\d[X*]?", cell) for cell in cells), cells
    assert all(len(cells) == 7 for cells in TABLE_3.values())


def test_tables_repeat_each_other_where_the_paper_does() -> None:
    for dataset, rows in TABLE_7.items():
        for name in ("whisper-bge", "clsr"):
            assert rows[name] == TABLE_2[dataset][name]
            wer, q2c, _, _, c2q, _, _ = rows[name]
            assert TABLE_6[dataset][name][:3] == [wer, q2c, c2q]
    for dataset in ("librisqa", "slue_sqa5"):
        assert TABLE_4[dataset]["clsr"] == TABLE_2[dataset]["clsr"]
    assert TABLE_4["spoken_squad"]["clsr"] == TABLE_3["yes yes yes yes yes"]


def test_recall_grows_with_the_number_of_hits() -> None:
    rows = chain.from_iterable(table[d].values() for table in (TABLE_2, TABLE_4, TABLE_7) for d in table)
    for cells in chain(rows, TABLE_3.values()):
        if "19.94*" not in cells:
            q2c, c2q = [float(cell) for cell in cells[1:4]], [float(cell) for cell in cells[4:]]
            assert q2c == sorted(q2c) and c2q == sorted(c2q), cells


def test_speeds_are_quotients_of_times() -> None:
    for rows in TABLE_6.values():
        quotient = float(rows["whisper-bge"][3]) / float(rows["clsr"][3])
        assert float(rows["clsr"][4].rstrip("X")) == pytest.approx(quotient, abs=0.01)
    alone, helped = TABLE_5["slue_sqa5"].values()
    assert float(helped.speed_up.rstrip("X")) == pytest.approx(float(alone.seconds) / float(helped.seconds), abs=0.01)
