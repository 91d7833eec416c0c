"""The benchmark: Docxy beside nginx, on loopback, in one run. `python -m bench` runs it."""
