"""A model of clsr in mteb: tasks of its registry, or a retrieval set as a task; needs mteb (``clsr[mteb]``)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from clsr.adapters.sentence_transformers import read_part
from clsr.audio.clip import Clip
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import RetrievalSet, is_retrieval_set, read_retrieval_set
from clsr.errors import InputError
from clsr.extras import how_to_install
from clsr.model import Model

try:
    import mteb
    from datasets import Audio, Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise InputError(how_to_install(["mteb"])) from error

SPLIT, SUBSET = "test", "default"
MAIN_SCORE = "hit_rate_at_5"  # of a retrieval set, as of mteb's own retrieval of speech
KINDS = {"text": "t", "audio": "a"}


class TaskScore(NamedTuple):
    """What a task measured, in one split and subset of it."""

    task: str
    split: str
    subset: str
    metric: str  # the main one of the task
    value: float  # of it, 0 to 1


def evaluate(model: Model, tasks: Sequence[str], output: Path) -> list[TaskScore]:
    """Measure a model on tasks; return their main scores.

    The files of mteb are written to ``results/clsr__NAME/FINGERPRINT/`` of the output, all metrics in them.

    Args:
        model: what encodes.
        tasks: names of mteb's tasks, whose data datasets finds; or folders of retrieval sets.
        output: folder of the results.

    Raises:
        InputError: there is no such task, its data cannot be loaded, or it is not about text and speech.
    """
    with _undecoded_audio():
        loaded = [_load_task(name) for name in tasks]
        results = mteb.evaluate(
            cast(Any, MtebEncoder(model)), loaded, cache=mteb.ResultCache(output), overwrite_strategy="always",
            co2_tracker=False, show_progress_bar=False,
        )  # fmt: skip
    return [
        TaskScore(result.task_name, split, scores["hf_subset"], task.metadata.main_score, scores["main_score"])
        for task, result in zip(loaded, results.task_results, strict=True)
        for split, of_split in result.scores.items()
        for scores in of_split
    ]


class MtebEncoder(AbsEncoder):
    """A model of clsr as mteb's protocol of encoders has it.

    Args:
        model: what encodes.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        name = Path(model.reference).name if model.path == Path(model.reference) else model.reference
        self.mteb_model_meta = ModelMeta.create_empty({
            "name": f"clsr/{name.replace(':', '-').replace('/', '-')}",
            "revision": model.fingerprint,
            "modalities": ["text", "audio"],
            "similarity_fn_name": ScoringFunction.COSINE,
        })  # fmt: skip

    def encode(self, inputs: Any, *, prompt_type: PromptType | None = None, **_: Any) -> np.ndarray:
        """Encode the inputs of a data loader: unit vectors ``(B, E)``, float32.

        Args:
            inputs: batches of columns ``text`` and ``audio``; an input with both has the parts in the columns' order.
            prompt_type: queries are questions; all else are passages.
        """
        side = "question" if prompt_type == PromptType.query else "passage"
        vectors = []
        for batch in inputs:
            columns = {kind: batch[kind] for kind in batch if kind in KINDS}
            rows = zip(*columns.values(), strict=True)
            parts = [list(_parts(dict(zip(columns, row, strict=True)))) for row in rows]
            vectors.append(self.model.encode([one[0] if len(one) == 1 else one or "" for one in parts], side))
        return np.concatenate(vectors)


def _parts(row: Mapping[str, Any]) -> Iterator[str | np.ndarray]:
    """The texts and the waveforms of an input; an empty text is none."""
    for kind, values in row.items():
        for value in values if isinstance(values, list) else [values]:
            if kind == "audio":
                yield from _read_audio(value)
            elif value:
                yield value


def _read_audio(audio: Any) -> list[str | np.ndarray]:
    """The waveform of audio as datasets gives it: a file, its bytes, a span, or samples with their rate."""
    if not isinstance(audio, Mapping) or "array" in audio:
        return read_part("audio", audio, "audio")
    if audio.get("bytes") is None:
        return read_part("audio", Clip(audio["path"], audio.get("start_s", 0.0), audio.get("end_s")), "audio")
    with tempfile.NamedTemporaryFile(suffix=Path(audio.get("path") or "").suffix) as file:
        file.write(audio["bytes"])
        file.flush()
        return read_part("audio", file.name, str(audio.get("path")))


