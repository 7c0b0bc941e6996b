"""Every command. Modules are imported by the command that needs them, so that ``clsr --help`` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from clsr.cli.baselines import BASELINES, FOREIGN, add_transcribed, baseline_stage
from clsr.cli.benchmarking import add_bench
from clsr.cli.indexing import add_hardware, add_search
from clsr.cli.reporting import add_longform, add_plots, add_tables, tag
from clsr.cli.serving import add_serve
from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.settings import DROPPED_KEYS, FORMER_KEYS, setting_names

STAGES = {
    "train-asr": "train a recogniser on transcripts",
    "train-text": "fine-tune a text encoder on questions and the texts that answer them",
    "train-joint": "train recogniser and retrieval together",
    "train-post": "fine-tune the text encoder on a trained recogniser's codes",
    **BASELINES,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 for a fault in what was given, said in one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("clsr").setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        options = _parser().parse_args(arguments)
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("clsr: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the end of the process is quiet
        return 0
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"clsr: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}: make room or mend the path, then run the command again"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        raise InputError(f"{message}: see {self.prog} --help")


class _Settings(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the settings and stop."""
        from clsr.settings import describe_settings

        print("Settings: YAML keys, and options such as --optimizer.max_steps 100.\n")
        print(describe_settings(TrainingConfig))
        parser.exit()


class _Setting(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: object, option: str | None = None
    ) -> None:
        """Keep the setting as it was given."""
        options.given = [*options.given, f"{option}={value}"]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="clsr", description="Find the right moment in hours of speech.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a fault")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_data(commands)
    for name, title in STAGES.items():
        _add_stage(commands, name, title)
    _add_import(commands)
    _add_measures(commands)
    add_search(commands, _add)
    add_serve(commands, _add)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, title: str, run: Callable) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=title, description=title[0].upper() + title[1:] + ".", allow_abbrev=False)
    command.set_defaults(run=run)
    return command


def _add_data(commands: argparse._SubParsersAction) -> None:
    data = commands.add_parser("data", help="check or make retrieval sets")
    kinds = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND", parser_class=_Parser)
    validate = _add(kinds, "validate", "check a retrieval set or data directory, naming each fault", _validate)
    validate.add_argument("set", type=Path, metavar="DIR")
    make = _add(kinds, "make", "make training, development and test sets from a table of your recordings", _make)
    make.add_argument(
        "table", type=Path, help="CSV, TSV or JSONL: id, audio, transcript [start_s end_s question speaker]"
    )
    make.add_argument("output", type=Path, metavar="DIR", help="folder for train/, dev/ and test/")
    make.add_argument("--dev-share", type=float, metavar="SHARE", help="of the passages, in dev/ (0.1)")
    make.add_argument("--test-share", type=float, metavar="SHARE", help="of the passages, in test/ (0.1)")
    make.add_argument(
        "--split-by", choices=["recording", "speaker"], help="what comes to one split as a whole (recording)"
    )
    make.add_argument("--seed", type=int, help="of the split (0)")
    speak = _add(kinds, "synthesize", "speak a JSONL of questions and contexts: a retrieval set", _synthesize)
    speak.add_argument("jsonl", type=Path, help='rows of {"id", "question", "context"[, "answer"]}')
    speak.add_argument("output", type=Path, metavar="DIR")
    speak.add_argument("--voices", nargs="+", metavar="VOICE", help="espeak-ng voices, such as en-us+f2")
    speak.add_argument("--voices-per-text", type=int, metavar="N", help="speak each context by so many voices (1)")
    speed = "words a minute, drawn from this range: 135 175 (200 260 for Mandarin)"
    speak.add_argument("--rate-wpm", type=int, nargs=2, metavar=("LOW", "HIGH"), help=speed)
    speak.add_argument("--noise-snr-db", type=float, metavar="DB", help="add white noise at this ratio")
    speak.add_argument("--seed", type=int, help="of voices, rates and noise (0)")
    speak.add_argument("--jobs", type=int, help="processes; 0 takes all cores (0)")
    speak.add_argument("--speak-questions", action="store_const", const=True, help="questions as audio too")
    speak.add_argument("--passages-only", action="store_const", const=True, help="a data directory, without questions")
    speak.add_argument("--also", type=Path, metavar="JSONL", help="passages that answer no question, beside them")
    speak.add_argument("--recording", action="store_true", help="one long recording, DIR being a .wav file")
    longer = _add(kinds, "lengthen", "place the passages of a retrieval set inside long recordings", _lengthen)
    longer.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="retrieval set")
    longer.add_argument("--output", type=Path, required=True, metavar="DIR", help="recordings/ and questions.jsonl")
    longer.add_argument("--minutes", type=float, default=30.0, help="least length of a recording (30)")
    longer.add_argument("--seed", type=int, default=0, help="of the order and the silences between passages (0)")
    add_transcribed(kinds, _add)


