"""Folders of text encoders, and text to vectors without PyTorch, whose import takes a second and more."""
