"""The network in MindSpore, its training, and procedural faces."""

import contextlib

# MindSpore selects protobuf's implementation in pure Python, which takes 0.5 s per model file. The compiled one, which
# takes 0.05 s, stays selected if it is imported before MindSpore.
with contextlib.suppress(ImportError):
    import google.protobuf.descriptor  # noqa: F401
