"""MindSpore Lite without its Python package: fetch it, build a small C++ binding, run and convert models."""
