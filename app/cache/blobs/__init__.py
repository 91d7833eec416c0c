"""Blobs: from the store, from a running fetch, or from the registry.

blobs.py       decides where a blob comes from
byte_range.py  which bytes an answer carries
lead.py        leads a fetch for all readers of a blob
serve.py       answers from a file, cached or still growing
"""
