import csv
from pathlib import Path

import pytest

from clsr.errors import InputError
from clsr.evaluation.typeset import (
    BEGIN,
    END,
    Column,
    Table,
    insert_page,
    page,
    to_csv,
    to_latex,
    to_markdown,
    write_tables,
)

RECALL = "Q-C Retrieval (↑)"
TABLE = Table(
    "3",
    "Ablation of A & B",
    (Column("Set", numbers=False), Column("WER (↓)", "ASR"), Column("R@1", RECALL), Column("R@5", RECALL)),
    [[["test_a*", "5.0", "50.0 [1.0, 9.0]", "✓"], ["", "–", "100 %", "−1"]], [["[b]", "1", "2", "3"]]],
    ["50 % of x_y."],
)  # fmt: skip
EMPTY = Table("noise", "Noise", (Column("Set"),), [], [])


def test_markdown_escapes_what_would_be_emphasis() -> None:
    assert to_markdown(TABLE) == (
        "### Table 3. Ablation of A & B\n"
        "\n"
        "| Set | WER | Q-C R@1 | Q-C R@5 |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| test\\_a\\* | 5.0 | 50.0 [1.0, 9.0] | ✓ |\n"
        "|  | – | 100 % | −1 |\n"
        "| [b] | 1 | 2 | 3 |\n"
        "\n"
        "50 % of x\\_y.\n"
    )


def test_latex_has_groups_rules_and_escapes() -> None:
    assert to_latex(TABLE).splitlines() == [
        r"% needs \usepackage{booktabs,amssymb}",
        r"\begin{table*}",
        r"\centering",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" & \multicolumn{1}{c}{ASR} & \multicolumn{2}{c}{Q-C Retrieval ($\uparrow$)} \\",
        r"\cmidrule(lr){2-2}\cmidrule(lr){3-4}",
        r"Set & WER ($\downarrow$) & R@1 & R@5 \\",
        r"\midrule",
        r"test\_a* & 5.0 & 50.0 [1.0, 9.0] & $\checkmark$ \\",
        r" & -- & 100 \% & $-$1 \\",
        r"\midrule",
        r"{}[b] & 1 & 2 & 3 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{Ablation of A \& B. 50 \% of x\_y.}",
        r"\label{tab:table-3}",
        r"\end{table*}",
    ]


def test_latex_lines_have_all_columns() -> None:
    body = to_latex(TABLE).split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert [line.replace(r"\&", "").count("&") for line in rows] == [3] * 4


def test_csv_repeats_the_label_in_each_row() -> None:
    assert list(csv.reader(to_csv(TABLE).splitlines())) == [
        ["Set", "WER", "Q-C R@1", "Q-C R@5"],
        ["test_a*", "5.0", "50.0 [1.0, 9.0]", "✓"],
        ["test_a*", "–", "100 %", "−1"],
        ["[b]", "1", "2", "3"],
    ]


def test_a_table_without_rows_says_so() -> None:
    assert to_markdown(EMPTY) == "### Noise\n\nNot run.\n"
    assert "Not run." in to_latex(EMPTY) and "tabular" not in to_latex(EMPTY)
    assert to_csv(EMPTY) == "Set\n"


def test_files_are_named_by_the_table(tmp_path: Path) -> None:
    write_tables([TABLE, EMPTY], tmp_path / "new")
    names = [f"{name}.{suffix}" for name in ("noise", "table-3") for suffix in ("csv", "md", "tex")]
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == names
    assert (tmp_path / "new" / "table-3.md").read_text() == to_markdown(TABLE)


def test_a_page_replaces_text_between_markers_alone(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    file.chmod(0o640)
    for _ in range(2):  # doing it again changes nothing
        insert_page(file, page([EMPTY, EMPTY]))
        assert file.read_text() == (
            f"before\n{BEGIN}\n\n### Noise\n\nNot run.\n\n### Noise\n\nNot run.\n\n{END}\nafter\n"
        )
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(InputError, match="README.md: needs the lines"):
        insert_page(file, "new")
    assert file.read_text() == text
    with pytest.raises(InputError, match="absent.md: cannot be read"):
        insert_page(tmp_path / "absent.md", "new")
