"""Every setting, declared once; the environment and the file become settings, or one message.

load.py        reads the environment and the file, and words the faults
registries.py  the table `[[registries]]`
rules.py       the tables `[[rules]]` and `[groups]`
settings.py    every setting, declared once
types.py       sizes, times, URLs and other values of settings
"""
