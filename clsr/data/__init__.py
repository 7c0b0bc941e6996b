"""Speech and questions on disk: Kaldi data directories, retrieval sets, synthesis."""
