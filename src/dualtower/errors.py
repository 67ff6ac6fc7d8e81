"""The errors that a user of dualtower can meet, each with a message in plain words."""


class DualtowerError(Exception):
    """Base of all errors raised on purpose; the command line prints its message without a trace."""


class DataError(DualtowerError):
    """A table or file is not as it should be; the message names file, column, row and remedy."""


class ConfigError(DualtowerError):
    """A setting is missing, unknown or out of range; the message names field and remedy."""


class BundleError(DualtowerError):
    """A bundle or dataset on disk is incomplete, damaged or of another format version."""


class NotFittedError(DualtowerError):
    """A model was used before `dualtower.fit` trained it."""


class CollapseWarning(UserWarning):
    """The model's representations have collapsed: its scores no longer tell items apart."""


class StoreError(DualtowerError):
    """The store of live events cannot be opened, read or written; nothing was acknowledged."""


class StoreUnsureError(StoreError):
    """The connection ended while events were written: they may be in the store, or not."""
