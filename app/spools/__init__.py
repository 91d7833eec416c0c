"""Spools: growing files of blobs that are being fetched, each with one fetcher and many readers.

fetches.py      the fetches of one registry: lead one, or join it and read
files.py        the two files of a fetch, its bytes and its state, and cleaning up unfinished ones
filling.py      fills a spool from a registry's answer, and asks for the rest of a blob
lead.py         the right to fill a spool, and how many fetches may run unread
reading.py      a body read from a growing spool
shared_file.py  a file, its locks, and a descriptor that is only lent
writing.py      writes and hashes incoming bytes
"""
