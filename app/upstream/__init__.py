"""The only place that speaks HTTP outwards: one registry as a Source.

auth/       token services, our own tokens, and placeholders
client.py   Upstream, the Source of one registry
http/       sessions, connections, answers, redirects, retries and deadlines
managed.py  a Source that uses this proxy's own account
replies.py  a response becomes a Reply; refusals, and the pulls left
resume.py   a body that goes on where it broke off, and is verified
search.py   Docker Hub's index
"""
