"""The command line. Modules are imported by the command that needs them, so that ``clsr --help`` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from clsr.cli.benchmarking import Bench
from clsr.cli.chaptering import Chapters
from clsr.cli.data import Interleave, Lengthen, Make, Synthesize, Transcribed, Validate
from clsr.cli.exporting import ExportSentenceTransformers
from clsr.cli.indexing import MakeIndex, Transcribe
from clsr.cli.information import Info
from clsr.cli.measuring import CompareReports, Evaluate, LongForm, MeasureTasks
from clsr.cli.options import Command, CommandGroup, build, make_parser
from clsr.cli.paper import PlotAlignment, PlotLearning, PlotNoise, PlotRecall, PlotWerRecall, Tables
from clsr.cli.searching import Ask, Search
from clsr.cli.serving import Serve, ServeAssistants
from clsr.cli.streams import prepare_streams, say, silence, silence_if_broken
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
from clsr.cli.unexpected import describe_unexpected
from clsr.errors import InputError, printable_line

DATA = CommandGroup(
    "check or make retrieval sets",
    {
        "validate": Validate,
        "make": Make,
        "synthesize": Synthesize,
        "lengthen": Lengthen,
        "interleave": Interleave,
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
EXPORT = CommandGroup("write a model for another library", {"st": ExportSentenceTransformers})
COMMANDS: Mapping[str, type[Command] | CommandGroup] = {
    "index": MakeIndex,
    "search": Search,
    "ask": Ask,
    "serve": Serve,
    "mcp": ServeAssistants,
    "transcribe": Transcribe,
    "chapters": Chapters,
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
    "export": EXPORT,
    "evaluate": Evaluate,
    "report": CompareReports,
    "longform": LongForm,
    "mteb": MeasureTasks,
    "tables": Tables,
    "plot": PLOT,
    "bench": Bench,
}
HEADINGS = {  # of the help, over the commands from this one on
    "index": "search recordings",
    "data": "make data and train",
    "evaluate": "measure",
}
EXAMPLES = {
    "index": "clsr index --index talks.index talks/",
    "search": 'clsr search --index talks.index "who sold the horse?"',
    "ask": 'clsr ask --index talks.index --answerer local:qwen2-audio "who sold the horse?"',
    "serve": "clsr serve --index talks.index --allow talks/",
    "mcp": "clsr mcp --index talks.index",
    "transcribe": "clsr transcribe talk.mp3",
    "chapters": "clsr chapters talk.mp3",
    "info": "clsr info --model exp/joint",
    "data validate": "clsr data validate data/train",
    "data make": "clsr data make table.csv data",
    "data synthesize": "clsr data synthesize questions.jsonl data/train",
    "data lengthen": "clsr data lengthen --set data/test --output data/long",
    "data interleave": "clsr data interleave data/test --babble data/train/passages --output data/mixtures",
    "data transcribed": "clsr data transcribed --model exp/asr --set data/test --output data/test-asr",
    **{
        name: f"clsr {name} {name[6:]}.yaml --data data --output exp/{name[6:]}"
        for name in COMMANDS
        if "train-" in name
    },
    "import-funasr": "clsr import-funasr releases/paraformer-zh --output exp/paraformer",
    "convert": "clsr convert whisper:releases/tiny.en --output exp/converted",
    "export st": "clsr export st exp/joint exp/joint-st",
    "evaluate": "clsr evaluate --model exp/joint --set data/test --output exp/report",
    "report": "clsr report exp/report exp/other",
    "longform": "clsr longform --model exp/joint --set data/long --output exp/longform",
    "mteb": "clsr mteb SpokenSQuADT2ARetrieval --model exp/joint --output exp/mteb",
    "tables": "clsr tables exp --output exp/tables",
    "plot learning": "clsr plot learning exp/asr/logs/csv/metrics.csv --output learning.png",
    **{
        f"plot {kind}": f"clsr plot {kind} exp/clean/report.json exp/noisy/report.json --output {kind}.png"
        for kind in ("recall", "wer-recall", "noise")
    },
    "plot alignment": "clsr plot alignment --model exp/joint --set data/test --question q17 --output q17.png",
    "bench": "clsr bench --output exp/bench",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    0, or 2 for bad input, 130 for an interruption, and 1 for a fault of clsr; all but 0 are reported in one line.
    """
    prepare_streams()
    is_program = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("clsr").setLevel(logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "TMPDIR" in os.environ and not os.path.isdir(os.environ["TMPDIR"]):
        del os.environ["TMPDIR"]  # in which LanceDB would fail; the system's own folder is taken
    command: Command | None = None
    try:
        command = read_command([argument for argument in arguments if argument != "--debug"])
        status = command.run() or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if is_program:  # which ends now: people press Ctrl-C twice
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        resumes = getattr(command, "resumes", False)
        say("interrupted; the same command resumes where it stopped" if resumes else "interrupted")
        return 130
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        silence(sys.stdout)
        return 0
    except Exception as error:
        silence_if_broken(sys.stdout)
        if debug:
            raise
        expected = isinstance(error, (InputError, OSError))
        say(_one_line(error) if expected else describe_unexpected(error))
        return 2 if expected else 1


def read_command(arguments: Sequence[str]) -> Command:
    """Make a command from its words; ``--help`` prints and ends the process.

    Raises:
        InputError: there is no such command or option, or a value is none of its kind.
    """
    parser = make_parser("Find the right moment in hours of speech.", COMMANDS, HEADINGS, EXAMPLES)
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
        return printable_line(f"{place}{error.strerror}: make room or correct the path, then run the command again")
    return printable_line(" ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(main())
