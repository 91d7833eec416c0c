"""Hides the package from the programs that tests start: only the tests themselves require it.

PyJWT imports it wherever it is installed, for algorithms that Docxy does not use. An installation
of requirements.txt has none, and starts in two thirds of the time.
"""

raise ModuleNotFoundError(__doc__, name=__name__)
