"""Blobs that are being fetched: files that grow, read by many, filled by one.

chunk_size.py   how much is read at once
fetches.py      the fetches of one registry: lead one, or join it
files.py        the pair of files of a fetch, and what earlier ones have left
filling.py      fills a spool from an upstream body
lead.py         the right to fill a spool
reading.py      a body read from a growing spool
record.py       the state of a fetch, on disk
resuming.py     asks the registry for the rest of a blob
shared.py       a fetch as its readers in this process see it
shared_file.py  a file, its locks, and a descriptor that is only lent
unread.py       who pays for a fetch that nobody reads
writing.py      writes and hashes what comes
"""
