"""Blobs: from the store, from a running fetch, or from the registry.

blobs.py  decides where a blob comes from
serve.py  a request for a blob: asked of the registry, for one or for all, and answered
"""
