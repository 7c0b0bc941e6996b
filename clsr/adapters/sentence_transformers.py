"""clsr as a model of sentence-transformers: texts, speech and mixtures of both to vectors of one space.

A model is one module: its vector of speech is a mean over length hypotheses, which the modules of sentence-transformers
for pooling cannot take. It is for inference alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modality import format_modality, infer_modality
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules import InputModule, Transformer
from sentence_transformers.util import check_version_requirements
from torch import Tensor

from clsr.adapters.model_folder import locate, required_wheels, write_model
from clsr.audio.clip import Clip
from clsr.audio.pauses import pieces
from clsr.config import DEFAULT_MODEL
from clsr.errors import InputError
from clsr.model import LONGEST_S, Model, read_speech, require_choice
from clsr.model import load as load_model
from clsr.padding import length_mask, pad
from clsr.text.folder import Side

Output = Literal["sentence_embedding", "token_embeddings"]
"""What the module gives: a vector for each input, or one for each token, for late interaction."""

CONFIG, MODEL_CONFIG = "sentence_bert_config.json", "config_sentence_transformers.json"
MODALITIES: tuple[Modality, ...] = ("text", "audio", ("audio", "text"), "message")


class SpeechTextModule(InputModule):
    """The input module, and the only one, of a clsr model.

    ``sentence_bert_config.json`` has its arguments. The weights are read at the first input.

    Args:
        model: reference of the model, as `clsr.load` takes it.
        text_encoder: reference of a text encoder in place of the model's own.
        modality_config: the kinds of input that are taken, each with what encodes it, as in the configuration of
            ``sentence_transformers.base.modules.Transformer``.
        module_output_name: whether it encodes inputs or their tokens.

    Raises:
        InputError: there is no such model or output.
    """

    config_file_name = CONFIG
    config_keys: list[str] = ["model", "text_encoder", "modality_config", "module_output_name"]  # noqa: RUF012

    def __init__(
        self,
        model: str,
        text_encoder: str | None = None,
        modality_config: Mapping[Modality, Mapping[str, Any]] | None = None,
        module_output_name: Output = "sentence_embedding",
    ) -> None:
        super().__init__()
        require_choice("module_output_name", module_output_name, get_args(Output))
        self.model = model
        self.text_encoder = text_encoder
        self.modality_config = dict(modality_config or _describe_modalities(module_output_name))
        self.module_output_name = module_output_name
        self.register_buffer("_place", torch.empty(0), persistent=False)  # follows ``to``, and says where to compute
        self._loaded: Model | None = None

    @property
    def modalities(self) -> list[Modality]:
        """The kinds of input that are taken."""
        return list(self.modality_config)

    @property
    def loaded(self) -> Model:
        """The model on the device of this module.

        Raises:
            InputError: there is no such model.
        """
        device = str(self._place.device)
        if self._loaded is None or self._loaded.device != device:
            self._loaded = load_model(self.model, device, text_encoder=self.text_encoder)
        return self._loaded

    def get_embedding_dimension(self) -> int:
        """Return the size of a vector."""
        encoder = self.loaded.text_encoder
        return encoder.width if self.module_output_name == "sentence_embedding" else encoder.word_embeddings.shape[1]

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Take inputs apart into texts and speech, in order.

        Args:
            inputs: of the kinds of ``modalities``, in the forms that sentence-transformers has for them. Audio is a
                path, or samples at 16 kHz unless their rate stands beside them.
            prompt: put before each input; by default that of the text encoder.
            task: "query" for questions; all else are passages.
            kwargs: of no effect.

        Raises:
            InputError: an input is of no such kind, or the prompt is another one than the text encoder's.
        """
        side: Side = "question" if task == "query" else "passage"
        parts = [self._parts(one, f"input {n}") for n, one in enumerate(inputs, start=1)]
        if prompt and not self._has_prompt(prompt, side):
            parts = [[prompt + one[0], *one[1:]] if isinstance(one[0], str) else [prompt, *one] for one in parts]
        return {"parts": [one[0] if len(one) == 1 else one for one in parts], "side": side}

    def _has_prompt(self, prompt: str, side: Side) -> bool:
        """Whether the text encoder itself puts this prompt before its inputs.

        Raises:
            InputError: it puts another one there.
        """
        own = self.loaded.text_encoder.prompts.get(side, "")
        if own and prompt != own:
            raise InputError(f"prompt {prompt!r}: the text encoder has its own, {own!r}; leave it out")
        return bool(own)

    def _parts(self, one: Any, place: str) -> list[str | np.ndarray]:
        """The texts and waveforms of an input.

        Raises:
            InputError: it is of no kind that is taken; the message has its place.
        """
        try:
            modality = infer_modality(one, supported_modalities=self.modalities)
        except ValueError as error:
            raise InputError(f"{place}: {' '.join(str(error).split())}") from error
        if modality == "message":
            parts = list(_parts_of_messages(one, place))
        elif isinstance(one, dict) and "array" not in one:
            parts = [(kind, value) for kind, values in one.items() for value in _as_list(values)]
        else:
            parts = [(format_modality(modality), one)]
        if not parts:
            raise InputError(f"{place}: has no parts; give text or audio")
        return [
            part for n, (kind, value) in enumerate(parts, 1) for part in read_part(kind, value, f"{place}, part {n}")
        ]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Encode the parts of inputs, without gradient.

        Adds ``sentence_embedding`` ``(B, E)``, unit rows; or ``token_embeddings`` ``(B, U, D)``, unit rows too, with
        ``attention_mask`` ``(B, U)``. An input without words has one token of zeros, which matches nothing.
        """
        parts, side = features["parts"], features["side"]
        if self.module_output_name == "sentence_embedding":
            vectors = torch.from_numpy(self.loaded.encode(parts, side))
            return features | {"sentence_embedding": vectors.to(self._place.device)}
        rows = [torch.from_numpy(one) for one in self.loaded.token_vectors(parts, side)]
        tokens, lengths = pad([one if len(one) else one.new_zeros(1, one.shape[1]) for one in rows])
        masks = {"token_embeddings": tokens, "attention_mask": length_mask(lengths).long()}
        return features | {name: tensor.to(self._place.device) for name, tensor in masks.items()}

    def get_config_dict(self) -> dict[str, Any]:
        """Return what ``sentence_bert_config.json`` has."""
        kinds = {format_modality(kind): how for kind, how in self.modality_config.items()}
        return super().get_config_dict() | {"modality_config": kinds}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the configuration, and the model beside it."""
        own = self.model, self.text_encoder
        try:
            self.model, self.text_encoder = write_model(*own, Path(output_path))
            self.save_config(output_path)
        finally:
            self.model, self.text_encoder = own

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> SpeechTextModule:
        """Open the module of a folder, or of a repository of Hugging Face."""
        folder = Path(model_name_or_path)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(
                model_name_or_path, revision=revision, cache_dir=cache_folder, token=token,
                local_files_only=local_files_only,
            ))  # fmt: skip
        config = Transformer.load_config(str(folder), subfolder)  # which reads the kinds of several modalities
        known = {key: config[key] for key in cls.config_keys if key in config}
        return cls(**known | locate(known.get("model", ""), known.get("text_encoder"), folder))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded model behind: the processes of a pool load their own."""
        return self.__dict__ | {"_loaded": None}


def load(
    reference: str | Path = DEFAULT_MODEL,
    device: str | None = None,
    text_encoder: str | None = None,
    multi_vector: bool = False,
) -> SentenceTransformer | MultiVectorEncoder:
    """Open a model for sentence-transformers, without code from its folder.

    Args:
        reference: a folder that ``clsr export st`` wrote, or what `clsr.load` takes.
        device: to compute on; by default what sentence-transformers chooses.
        text_encoder: reference of a text encoder in place of the model's own.
        multi_vector: encode tokens, for late interaction. A folder that was exported so needs it too.

    Raises:
        InputError: there is no such model, or packages are missing that it needs.
    """
    output: Output = "token_embeddings" if multi_vector else "sentence_embedding"
    model = str(reference)
    if (Path(reference) / CONFIG).is_file() and (Path(reference) / MODEL_CONFIG).is_file():
        _check_requirements(Path(reference))
        exported = SpeechTextModule.load(str(reference))
        model, text_encoder = exported.model, text_encoder or exported.text_encoder
    module = SpeechTextModule(model, text_encoder, module_output_name=output)
    prompts = module.loaded.text_encoder.prompts
    names = {"query": prompts.get("question", ""), "document": prompts.get("passage", "")}
    if multi_vector:
        return MultiVectorEncoder(modules=[module], device=device, prompts=names)
    return SentenceTransformer(modules=[module], device=device, prompts=names, similarity_fn_name="cosine")


def export(reference: str | Path, output: Path, text_encoder: str | None = None, multi_vector: bool = False) -> None:
    """Write a folder that sentence-transformers loads with ``trust_remote_code=True``: it names classes of clsr.

    Args:
        reference: of the model, as `clsr.load` takes it. A folder is copied; what a wheel or a hub has keeps its name.
        output: the new folder.
        text_encoder: reference of a text encoder in place of the model's own.
        multi_vector: for ``MultiVectorEncoder``, in place of ``SentenceTransformer``.

    Raises:
        InputError: there is no such model, or the folder is there already.
    """
    if output.exists():
        raise InputError(f"{output}: is there already: name another folder, or delete it first")
    model = load(reference, "cpu", text_encoder, multi_vector)
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial), create_model_card=False)
    config = json.loads((partial / MODEL_CONFIG).read_text(encoding="utf-8"))
    wheels = required_wheels(str(reference), text_encoder)
    config["requirements"] = {"clsr": f">={version('clsr')}", "sentence-transformers": ">=6.2"} | wheels
    (partial / MODEL_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    partial.rename(output)


def _check_requirements(folder: Path) -> None:
    """See that the packages are there that a folder requires.

    Raises:
        InputError: one is missing or of another version.
    """
    config = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
    try:
        check_version_requirements(config.get("requirements"), str(folder))
    except ImportError as error:
        raise InputError(" ".join(str(error).split())) from error


def _describe_modalities(output: Output) -> dict[Modality, dict[str, Any]]:
    """Say for each kind of input what encodes it: always ``forward``."""
    kinds: dict[Modality, dict[str, Any]] = {
        kind: {"method": "forward", "method_output_name": output} for kind in MODALITIES
    }
    kinds["message"]["format"] = "structured"
    return kinds


def _parts_of_messages(messages: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The kind and the value of each part of chat messages, in order; roles are of no effect."""
    for message in _as_list(messages):
        content = message.get("content")
        for item in [{"type": "text", "text": content}] if isinstance(content, str) else _as_list(content):
            kind = item.get("type", "text") if isinstance(item, dict) else None
            if kind not in ("text", "audio") or kind not in item:
                raise InputError(
                    f"{place}: a message has {item!r:.60}; give text or audio, as {{'type': 'text', 'text': ...}}"
                )
            yield kind, item[kind]


