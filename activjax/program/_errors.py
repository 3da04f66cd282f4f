"""Errors of the program layer."""


class UnsupportedError(NotImplementedError):
    """An operation that cannot be opened holds something that was asked for."""
