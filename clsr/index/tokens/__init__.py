"""Token vectors of an index, for late interaction: compressed, stored once a token, compared by MaxSim."""
