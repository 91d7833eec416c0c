"""The cache's disk: content by digest, who may read it, and small notes, shared by all workers."""
