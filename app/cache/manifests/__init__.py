"""Manifests by tag and by digest.

by_digest.py  manifests by digest
by_tag.py     manifests by tag: a HEAD tells what the tag means now
copies.py     kept manifests, the hottest ones in memory
fetch.py      asks the registry, verifies the answer and keeps it
tags.py       what the registry last said a tag means
"""
