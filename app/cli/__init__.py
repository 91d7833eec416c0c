"""Flask's commands for an operator: `flask cache ...` and `flask access ...`.

check.py       `flask access check`
commands.py    registers the commands
context.py     what the commands work with
images.py      image names as an operator writes them
reading.py     reads manifests and blobs as a client does
remove.py      `flask cache remove`
statistics.py  `flask cache statistics` and `flask cache verify`
units.py       amounts and times as people write them
warm.py        `flask cache warm`
warming.py     which manifests and blobs an image needs, and fetches them
"""
