"""Turns the environment and the configuration file into settings, or into one error message.

load.py        reads the environment and the file, and writes the messages about faults
registries.py  the table `[[registries]]`
rules.py       the tables `[[rules]]` and `[groups]`
settings.py    every setting, declared once
types.py       sizes, times, URLs and other types of values
"""
