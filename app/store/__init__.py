"""Storage for the cache: content by digest, who may read it, and notes. All workers share it.

Outside this room only blobs.py, errors.py, leases.py, ledger.py and storage.py are known, except
where app/factory.py opens a storage.

admin.py          statistics, verification and removal in a directory
blobs.py          BlobStore: verified content by registry and digest; the protocol
contents.py       content in files: opened, read or sent, and committed
entries.py        the index rows of content, and the journal of files on the move
errors.py         StoreError and the faults it reports
eviction.py       evicts the least recently used content
index.py          the SQLite index, and how it is rebuilt
layout.py         the store's directory: paths, opening files, staging folders and flags
leases.py         Leases: the right to do something alone; the protocol, files, and memory
ledger.py         Ledger: who may read what, and notes; the protocol, its values and its clock
memory.py         a storage in memory, for tests
memory_blobs.py   a blob store in memory, for tests
memory_ledger.py  a ledger in memory, for tests
schema.py         the tables of the index
secret.py         the random key that all workers share
sqlite_ledger.py  grants, members and what is public, in the index
sqlite_notes.py   notes, and when a registry last refused something, in the index
storage.py        Storage: the parts that a cache is built on; Admin, the protocol for operators
store.py          the Store: one directory; opens its storage
"""
