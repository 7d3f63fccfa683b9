"""From a checkpoint to a bundle, and reading of model files."""

import synergy.synergy_model  # noqa: F401 # before MindSpore, see there
