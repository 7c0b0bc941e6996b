"""Imports: each file takes only from files above it, and what it takes from elsewhere is declared in setup.py."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "clsr").rglob("*.py"))

# Top to bottom: a wav's way to a search result. errors.py is above all, since all refuse bad input. Speech is
# synthesised into retrieval sets, hence below them. Training measures word errors and recall as it goes, so that these
# two stand above it; the rivals are trained too, and stand below it. Reports are written by what measures, hence above.
ORDER = """
    errors config settings hub containers audio features vocabulary padding
    data.corpus data.squad data.one_to_one data.holdout data.word_lists
    data.kaldi data.retrieval_set data.long_form data.synthesis data.table data.rounds data.augmentation data.datamodule
    models.dropout models.attention models.encoder models.cif models.sampler models.decoder models.paraformer
    models.recogniser models.adaptor models.bert models.text_encoder models.speech_encoder models.precision
    losses checkpoint release
    evaluation.wer evaluation.recall
    training.fit training.devices training.mwer training.extension training.lora
    training.asr training.pairs training.joint training.text training.post
    baselines.protocol baselines.cascade baselines.own baselines.released baselines.pipeline
    baselines.parabge baselines.speechdpr baselines.clap baselines.whisper baselines.funasr
    baselines.load baselines.transcribed
    search.windows search.pauses search.stretches search.speech search.cuts search.files
    search.decoding_worker search.decoding
    search.place search.table search.filters search.recordings search.rows
    search.full_text search.held search.ranking search.approximate search.writer
    search.progress search.indexer search.index search.distributed
    search.verify search.transcribe
    search.hit search.question search.memory search.moments search.retriever
    search.answer search.export search.ask api adapters.langchain adapters.llama_index
    evaluation.report evaluation.measure evaluation.parity
    evaluation.published evaluation.results evaluation.typeset evaluation.tables
    evaluation.answers evaluation.longform_report evaluation.longform
    evaluation.drawing evaluation.plots evaluation.trends evaluation.alignment evaluation.commands
    web.folders web.jobs web.playback web.service web.player web.guard web.reference web.api web.page web.serve
    bench.timing bench.models bench.stages bench.rivals bench.training bench.search bench.report bench.commands
    baselines.commands search.asking search.commands web.commands cli
""".split()


def module_name(file: Path) -> str:
    """``clsr/data/kaldi.py`` -> ``data.kaldi``."""
    return ".".join(file.relative_to(ROOT / "clsr").with_suffix("").parts)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, inside functions too; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["clsr", *module_name(file).split(".")][: -node.level] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def own_module(name: str) -> str | None:
    """The module of clsr that an imported name is or lies in; None for other packages and for clsr itself."""
    if name.partition(".")[0] != "clsr":
        return None
    known = {module_name(file) for file in FILES} | set(ORDER)
    parts = name.split(".")[1:]
    return next((module for n in range(len(parts), 0, -1) if (module := ".".join(parts[:n])) in known), None)


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "__init__.py"], ids=module_name)
def test_a_file_imports_only_from_files_above_it(file: Path) -> None:
    place = module_name(file)
    assert place in ORDER, f"{place} has no place in the order: put it where its imports allow"
    above = ORDER[: ORDER.index(place)]
    taken = [(line, own_module(name)) for line, name in imports(file)]
    below = [f"{file.name}:{line}: {module}" for line, module in taken if module and module not in above]
    assert not below, f"{place} imports from below itself: {', '.join(below)}"


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=module_name)
def test_packages_import_nothing(file: Path) -> None:
    assert not list(imports(file))  # or every command would wait for what only one of them needs


def test_what_is_imported_is_declared() -> None:
    declared = {normalised(re.split(r"[\[=<>]", entry)[0]) for entry in declared_requirements()}
    distributions = packages_distributions()
    imported = {name.partition(".")[0] for file in FILES for _, name in imports(file)}
    foreign = imported - set(sys.stdlib_module_names) - {"clsr"}
    missing = [n for n in sorted(foreign) if declared.isdisjoint(map(normalised, distributions.get(n, [n])))]
    assert not missing, f"setup.py does not declare {missing}"


def declared_requirements() -> list[str]:
    """The entries of setup.py's lists, without running it."""
    assigned = [node.value for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
    lists = [whole for value in assigned for whole in ast.walk(value) if isinstance(whole, ast.List)]
    return [part.value for whole in lists for part in whole.elts if isinstance(part, ast.Constant)]


def normalised(distribution: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_imports_are_found_wherever_they_are(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "import torch.nn\ndef f():\n    from clsr.data import kaldi\n    from clsr.audio import SAMPLE_RATE\n"
    )
    found = [name for _, name in imports(file)]
    assert found == ["torch.nn", "clsr.data.kaldi", "clsr.audio.SAMPLE_RATE"]
    assert [own_module(name) for name in found] == [None, "data.kaldi", "audio"]
