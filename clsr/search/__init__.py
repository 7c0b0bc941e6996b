"""A query -> windows of an index -> ranked moments that answer it."""
