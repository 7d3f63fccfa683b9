"""Failures that a caller can act on. Every message is one line: what is wrong, then what to do."""


class EngineError(RuntimeError):
    """An engine could not load or run a model."""


class EngineUnavailableError(EngineError):
    """The engine, its device or a library it needs is missing here; the message says how to get it."""


class ChildDiedError(EngineError):
    """The process that ran an engine is gone: whether it would have answered is not known, and another one may."""


class BundleError(ValueError):
    """A bundle is incomplete, altered, or of a schema this version cannot read."""


class MediaError(ValueError):
    """A picture, box file or output path cannot be used."""
