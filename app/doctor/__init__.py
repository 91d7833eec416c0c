"""`python -m app.doctor`: find what is wrong with an installation, and what to change.

__main__.py     the command line
challenges.py   reads the challenge of `/v2/` as clients do, and tests forged headers
examination.py  the steps of an examination, in order
findings.py     every finding, with its title and remedy
front.py        tests what the server in front does to requests and responses
http.py         an HTTP client that uses only the standard library
machine.py      checks the settings and the cache's disk of this machine
network.py      checks names, connections and certificates
pulling.py      pulls an image, step by step
report.py       formats the findings, as text or JSON
target.py       the proxy, the image and the login to test with
token_flow.py   requests a manifest with a token; checks pulls left and clocks
"""
