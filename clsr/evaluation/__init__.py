"""How well speech is recognised and found: word errors, recall, reports and their plots."""
