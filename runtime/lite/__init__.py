"""MindSpore Lite without its Python package: install it, build a C++ binding, run and convert models."""
