"""A tiny Whisper release with random weights, in Hugging Face's layout, that knows the language of tones."""

from pathlib import Path

import pytest
import torch

from clsr.whisper.conversion import convert_whisper

MARKS = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]


@pytest.fixture(scope="session")
def whisper_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import WhisperConfig, WhisperModel

    folder = tmp_path_factory.mktemp("whisper_release")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([" red blue green old dog cat sun boat"] * 3, 300, special_tokens=MARKS)
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, encoder_layers=2, encoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=64, max_target_positions=64,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperModel(sizes)
    model.decoder.embed_tokens.weight.data *= 50  # frozen: far enough apart to tell tokens
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, whisper_release: Path, tiny_bert: Path) -> Path:
    """Untrained checkpoint that starts from the release."""
    folder = tmp_path_factory.mktemp("converted") / "start"
    convert_whisper(whisper_release, folder, str(tiny_bert))
    return folder
