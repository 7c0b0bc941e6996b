#!/usr/bin/env python
"""Make a small text encoder with random weights that knows the characters of a training text, to be trained on it.

It is a sentence-transformers folder: a BERT of two layers, mean pooling, and a WordPiece vocabulary of the Han
characters in the text, the letters, digits and marks of ASCII, and Chinese marks. It stands in for a real encoder of
Chinese (bge-base-zh-v1.5) where none is at hand, and bounds everything that is built on it.
"""

import argparse
import json
import unicodedata
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer

from clsr.corpora.script import run_script
from clsr.data.kaldi import write_lines
from clsr.errors import InputError
from clsr.models.bert import Bert

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ASCII = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
MARKS = list("，。、；：？！「」『』（）《》〈〉・·…—～％")
MAX_TOKENS = 512


def read_texts(paths: list[Path]) -> list[str]:
    """Questions and contexts of JSONL files.

    Raises:
        InputError: a file is missing or holds something else.
    """
    texts = []
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; name JSONL of question and context")
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                row = json.loads(line)
                texts += [row["question"], row["context"]]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}:{number}: is no object with question and context; mend it") from error
    return texts


def make_vocabulary(texts: list[str]) -> list[str]:
    """Pieces: specials, ASCII and marks, then whatever else the texts have, most frequent first.

    Letters and digits also go on within a word (``##a``), so that any word of ASCII can be written.
    """
    counts = Counter(c for text in texts for c in unicodedata.normalize("NFKC", text).lower() if not c.isspace())
    fixed = [*SPECIAL, *ASCII, *(f"##{c}" for c in ASCII if c.isalnum()), *MARKS]
    others = sorted((c for c in counts if c not in set(fixed)), key=lambda c: (-counts[c], c))
    return [*fixed, *others]


def write_encoder(folder: Path, pieces: list[str], width: int, layers: int, seed: int) -> None:
    """Write the sentence-transformers folder, ``modules.json`` last."""
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "vocab_size": len(pieces),
        "max_position_embeddings": MAX_TOKENS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    bert = Bert(config)
    for name, weight in bert.named_parameters():
        if weight.dim() == 2:  # as BERT starts, but for the words: those say something from the start
            torch.nn.init.normal_(weight, std=0.2 if "word_embeddings" in name else 0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(weight)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    save_file(bert.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_lines(folder / "vocab.txt", (f"{piece}\n" for piece in pieces))
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")))
    ]
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    described = {
        "config.json": config,
        "1_Pooling/config.json": pooling,
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **special},
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "modules.json": modules,
    }
    for name, content in described.items():
        write_lines(folder / name, [json.dumps(content, indent=2) + "\n"])


def width(text: str) -> int:
    """The number that an option gives, some heads of 32."""
    value = int(text)
    if value < 32 or value % 32:
        raise ValueError(text)
    return value


def main() -> None:
    """Read the command line and make the text encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, nargs="+", help="JSONL of question and context")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--width", type=width, default=256, help="a multiple of 32 (256)")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    run_script(
        parser,
        lambda args: write_encoder(
            args.output, make_vocabulary(read_texts(args.texts)), args.width, args.layers, args.seed
        ),
    )


if __name__ == "__main__":
    main()
