"""The command line. Modules are imported by the command that needs them, so that ``clsr --help`` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from clsr.cli.benchmarking import Bench
from clsr.cli.data import Lengthen, Make, Synthesize, Transcribed, Validate
from clsr.cli.indexing import MakeIndex, Transcribe
from clsr.cli.information import Info
from clsr.cli.measuring import CompareReports, Evaluate, LongForm
from clsr.cli.options import Command, CommandGroup, build, make_parser
from clsr.cli.paper import PlotAlignment, PlotLearning, PlotNoise, PlotRecall, PlotWerRecall, Tables
from clsr.cli.searching import Ask, Search
from clsr.cli.serving import Serve
from clsr.cli.training import (
    Convert,
    ImportFunasr,
    TrainAsr,
    TrainClap,
    TrainJoint,
    TrainParaBge,
    TrainPost,
    TrainSpeechDpr,
    TrainText,
    TrainWhisper,
)
from clsr.errors import InputError

DATA = CommandGroup(
    "check or make retrieval sets",
    {
        "validate": Validate,
        "make": Make,
        "synthesize": Synthesize,
        "lengthen": Lengthen,
        "transcribed": Transcribed,
    },
)
PLOT = CommandGroup(
    "draw learning curves, recall, trends, or an alignment",
    {
        "learning": PlotLearning,
        "recall": PlotRecall,
        "wer-recall": PlotWerRecall,
        "noise": PlotNoise,
        "alignment": PlotAlignment,
    },
)
COMMANDS: Mapping[str, type[Command] | CommandGroup] = {
    "info": Info,
    "data": DATA,
    "train-asr": TrainAsr,
    "train-text": TrainText,
    "train-joint": TrainJoint,
    "train-post": TrainPost,
    "train-parabge": TrainParaBge,
    "train-speechdpr": TrainSpeechDpr,
    "train-clap": TrainClap,
    "train-whisper": TrainWhisper,
    "import-funasr": ImportFunasr,
    "convert": Convert,
    "evaluate": Evaluate,
    "report": CompareReports,
    "longform": LongForm,
    "tables": Tables,
    "plot": PLOT,
    "bench": Bench,
    "transcribe": Transcribe,
    "index": MakeIndex,
    "search": Search,
    "ask": Ask,
    "serve": Serve,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 2 for bad input, reported in one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("clsr").setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return read_command([argument for argument in arguments if argument != "--debug"]).run() or 0
    except KeyboardInterrupt:
        print("clsr: interrupted; the same command resumes where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the end of the process is quiet
        return 0
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"clsr: {_one_line(error)}", file=sys.stderr)
        return 2


def read_command(arguments: Sequence[str]) -> Command:
    """Make a command from its words; ``--help`` prints and ends the process.

    Raises:
        InputError: there is no such command or option, or a value is none of its kind.
    """
    parser = make_parser("Find the right moment in hours of speech.", COMMANDS)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action=_PrintVersion, help="print the version and stop")
    return build(parser.parse_args(arguments))


class _PrintVersion(argparse.Action):
    """Print the version, which is looked up only then: that takes as long as the rest of the start."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import clsr

        print(f"clsr {clsr.__version__}")
        parser.exit()


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}: make room or correct the path, then run the command again"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