def _add_stage(commands: argparse._SubParsersAction, name: str, title: str) -> None:
    command = _add(commands, name, title, _train)
    command.add_argument("configs", nargs="*", type=Path, metavar="CONFIG", help="YAML settings, later over earlier")
    command.add_argument("--data", type=Path, required=True, metavar="DIR", dest="data_dir", help="train/ and dev/")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    command.add_argument("--start", type=Path, metavar="DIR", help="checkpoint to start from")
    command.add_argument("--settings", action=_Settings, nargs=0, help="list all settings; each is an option too")
    for setting in (*setting_names(TrainingConfig), *FORMER_KEYS, *DROPPED_KEYS):
        command.add_argument(f"--{setting}", action=_Setting, dest="given", default=[], help=argparse.SUPPRESS)


def _add_import(commands: argparse._SubParsersAction) -> None:
    title = "turn a released Paraformer of FunASR into a checkpoint"
    command = _add(commands, "import-funasr", title, _import_funasr)
    command.add_argument("model", metavar="DIR", help="folder of the model, or its name on the hub")
    command.add_argument("--hub", choices=["modelscope"], help="fetch the model from there, by its name")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    reference = "new output layer for this text encoder's pieces, to be trained (the model's own tokens)"
    command.add_argument("--vocabulary", metavar="TEXT_ENCODER", help=reference)
    command.add_argument("--seed", type=int, default=0, help="of the new output layer (0)")


def _add_measures(commands: argparse._SubParsersAction) -> None:
    evaluate = _add(commands, "evaluate", "measure word error rate and recall together", _evaluate)
    models = "checkpoint folders, baselines' too, and released baselines: SCHEME:FOLDER"
    evaluate.add_argument("--model", nargs="+", required=True, metavar="MODEL", help=models)
    evaluate.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="retrieval set")
    evaluate.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    evaluate.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="only these (all)")
    evaluate.add_argument("--snr-db", type=float, metavar="DB", help="white noise over the passages at this ratio")
    evaluate.add_argument("--question-snr-db", type=float, metavar="DB", help="and over spoken questions")
    about = "what the report says of itself: dataset, seed, ... (tables and figures go by it)"
    evaluate.add_argument("--tag", nargs="+", type=tag, default=[], metavar="KEY=VALUE", help=about)
    encoder = "for the transcripts of a model that brings no text encoder (the offline one)"
    evaluate.add_argument("--text-encoder", metavar="TEXT_ENCODER", help=encoder)
    add_hardware(evaluate, "float32")
    evaluate.add_argument("--seed", type=int, default=0, help="of the bootstrap and of noise (0)")
    report = _add(commands, "report", "put reports side by side, with what differs significantly", _report)
    report.add_argument("reports", nargs="+", type=Path, metavar="DIR", help="folders; all are compared with the first")
    add_longform(commands, _add)
    add_tables(commands, _add)
    add_plots(commands, _add)
    add_bench(commands, _add)


