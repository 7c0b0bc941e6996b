"""clsr: find the right moment in hours of speech. A question comes in; ranked, playable moments come out."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for one another, on cores that another process could use: two trainings at once
# then take many times as long as one after the other. They sleep instead, unless whoever runs us says otherwise.
# OpenMP reads this when torch loads, and processes started from here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
