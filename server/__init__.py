"""Docxy's extensions of gunicorn.

gunicorn loads these modules in its master, before it forks the workers and gevent patches them. So
they import only `app.shared_memory` from `app`, which in turn imports the standard library alone.

    arbiter.py        the master: it keeps the accepted settings, and reloads without waiting
    worker.py         the worker class: it accepts, serves and ends connections
    connections.py    decides which waiting connections make room for others
    request.py        a request with bounds that gunicorn's settings cannot express
    client_socket.py  a client's socket, which detects a client that stops reading
"""
