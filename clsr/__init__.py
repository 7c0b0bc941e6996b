"""clsr: find the right moment in hours of speech. A question comes in; ranked, playable moments come out."""

__version__ = "0.1.0"
