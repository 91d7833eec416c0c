"""Blobs: from the store, from a running fetch, or from the registry.

blobs.py  decides where a blob comes from
lead.py   leads a fetch for all readers of a blob
serve.py  a request for a blob, and the answers from a file, cached or still growing
"""
