#!/usr/bin/env python
"""Write down recordings with a Whisper model: a line of JSON each, with words and their times in seconds.

`clsr longform --words` cuts its windows out of them, so that no second is recognised twice. Recordings that the file
has already are skipped.
"""

import argparse
import json
import time
from pathlib import Path

from clsr.audio.files import find_recordings
from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.corpora.script import run_script
from clsr.evaluation.window_search import read_words
from clsr.hub import find_folder
from clsr.systems.whisper_recogniser import WhisperDecoding, WhisperRecogniser


def write(args: argparse.Namespace) -> None:
    """Write down what the file has not yet."""
    recogniser = WhisperRecogniser(find_folder(args.model), decoding=WhisperDecoding(language=args.language))
    known = read_words(args.output) if args.output.is_file() else {}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    speech_s, start = 0.0, time.perf_counter()
    with args.output.open("a", encoding="utf-8") as file:
        for recording in find_recordings(args.audio):
            if str(recording.resolve()) in known:
                continue
            waveform = read_waveform(recording)
            (found,) = recogniser.transcribe([waveform])
            words = [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in found.words]
            file.write(json.dumps({"audio": str(recording.resolve()), "words": words}, ensure_ascii=False) + "\n")
            file.flush()
            speech_s += len(waveform) / SAMPLE_RATE
            print(f"{recording.name}: {len(words)} words", flush=True)
    print(f"{speech_s / 3600:.2f} h in {time.perf_counter() - start:.0f} s")


def main() -> None:
    """Read the command line and write the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path, nargs="+", help="recordings, or folders of them")
    parser.add_argument("--model", required=True, metavar="REF", help="Whisper in CTranslate2's layout")
    parser.add_argument("--language", default=None, help="of the speech; by default a multilingual model detects it")
    parser.add_argument("--output", type=Path, required=True, help="file to write, or to go on with")
    run_script(parser, write)


if __name__ == "__main__":
    main()
