"""Blobs: from the store, from a running fetch, or from the registry.

blobs.py       decides where a blob comes from
fetching.py    asks the registry for parts of a blob, for all of its readers
ranges.py      which parts of a blob an answer carries
request.py     a client's request, and what it asks of the registry
serve.py       the answers
unfinished.py  where blobs lie that are being fetched, and how they move to the store
"""
