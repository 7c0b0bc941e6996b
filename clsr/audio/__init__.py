"""Recordings -> waveforms -> features: decoding, voice activity, pauses, filter banks."""
