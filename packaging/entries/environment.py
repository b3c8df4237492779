"""Runs first in both programs: gives back the user's LD_LIBRARY_PATH.

PyInstaller's starter sets it to our folder, for this process; a browser or a file manager that we
start must not find our libraries.
"""

import os

theirs = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
if theirs is not None:
    os.environ["LD_LIBRARY_PATH"] = theirs
else:
    os.environ.pop("LD_LIBRARY_PATH", None)
