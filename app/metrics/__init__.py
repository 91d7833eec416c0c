"""Metrics of all workers, for Prometheus and the page; only this package uses prometheus_client.

board.py         the shared memory in which each worker publishes its state
counting.py      counts the events of each registry, requests, downloads and their bytes
figures.py       `/metrics` and `/figures`, from the counts of all workers
meters.py        declares every metric once
multiprocess.py  fast counters, and the merged counts of workers that have ended
"""
