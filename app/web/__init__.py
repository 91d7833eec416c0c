"""The web page and the client configuration: functions that build texts, and views for them.

api.py        the JSON endpoints that the page's scripts call
assets.py     style sheets, scripts and images
clients.py    the clients, with the configuration file that each one needs
config.py     `/config/<client>`
files.py      the contents of those configuration files
formats.py    finds image names in YAML, commands and Dockerfiles
images.py     parses an image name as Docker does
languages.py  the languages and their texts
page.py       the page itself
proxy.py      this proxy's address and registries, as its clients see them
readout.py    formats the figures for the page
rewriting.py  rewrites image names in what a user pastes
setup.py      the steps to set up each client and log in
shown.py      the examples of the page, and highlighting
"""
