"""The page and what belongs to it: pure texts, and views that show them.

api.py        what the page's scripts ask for
assets.py     style sheets, scripts and images
clients.py    the file that each client needs
config.py     `/config/<runtime>`
files.py      the texts of those files
formats.py    finds image names in YAML, commands and Dockerfiles
images.py     the address of an image through this proxy
languages.py  the languages and their texts
page.py       the page itself
proxy.py      this proxy as its users see it
readout.py    the figures as texts
rewriting.py  rewrites image names in what a user pastes
setup.py      how each client is set up and logs in
shown.py      what the page shows to whom
"""
