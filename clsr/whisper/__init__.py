"""Whisper releases: their weights, and checkpoints that start from them."""
