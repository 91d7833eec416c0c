"""`python -m app.doctor`: what is wrong with a set-up, and what to change.

__main__.py     the command line
challenges.py   reads challenges as clients do
examination.py  the steps of an examination, in order
findings.py     every finding: its title and its remedy
front.py        what the server in front does to answers and pushes
http.py         HTTP with the standard library alone
machine.py      settings, cache and limits of this machine
network.py      names, connections and certificates
pulling.py      a pull, step by step
report.py       prints the findings
target.py       the proxy, the image and the login that are examined
token_flow.py   pings, challenges and tokens
"""
