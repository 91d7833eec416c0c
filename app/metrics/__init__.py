"""What is counted and shown; prometheus_client is used here only.

board.py         memory in which each worker shows what it does
counting.py      the Observer of one registry, which counts
figures.py       `/metrics` and `/figures`, from the counts of all workers
meters.py        every metric, declared once
multiprocess.py  fast counters, and the counts of workers that have ended
watching.py      counts requests, downloads and their bytes
"""
