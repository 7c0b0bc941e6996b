"""Recordings -> windows -> vectors in a LanceDB table -> ranked moments that answer a question."""
