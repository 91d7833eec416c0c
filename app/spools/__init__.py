"""Spools: growing files of blobs that are being fetched. One fetcher fills each, and many read it.

fetches.py      the fetches of one registry: lead one, or join it
files.py        the two files of a fetch, and cleaning up unfinished ones
filling.py      fills a spool from an upstream body
lead.py         the right to fill a spool
reading.py      a body read from a growing spool
record.py       the state of a fetch, on disk
resuming.py     asks the registry for the rest of a blob
shared.py       a fetch as its readers in this process see it
shared_file.py  a file, its locks, and a descriptor that is only lent
unread.py       who reads a fetch, and how many may run unread
writing.py      writes and hashes incoming bytes
"""
