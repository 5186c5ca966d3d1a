"""The trainer: plan, data, configuration, engine, reports.

OpenCV reads its limit of pixels when it is loaded, so it is set here, before anything can import it.
"""

import os

MAX_PIXELS = 178_956_970
"""Of one picture, 537 MB when it is decoded; Pillow's own limit. OPENCV_IO_MAX_IMAGE_PIXELS is for larger pictures."""

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
