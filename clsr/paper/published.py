"""What the paper reports: Tables 2 to 7 of CLSR (Hu et al., AAAI 2026), digit for digit.

Numbers are kept as printed, a row a line: word error rate, then recall@1, 5 and 10 of questions that look for passages
(Q-C) and of passages that look for questions (C-Q), in percent; ``-`` where the paper prints none.

The text of the paper that can be had has lost some of the layout of its tables. What was made of it, and why:

- Table 2 has twelve columns, and so has every line of its body: dataset, model, paradigm, type of question and of
  context, word error rate, six recalls. The second line of its header is moved one cell to the right, so that WER
  stands under Q-C and the last R@10 is lost. The body is right: the 0 of BGE, which reads true transcripts, is its word
  error rate, and CLSR's 4.09 on LibriSQA is called WER in Table 4.
- In Table 2 the name DRCD* stands one line too high, on CLSR's line of SLUE-SQA-5: 16.69 with recalls of 30.65, 62.19
  and 74.43 are CLSR's figures on SLUE-SQA-5 in Tables 4, 6 and 7. So that line belongs to SLUE-SQA-5, and the BGE of
  90.67 below it begins DRCD*, which has no Whisper+BGE since the authors did not train Whisper on it.
- SpeechDPR's 19.94* stands under Q-C R@10 but is a recall@20, as the caption says. It stays there with its star.
- Tables 6 and 7 say Spoken-SQuAD, but their lines of Whisper+BGE and CLSR (15.14, 70.03) are those of Spoken-SQuAD*,
  the filtered set, in Table 2; Tables 3 and 4 are of the whole set (15.01, 49.82). Here they are under the set they
  are of.
- In Table 7 both lines of Whisper on SLUE-SQA-5 have a star. The first repeats Table 2's Whisper+BGE (29.98, 60.41,
  72.71), and the text says that fine-tuning on noisy transcripts lowered recall there: the first is without the star.
- Table 6 rounds some of its quotients up (1470 / 186 is 7.90, printed 7.91X); they are kept as printed.
"""

from typing import NamedTuple

DATASETS = {
    "spoken_squad": "Spoken-SQuAD",
    "spoken_squad_filtered": "Spoken-SQuAD*",
    "librisqa": "LibriSQA",
    "slue_sqa5": "SLUE-SQA-5",
    "drcd": "DRCD*",
}
"""The paper's name of each dataset, by its tag."""

SPOKEN_QUESTIONS = {"slue_sqa5", "drcd", "drcd_dev"}
"""Datasets whose questions are speech: drcd is what people read aloud (ODSQA), drcd_dev the same by other voices."""

Published = dict[str, dict[str, list[str]]]
"""Cells of each system's row, by dataset."""


def _rows(**datasets: str) -> Published:
    """One line a system: its row name, then its cells."""
    lines = {dataset: [line.split() for line in text.strip().splitlines()] for dataset, text in datasets.items()}
    return {dataset: {name: cells for name, *cells in rows} for dataset, rows in lines.items()}


TABLE_2 = _rows(
    spoken_squad_filtered="""
        text        0     67.12 85.20 89.44 65.63 84.14 89.06
        clap        -      2.93  9.92 14.84  3.20 10.15 15.23
        whisper-bge 19.39 69.93 86.61 90.53 67.97 85.76 89.65
        clsr        15.14 70.03 86.90 90.68 67.84 85.69 90.17
    """,
    librisqa="""
        text        0     86.91 94.31 95.92 86.87 94.73 96.60
        clap        -      0.04  0.19  0.38  0.08  0.19  0.50
        whisper-bge 4.32  83.70 93.28 94.92 85.15 93.40 95.27
        clsr        4.09  85.04 93.36 95.04 85.53 94.01 95.57
    """,
    slue_sqa5="""
        text        0     38.71 72.26 84.34 35.68 70.11 82.28
        clap        -     11.17 28.67 38.16 11.21 28.59 38.12
        speechdpr   -     -     -     19.94* -     -     -
        whisper-bge 36.41 29.98 60.41 72.71 29.85 60.75 73.47
        clsr        16.69 30.65 62.19 74.43 29.89 62.18 73.05
    """,
    drcd="""
        text        0     90.67 97.12 98.74 89.26 97.75 98.39
        clap        -      0.35  1.33  2.95  0.35  1.12  1.61
        clsr        5.56  76.21 87.79 90.03 75.23 88.21 91.51
    """,
)

