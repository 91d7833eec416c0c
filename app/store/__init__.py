"""The cache on disk: content by digest, who may read it, and notes. All workers share it.

admin.py     statistics, verification and removal, for operators
clock.py     time since the boot of the machine
commit.py    makes content of a verified file
contents.py  opens content by registry and digest
entries.py   the index rows of content, and the journal of files on the move
errors.py    StoreError and the faults it reports
eviction.py  evicts the least recently used content
flags.py     flags that all processes see even when the disk fails
grants.py    who may read a repository, and until when
index.py     the SQLite index, and how it is rebuilt
layout.py    paths in the store's directory, and opening files there
members.py   which digests a repository holds
notes.py     small values by kind and key, bounded in number and bytes
refusals.py  when a registry last refused something
schema.py    the tables of the index
staging.py   a folder for each process, for files that are still being written
store.py     the Store: one directory
"""
