"""Blobs that are being fetched: files that grow, read by many, filled by one."""
