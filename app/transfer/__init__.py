"""Blobs that are being fetched: chunks in a file, those who fetch them, and those who read them.

allowance.py      makes room on the disk for a fetch of parts
chunk_map.py      which bytes of a blob have arrived, on disk
connections.py    the connections of a fan, and how many there should be
fan.py            the connections over which a blob comes
files.py          the two files of a fetch, their locks, and cleaning up unfinished ones
lease.py          the right to write some chunks
partial_blob.py   a blob being fetched, as this process sees it
patience.py       when the next fetch begins after one that has failed
place.py          the place that serves the bytes, if the registry redirects to one
readers.py        who reads a blob, and slots that bound what runs at once
reading.py        the body of a response, read while chunks arrive
rest.py           an answer with bytes of a blob
shared_blob.py    what the users of a blob in one process share
shared_facts.py   what the workers of a machine tell each other about a blob
shared_file.py    a file, its locks, and a descriptor that is only lent
transfers.py      the fetches of one registry: begin one, or join it
verification.py   hashes a blob in order
watch.py          bounds and charges what nobody reads
writing.py        writes incoming bytes
"""
