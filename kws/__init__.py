"""Keyword-spotting experiments, tracked on Weights & Biases, with or without a server."""

__version__ = "0.1.0"
