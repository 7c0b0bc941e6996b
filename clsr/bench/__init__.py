"""How fast encoding, search and training are, baselines in the same run, as a share of what the machine can do."""
