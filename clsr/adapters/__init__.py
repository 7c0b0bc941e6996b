"""Retrievers for other libraries, each optional: it needs the library it is for."""
