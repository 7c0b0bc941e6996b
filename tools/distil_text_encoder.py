#!/usr/bin/env python3
"""Distil a text encoder of another width, with the same pieces, from a larger one: a folder for --text-encoder.

The student is a BERT of a few layers. Its word embeddings start as the teacher's, projected onto their principal
components, and its vectors learn the cosines between the teacher's own vectors of the same batch, by mean squared
error. Texts are the lines of text files, the transcripts of Kaldi tables (text), and the questions and contexts of
JSON lines.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.models.bert import Bert
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.vocabulary import normalise

BATCH = 64
LONGEST = 96  # tokens of a text
LOG_EVERY = 100  # steps


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a file, normalised as transcripts are, each once."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if path.suffix == ".jsonl":
            row = json.loads(line)
            yield from (normalise(row[key]) for key in ("question", "context") if row.get(key))
        else:
            yield normalise(line.partition(" ")[2] if path.name == "text" else line)


def make_student(teacher: TextEncoder, width: int, layers: int) -> Bert:
    """A small BERT whose word embeddings are the teacher's, projected onto ``width`` principal components.

    Its layers add nothing at first: a text's vector is the mean of its words' embeddings, which training improves.
    """
    config = student_config(teacher, width, layers)
    student = Bert(config)
    rows = teacher.word_embeddings.float()
    _, _, components = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    with torch.no_grad():
        student.word_embeddings.weight.copy_(rows @ components[:width].T)
        for name, weight in student.named_parameters():
            if name.endswith("output.dense.weight") or "position_embeddings" in name or "token_type" in name:
                weight.zero_()
    return student


def student_config(teacher: TextEncoder, width: int, layers: int) -> dict:
    """Its ``config.json``."""
    return {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "pad_token_id": 0,
        "vocab_size": len(teacher.word_embeddings), "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width, "max_position_embeddings": 512,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip


def distil(student: TextEncoder, teacher: TextEncoder, texts: Sequence[str], minutes: float, seed: int) -> int:
    """Train for so many minutes of a processor, and return the number of steps."""
    vectors = teacher.encode(texts)
    ids = [student.token_ids(text)[:LONGEST] for text in texts]
    weights = list(student.parameters())
    optimizer = torch.optim.AdamW(student.requires_grad_(True).parameters(), 1e-3, weight_decay=0.01)
    draw, end_s, start_s, steps = random.Random(seed), time.process_time() + 60 * minutes, time.process_time(), 0
    while time.process_time() < end_s:
        batch = draw.sample(range(len(texts)), BATCH)
        share = (time.process_time() - start_s) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (steps + 1) / 100) * max(0.02, 1 - share)
        found = student.encode_ids([ids[i] for i in batch])
        loss = 100 * nn.functional.mse_loss(_cosines(found), _cosines(vectors[batch]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        steps += 1
        if steps % LOG_EVERY == 0:
            print(f"step {steps}: {loss.item():.3f}", flush=True)
    return steps


def _cosines(vectors: Tensor) -> Tensor:
    return vectors @ vectors.T


def save(student: Bert, config: dict, teacher: TextEncoder, folder: Path) -> None:
    """Write a sentence-transformers folder: mean pooling, the teacher's tokenizer."""
    (folder / "1_Pooling").mkdir(parents=True)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True}
    for name, content in (("config.json", config), ("modules.json", modules), ("1_Pooling/config.json", pooling)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    teacher.tokenizer.save(str(folder / "tokenizer.json"))
    weights = {name: weight.detach().contiguous() for name, weight in student.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Distil and write the student."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--teacher", default=OFFLINE_TEXT_ENCODER)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, on one processor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    teacher = load_text_encoder(options.teacher)
    texts = list(dict.fromkeys(text for path in options.texts for text in read_texts(path) if text))
    student = make_student(teacher, options.width, options.layers)
    encoder = TextEncoder(student, teacher.tokenizer, "mean", teacher.prompts, options.output, "")
    steps = distil(encoder, teacher, texts, options.minutes, options.seed)
    save(student, student_config(teacher, options.width, options.layers), teacher, options.output)
    print(f"{options.output}: {steps} steps on {len(texts)} texts")


if __name__ == "__main__":
    main()
