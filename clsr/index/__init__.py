"""Recordings -> windows -> vectors in LanceDB tables, verified and searchable."""
