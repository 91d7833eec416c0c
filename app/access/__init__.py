"""Decides who may ask this proxy, and for what, before any registry is asked.

downloads.py     downloads at once: places in memory, or leases in Redis
htpasswd.py      the file of users, read again when it changes
image_facts.py   what images say of themselves, remembered by digest
limits.py        the limits of one client: requests, downloads, bytes and pulls
logins.py        checks passwords, and slows guesses by network
networks.py      networks, lists of them, and the client's address
rules.py         the `[[rules]]`: patterns, conditions and the decision
shared_redis.py  the connection to Redis, shared by all limits
tokens.py        the tokens that this proxy signs for its users
turns.py         the order in which waiting logins are checked
users.py         users of a file, or one shared secret
windows.py       windows of time in which something is counted
"""
