"""A copy of the database that is whole while the app goes on writing."""

import sqlite3
from contextlib import closing
from pathlib import Path

from dflash_app.errors import StoreError
from dflash_app.store.connect import store_errors


def write_snapshot(database: Path, target: Path) -> int:
    """Copy the database as it is at one moment into one file that needs no others beside it.

    Copying the file itself would miss what still stands in its write-ahead log. Writers go on
    meanwhile.

    Args:
        database: the store's file.
        target: a file that is not there yet, readable for the user alone.

    Returns:
        The copy's size in bytes.

    Raises:
        StoreError: the one cannot be read, or the other not be written.
    """
    try:
        target.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise StoreError(
            f"The copy {target} cannot be written ({error.strerror}): name a file that is not "
            "there yet, in a folder that is yours."
        ) from error
    try:
        with store_errors(database):
            source = f"{database.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(source, uri=True)) as connection:
                connection.execute("VACUUM INTO ?", [str(target)])
            return target.stat().st_size
    except BaseException:
        target.unlink()
        raise
