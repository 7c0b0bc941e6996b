"""How fast it is: encoding, search and training, with rivals in the same run, as a share of what the machine can do."""
