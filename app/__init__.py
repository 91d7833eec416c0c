"""Docxy: a registry proxy.

`factory.create_app` wires everything; docs/architecture.md has the map of the rooms.

Nothing is imported here, so that gunicorn's master can import `shared_memory` and `log_lines`
before gevent patches the workers.
"""
