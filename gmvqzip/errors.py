"""The exception tree. Every error that a user can cause derives from `GmvqError` and reads as one clear line."""


class GmvqError(Exception):
    """Base of all errors raised on purpose by gmvqzip; `str(error)` is one line: what is wrong, and what to do."""


class FormatError(GmvqError):
    """A `.gmvq` file is foreign, damaged, cut, from a newer version, or beyond a limit."""


class ImageError(GmvqError):
    """A picture cannot be read, or cannot be written in the wanted format."""


class ModelError(GmvqError):
    """A model is missing, damaged, or not of this version; or a file names a model that is not installed."""


class TrainingError(GmvqError):
    """Training cannot start or go on: missing data, foreign checkpoint, a loss that is not finite."""


class OutputError(GmvqError):
    """An output cannot be written: it exists, is a directory, is the input itself, or the file system refuses."""
