"""Rivals of CLSR, one file each."""
