"""One registry as a Source: the HTTP requests that serve clients are all made here.

auth/        token services, our own tokens, and placeholder tokens
client.py    Upstream, the Source of one registry
http/        sessions, connections, responses, redirects, retries and deadlines
managed.py   a Source that uses this proxy's own account
replies.py   turns a response into a Reply; refusals, and the pulls left
resume.py    resumes a body where it broke off
search.py    Docker Hub's search index
verified.py  verifies the digest of a blob that is relayed
"""
