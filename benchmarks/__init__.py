"""What kws costs on this machine, measured side by side: run `python -m benchmarks --help` in the repository's root."""