TABLE_3 = {
    "no no no no no": "16.13 15.29 34.14 44.18 15.75 36.11 46.16".split(),
    "no no yes no no": "17.00 42.52 71.46 78.36 46.86 72.66 79.95".split(),
    "no no yes no yes": "17.00 45.11 75.31 82.90 48.05 75.82 83.18".split(),
    "no yes yes no no": "17.00 48.10 78.28 84.98 49.45 76.79 83.42".split(),
    "no yes yes no yes": "17.00 48.31 78.55 84.73 50.08 77.16 83.68".split(),
    "yes yes yes no no": "16.18 49.00 79.20 85.69 50.31 77.48 84.21".split(),
    "yes yes yes yes no": "15.01 49.65 79.61 85.91 50.59 77.71 84.38".split(),
    "yes yes yes yes yes": "15.01 49.82 79.63 85.83 50.63 77.69 84.56".split(),
}
"""Of CLSR on Spoken-SQuAD, by pre-training of ASR and BGE, quantiser, sampler, post-training of BGE."""

TABLE_4 = _rows(
    spoken_squad="""
        parabge -     17.79 38.68 48.35 17.03 38.31 48.91
        clsr    15.01 49.82 79.63 85.83 50.63 77.69 84.56
    """,
    librisqa="""
        parabge -     29.31 50.27 59.70 20.57 39.28 49.28
        clsr    4.09  85.04 93.36 95.04 85.53 94.01 95.57
    """,
    slue_sqa5="""
        parabge -      7.31 21.83 32.75  7.52 21.96 33.12
        clsr    16.69 30.65 62.19 74.43 29.89 62.18 73.05
    """,
)

TABLE_7 = _rows(
    spoken_squad_filtered="""
        whisper-bge       19.39 69.93 86.61 90.53 67.97 85.76 89.65
        whisper-bge-noisy 19.39 69.05 86.10 90.40 67.82 85.48 89.93
        clsr              15.14 70.03 86.90 90.68 67.84 85.69 90.17
    """,
    librisqa="""
        whisper-bge       4.32  83.70 93.28 94.92 85.15 93.40 95.27
        whisper-bge-noisy 4.32  84.54 92.86 95.04 83.74 93.13 94.85
        clsr              4.09  85.04 93.36 95.04 85.53 94.01 95.57
    """,
    slue_sqa5="""
        whisper-bge       36.41 29.98 60.41 72.71 29.85 60.75 73.47
        whisper-bge-noisy 36.41 23.22 48.49 60.41 23.05 51.34 63.18
        clsr              16.69 30.65 62.19 74.43 29.89 62.18 73.05
    """,
)


class PublishedLongForm(NamedTuple):
    """A row of Table 5, as printed."""

    exact_match: str
    f1: str
    seconds: str
    speed_up: str


TABLE_5 = {
    "slue_sqa5": {
        False: PublishedLongForm("18.00", "23.55", "7935.00", "1.00X"),
        True: PublishedLongForm("27.60", "35.10", "783.00", "10.13X"),
    }
}
"""Without and with CLSR, on 500 documents of about 30 minutes: contexts of SLUE-SQA-5 replaced by Spoken Wikipedia."""

# Word error rate, recall@1 of both directions, seconds, how many times as fast as Whisper+BGE.
TABLE_6 = _rows(
    spoken_squad_filtered="""
        whisper-bge 19.39 69.93 67.97 3733.00 1.00X
        clsr        15.14 70.03 67.84 355.00 10.52X
    """,
    librisqa="""
        whisper-bge 4.32 83.70 85.15 1470.00 1.00X
        clsr        4.09 85.04 85.53 186.00 7.91X
    """,
    slue_sqa5="""
        whisper-bge 36.41 29.98 29.85 6141.00 1.00X
        clsr        16.69 30.65 29.89 745.00 8.25X
    """,
)