def _validate(options: argparse.Namespace) -> int:
    from clsr.data.kaldi import check_data_dir
    from clsr.data.retrieval_set import check_retrieval_set, is_retrieval_set

    if is_retrieval_set(options.set):
        faults = check_retrieval_set(options.set)
    elif (options.set / "wav.scp").exists():
        faults = check_data_dir(options.set)
    else:
        raise InputError(
            f"{options.set}: no retrieval set (passages/, questions/, qrels) and no data directory (wav.scp)"
        )
    print("\n".join(faults) if faults else f"{options.set}: sound")
    return 2 if faults else 0


def _make(options: argparse.Namespace) -> int:
    from clsr.corpora.config import TableConfig
    from clsr.corpora.table import describe, read_passages, split, write_sets

    names = ("dev_share", "test_share", "split_by", "seed")
    config = TableConfig(**{name: getattr(options, name) for name in names if getattr(options, name) is not None})
    faults: list[str] = []
    passages = read_passages(options.table, faults.append)
    if faults:
        print("\n".join(faults))
        return 2
    splits = split(passages, config)
    write_sets(splits, options.output)
    print("\n".join(describe(str(options.output / name), chosen) for name, chosen in splits.items()))
    return 0


def _synthesize(options: argparse.Namespace) -> None:
    from clsr.corpora.config import SynthesisConfig
    from clsr.corpora.synthesis import synthesize, synthesize_recording

    names = "voices voices_per_text rate_wpm noise_snr_db seed jobs speak_questions passages_only".split()
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    config = SynthesisConfig(**given)
    if not options.recording:
        synthesize(options.jsonl, options.output, config, options.also)
    elif options.also:
        raise InputError("--also: a recording is of one JSONL; leave it out, or put the rows into that")
    else:
        synthesize_recording(options.jsonl, options.output, config)


def _lengthen(options: argparse.Namespace) -> None:
    from clsr.corpora.long_recordings import lengthen

    questions = lengthen(options.set_dir, options.output, options.minutes, options.seed)
    recordings = {question.recording for question in questions}
    print(f"{options.output}: {len(questions)} questions about {len(recordings)} recordings")


def _train(options: argparse.Namespace) -> None:
    from clsr.settings import read_settings, start_settings

    base = start_settings(options.start) if options.start and options.command not in FOREIGN else None
    config = read_settings(TrainingConfig, options.configs, options.given, base)
    _stage(options.command)(config, options.data_dir, options.output, options.start)
    print(f"{options.output}: done")


def _import_funasr(options: argparse.Namespace) -> None:
    from clsr.funasr.release import import_release
    from clsr.hub import fetch

    folder = fetch(options.model) if options.hub else Path(options.model)
    release = import_release(folder, options.output, options.vocabulary, options.seed)
    if release.ignored:
        names = (f"{start.rstrip('.')} ({count} tensors)" for start, count in release.ignored.items())
        print(f"left out, since the recogniser needs none of it: {', '.join(names)}")
    print(f"{options.output}: done")


def _stage(command: str) -> Callable:
    if command == "train-asr":
        from clsr.training.asr import train_asr as run
    elif command == "train-text":
        from clsr.training.text import train_text as run
    elif command == "train-joint":
        from clsr.training.joint import train_joint as run
    elif command == "train-post":
        from clsr.training.post import train_post as run
    else:
        run = baseline_stage(command)
    return run


def _evaluate(options: argparse.Namespace) -> None:
    from clsr.evaluation.config import EvaluationConfig
    from clsr.evaluation.measure import evaluate
    from clsr.evaluation.report import write_report

    names = ("text_encoder", "seed", "snr_db", "question_snr_db", "precision", "device")
    given = {name: getattr(options, name) for name in names}
    config = EvaluationConfig(rows=tuple(options.rows), tags=dict(options.tag), **given)
    report = evaluate(options.model, options.set_dir, config)
    write_report(report, options.output)
    print((options.output / "report.md").read_text(encoding="utf-8"))


def _report(options: argparse.Namespace) -> None:
    from clsr.evaluation.report import compare

    print(compare(options.reports))


if __name__ == "__main__":
    sys.exit(main())
