"""Runs first in both programs: gives back the user's LD_LIBRARY_PATH.

PyInstaller's starter sets it to our folder and starts the program again; a browser or a file
manager that we start must not find our libraries. A program of ours that we start must: without
the second line its starter would take our folder for set.
"""

import os

theirs = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
if theirs is not None:
    os.environ["LD_LIBRARY_PATH"] = theirs
else:
    os.environ.pop("LD_LIBRARY_PATH", None)
