"""What is measured: word errors, recall, answers."""