class RetrievalSetTask(AbsTaskRetrieval):
    """A retrieval set as a task of mteb: its category says what questions and passages are.

    Where questions have parts, the texts of a question come before its audio, since mteb has a column for each.

    Args:
        data: the set.
    """

    def __init__(self, data: RetrievalSet) -> None:
        queries = [_question(data, id_) for id_ in data.questions]
        kinds = {kind for row in queries for kind in KINDS if row[kind]}
        passages = "text" if data.has_text_passages else "audio"
        self.metadata = TaskMetadata(
            name=data.path.resolve().name, description=f"the retrieval set {data.path.resolve().name}",
            dataset={"path": str(data.path), "revision": "local"}, type="Any2AnyRetrieval",
            category=cast(Any, f"{''.join(KINDS[kind] for kind in sorted(kinds))}2{KINDS[passages]}"),
            modalities=cast(Any, sorted({*kinds, passages})), eval_splits=[SPLIT], eval_langs=["und-Zyyy"],
            main_score=MAIN_SCORE,
        )  # fmt: skip
        super().__init__()
        corpus = [{"id": one.id, passages: one.text if passages == "text" else _audio(one)} for one in data.passages]
        queries = [{"id": row["id"]} | {kind: row[kind] for kind in KINDS if kind in kinds} for row in queries]
        self.dataset = {SUBSET: {SPLIT: {
            "corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries),
            "relevant_docs": data.relevance, "top_ranked": None,
        }}}  # fmt: skip
        self.data_loaded = True


def _question(data: RetrievalSet, id_: str) -> dict[str, Any]:
    """The columns of a question: its text, or what is said in its place; and its audio."""
    if id_ in data.question_parts:
        parts = data.question_parts[id_]
        texts, audio = (part for part in parts if isinstance(part, str)), (p for p in parts if isinstance(p, Utterance))
        return {"id": id_, "text": " ".join(texts), "audio": [_audio(one) for one in audio]}
    spoken = [one for one in data.question_speech or () if one.id == id_]
    return {"id": id_, "text": "" if spoken else data.questions[id_], "audio": [_audio(one) for one in spoken]}


def _audio(utterance: Utterance) -> dict[str, Any]:
    return {"path": str(utterance.recording), "start_s": utterance.start_s, "end_s": utterance.end_s}


def _load_task(name: str) -> AbsTaskRetrieval:
    """A task of mteb, or that of a retrieval set, with its data.

    Raises:
        InputError: there is none, it is no retrieval, or its data cannot be loaded.
    """
    if is_retrieval_set(name):
        return RetrievalSetTask(read_retrieval_set(name, text_passages=True))
    try:
        task = mteb.get_task(name)
    except KeyError as error:
        raise InputError(f"{name}: neither a retrieval set nor a task of mteb: {error.args[0]}") from error
    if not isinstance(task, AbsTaskRetrieval) or not set(task.metadata.modalities) <= set(KINDS):
        kinds = ", ".join(task.metadata.modalities)
        raise InputError(f"{name}: a task of {task.metadata.type} ({kinds}); give one of retrieval in text and audio")
    try:
        task.load_data()
    except Exception as error:  # of the network, the hub and files: each its own kind
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name}: its data cannot be loaded ({reason}): where there is a network, run it with HF_HUB_OFFLINE=0"
        ) from error
    return task


@contextmanager
def _undecoded_audio() -> Iterator[None]:
    """Let datasets give the bytes of audio files: its own decoding needs torchcodec and FFmpeg's libraries."""
    own = Audio.decode_example
    Audio.decode_example = lambda self, value, token_per_repo_id=None: value
    try:
        yield
    finally:
        Audio.decode_example = own
