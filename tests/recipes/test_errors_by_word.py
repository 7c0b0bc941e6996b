"""recipes/people/local/errors_by_word.py on two utterances, counted by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from clsr.audio.waveform import write_waveform
from clsr.data.kaldi import Utterance, write_data_dir

SCRIPT = Path(__file__).parents[2] / "recipes" / "people" / "local" / "errors_by_word.py"


def test_errors_are_counted_by_word(tmp_path: Path) -> None:
    said = [("a", "old dog old dog old dog old dog old dog"), ("b", "red dogs")]
    for id_, _ in said:
        write_waveform(tmp_path / f"{id_}.wav", np.zeros(16_000, np.float32))
    write_data_dir(tmp_path / "train", [Utterance(i, tmp_path / f"{i}.wav", 0.0, 1.0, text, i) for i, text in said])
    lines = [
        {"row": "cascade", "reference": "old dog ran", "hypothesis": "old fog a ran"},  # an insertion is no word's
        {"row": "cascade", "reference": "red dogs", "hypothesis": "red"},
        {"row": "clsr", "reference": "old dog ran", "hypothesis": "none"},  # another row
    ]
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "transcripts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, SCRIPT, "--train", tmp_path / "train", tmp_path / "measured"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    cells = {row.split(" | ")[0].strip("| "): row.strip(" |").split(" | ")[1:] for row in table}
    assert cells["0"] == ["1", "0.0 [0.0, 0.0]"]  # ran
    assert cells["1 to 4"][0] == "2" and cells["1 to 4"][1].startswith("50.0 ")  # red, dogs
    assert cells["5 to 49"][0] == "2" and cells["5 to 49"][1].startswith("50.0 ")  # old, dog
    assert cells["50 to 499"] == ["0", "–"]
    missing = subprocess.run([*command, tmp_path / "none"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2 and "name a folder that clsr evaluate wrote" in missing.stderr