def _as_list(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else [values]


def read_part(kind: str, value: Any, place: str) -> list[str | np.ndarray]:
    """A text, or the waveform of audio: in pieces of a minute at most, which end in quiet moments.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if kind == "text" and isinstance(value, str):
        return [value]
    if kind != "audio":
        raise InputError(f"{place}: is of type {type(value).__name__}; give one text or audio")
    try:
        waveform = read_speech(_as_clip(value))
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    return [piece for _, piece in pieces(waveform, LONGEST_S)]


def _as_clip(audio: Any) -> Clip:
    """Audio in a form of sentence-transformers as a clip; of several channels their mean."""
    if isinstance(audio, str | Path | Clip):
        return audio if isinstance(audio, Clip) else Clip(audio)
    rate = Clip.rate
    if isinstance(audio, Mapping) and "array" in audio:
        audio, rate = audio["array"], int(audio.get("sampling_rate", rate))
    elif hasattr(audio, "get_all_samples"):  # torchcodec's decoder, which datasets gives
        samples = audio.get_all_samples()
        audio, rate = samples.data, samples.sample_rate
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if array.dtype.kind not in "fiu":
        raise InputError(f"is of type {type(audio).__name__}; give a path, samples, or samples with their rate")
    return Clip(array.mean(int(np.argmin(array.shape))) if array.ndim == 2 else array, rate=rate)
