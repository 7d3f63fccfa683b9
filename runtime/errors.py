"""The package's exceptions. Every message is one line: what is wrong, then what to do."""

LIBRARY_CURE = ", which this system lacks: "  # between cause and cure where OpenCV cannot load a library

BUSY = "another run is writing {path}: wait until it has ended, or name another --json"


class EngineError(RuntimeError):
    """An engine could not load or run a model."""


class EngineUnavailableError(EngineError):
    """The engine, its device or a required library is missing on this machine; the message says how to get it."""


class ChildDiedError(EngineError):
    """The process that ran an engine has ended before it answered. The request can be repeated in a new process."""


class BundleError(ValueError):
    """A bundle is incomplete, altered, or of a schema that this version cannot read."""


class MediaError(ValueError):
    """A picture, video, box file or output path cannot be used."""


class FileWriteError(OSError, MediaError):
    """A file cannot be written."""
