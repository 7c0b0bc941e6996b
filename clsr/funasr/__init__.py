"""FunASR's releases: their import, and parity with them."""
