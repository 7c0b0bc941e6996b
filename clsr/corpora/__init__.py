"""Makers of corpora: synthetic voices, SQuAD, tables of recordings, long recordings."""
