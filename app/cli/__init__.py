"""Flask commands for operators: `flask cache ...` and `flask access ...`.

check.py       `flask access check`
commands.py    registers the commands
context.py     the cache, registries and rules that the commands work with
images.py      parses image names as an operator writes them
reading.py     reads manifests and blobs as a client does
remove.py      `flask cache remove`
statistics.py  `flask cache statistics` and `flask cache verify`
units.py       formats sizes and counts, and parses ages
warm.py        `flask cache warm`
warming.py     finds out which manifests and blobs an image needs, and fetches them
"""
