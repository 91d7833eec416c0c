"""Decides which clients may use this proxy, and for what, before it contacts any registry.

downloads.py     how much each client may use, and its concurrent downloads, in memory
htpasswd.py      the file of users, read again when it changes
image_facts.py   image metadata (platform, creation date), cached by digest
image_policy.py  applies rules about digests and image metadata
limits.py        the limits of one client: requests, downloads, bytes and pulls
logins.py        checks passwords, and slows down guessing by network
networks.py      client addresses, networks, and the allow and deny lists
rules.py         the `[[rules]]`: patterns, conditions and the decision
shared_redis.py  the connection to Redis, shared by all limits, and the downloads in it
tokens.py        the tokens that this proxy signs for its users
turns.py         the order in which waiting logins are checked
users.py         the interface of a set of users, and the single shared secret
windows.py       counters for fixed windows of time
"""
