"""Manifests by tag and by digest.

by_digest.py  manifests by digest
by_tag.py     manifests by tag: a HEAD asks what the tag means now
copies.py     cached manifests, the most recently used in memory
fetch.py      fetches from the registry, verifies the answer and keeps it
tags.py       what the registry last said a tag means
"""
