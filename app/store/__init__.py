"""The cache's disk: content by digest, who may read it, and notes, shared by all workers.

admin.py     statistics, verification and removal, for operators
clock.py     time since the boot of the machine
commit.py    a verified file becomes content
contents.py  content by registry and digest
entries.py   the rows of content, and the journal of moves
errors.py    StoreError
eviction.py  evicts what was least recently used
flags.py     flags that all processes see even when the disk fails
grants.py    who may read a repository, and until when
index.py     the SQLite index, and how it is built anew
layout.py    paths, and descriptors below them
members.py   which digests a repository holds
notes.py     small values by kind and key, bounded in number and bytes
refusals.py  when a registry has last said no
schema.py    the tables of the index
staging.py   files that are not content yet, or not any more
store.py     the Store: one directory
"""
