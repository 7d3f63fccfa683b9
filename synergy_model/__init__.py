"""The network in MindSpore, its training, and procedural faces."""

import os

# MindSpore would select protobuf's implementation in pure Python, which takes 0.5 s to parse a model file. This is the
# compiled one, which takes 0.05 s.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "upb")
