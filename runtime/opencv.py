"""Imports OpenCV. Where a library of the system is missing, as in slim containers, the error says what to install."""

from __future__ import annotations

import re

from synergy.runtime.errors import LIBRARY_CURE

try:
    import cv2 as cv2
except ImportError as error:
    missing = re.search(r"lib[-\w.]+\.so[.\d]*(?=: cannot open)", str(error))
    if missing is None:
        raise
    raise ImportError(
        f"OpenCV cannot load {missing[0]}{LIBRARY_CURE}pip uninstall -y opencv-python && "
        "pip install 'opencv-python-headless<5', or on Debian apt-get install libgl1 libglib2.0-0"
    ) from error
