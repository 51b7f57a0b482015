"""The exceptions of DB-API 2.0 (PEP 249). Their texts hold no secret."""


class Warning(Exception):  # noqa: A001 - the name that PEP 249 gives
    """Something that the caller should know, though the statement went on."""


class Error(Exception):
    """Base of all errors of this module."""


class InterfaceError(Error):
    """The module was used in a wrong way, or a connection property is wrong."""


class DatabaseError(Error):
    """Base of errors of the statement or the source."""


class DataError(DatabaseError):
    """A value does not fit: out of range, not convertible."""


class OperationalError(DatabaseError):
    """The API refused or did not answer, a limit was reached, a file is locked."""


class IntegrityError(DatabaseError):
    """Never raised: nothing is written."""


class InternalError(DatabaseError):
    """The engine or this module is at fault."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, unknown table or column, missing filter, number of parameters."""


class NotSupportedError(DatabaseError):
    """The statement would do something else than read."""
