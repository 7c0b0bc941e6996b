#!/usr/bin/env python
"""Make a corpus such as yours: long recordings and one table, from rows {"id", "title", "question", "context"}.

Only to try the recipe without recordings of your own. Each title becomes one recording, read by one synthetic voice,
and `table.csv` says which sentence lies where in it.
"""

import argparse
import csv
import json
import tempfile
from itertools import cycle
from pathlib import Path

from clsr.corpora.config import SynthesisConfig
from clsr.corpora.script import run_script
from clsr.corpora.synthesis import synthesize_recording
from clsr.data.kaldi import write_lines
from clsr.errors import InputError

VOICES = ("en-us-nyc+f3", "en-gb-scotland+m5", "en-029+m4", "en-gb-x-gbcwmd+f5")  # no other recipe has these


def read_titles(jsonl: Path, limit: int | None) -> dict[str, list[dict[str, str]]]:
    """Rows of each title, in the order of the file.

    Raises:
        InputError: no such file, or a line that is no JSON object with the four fields.
    """
    if not jsonl.is_file():
        raise InputError(f"{jsonl}: no such file; name rows of id, title, question and context")
    titles: dict[str, list[dict[str, str]]] = {}
    for number, line in enumerate(jsonl.read_text(encoding="utf-8").splitlines()[:limit], start=1):
        try:
            row = {name: json.loads(line)[name] for name in ("id", "title", "question", "context")}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{jsonl}:{number}: is no object of id, title, question and context; mend it") from error
        titles.setdefault(row["title"], []).append(row)
    return titles


def record(title: str, rows: list[dict[str, str]], voice: str, folder: Path) -> list[dict[str, object]]:
    """Read the rows aloud into one recording; return their lines of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        text, spoken = Path(scratch) / "rows.jsonl", Path(scratch) / f"{title}.wav"
        write_lines(text, (json.dumps(row) + "\n" for row in rows))
        synthesize_recording(text, spoken, SynthesisConfig(voices=[voice]))
        places = json.loads(spoken.with_suffix(".json").read_text(encoding="utf-8"))
        (folder / spoken.name).write_bytes(spoken.read_bytes())
    return [
        {
            "id": place["id"], "audio": f"{title}.wav", "start_s": round(place["start_s"], 3),
            "end_s": round(place["end_s"], 3), "transcript": place["context"], "question": place["question"],
            "speaker": voice,
        }
        for place in places
    ]  # fmt: skip


def prepare(args: argparse.Namespace) -> None:
    """Write the recordings, then the table."""
    titles = read_titles(args.jsonl, args.limit)
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for (title, rows), voice in zip(titles.items(), cycle(VOICES)):
        lines += record(title, rows, voice, args.folder)
    with open(args.folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def main() -> None:
    """Read the command line and make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jsonl", type=Path)
    parser.add_argument("folder", type=Path, help="for the recordings and table.csv")
    parser.add_argument("--limit", type=int, help="rows at most")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
