"""What gunicorn needs from Docxy.

gunicorn loads these modules in its master, before it forks the workers and gevent patches them. So
they import nothing of `app` but what imports the standard library alone: `app.shared_memory` and
`app.log_lines`.

    arbiter.py        the master: it keeps the accepted settings; its reload waits for no download
    worker.py         the worker class: connections, and what is answered before there is a request
    connections.py    which connections make room for others
    request.py        a request with bounds that gunicorn's settings cannot express
    client_socket.py  the socket of a client, which notices one that stops reading
"""
