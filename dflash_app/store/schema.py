"""The database's shape: numbered migrations, applied once each and recorded in a table."""

from datetime import UTC, datetime

import sqlite_utils

from dflash_app.errors import StoreCorrupt, StoreTooNew

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL,
            group_id TEXT,
            lease TEXT,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            pair TEXT NOT NULL,
            target_revision TEXT,
            drafter_revision TEXT,
            backend TEXT NOT NULL,
            device TEXT NOT NULL,
            dtype TEXT NOT NULL,
            mode TEXT NOT NULL,
            block_size INTEGER,
            temperature REAL NOT NULL,
            top_p REAL NOT NULL,
            top_k INTEGER NOT NULL,
            seed INTEGER,
            max_new_tokens INTEGER NOT NULL,
            stop TEXT NOT NULL,
            thinking TEXT,
            messages TEXT NOT NULL,
            prompt TEXT NOT NULL,
            output TEXT NOT NULL DEFAULT '',
            token_ids TEXT NOT NULL DEFAULT '[]',
            finish_reason TEXT,
            error TEXT,
            num_prompt_tokens INTEGER,
            num_output_tokens INTEGER,
            num_steps INTEGER,
            queue_s REAL,
            ttft_s REAL,
            decode_s REAL,
            total_s REAL,
            tpot_s REAL,
            decode_tok_s REAL,
            end_to_end_tok_s REAL,
            mean_acceptance_length REAL,
            acceptance_by_position TEXT,
            acceptance_histogram TEXT,
            propose_s REAL,
            verify_s REAL,
            peak_memory_bytes INTEGER,
            app_version TEXT NOT NULL,
            library_versions TEXT NOT NULL,
            hardware TEXT NOT NULL
        )""",
        "CREATE INDEX runs_group_id ON runs (group_id) WHERE group_id IS NOT NULL",
        "CREATE INDEX runs_unfinished ON runs (lease) WHERE finish_reason IS NULL",
    ),
    (
        "ALTER TABLE runs ADD COLUMN min_p REAL NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN repetition_penalty REAL NOT NULL DEFAULT 1",
    ),
    (
        "ALTER TABLE runs ADD COLUMN rollback_kind TEXT",
        "ALTER TABLE runs ADD COLUMN quantization TEXT",
        "ALTER TABLE runs ADD COLUMN drafter_quantization TEXT",
        "ALTER TABLE runs ADD COLUMN trained_block_size INTEGER",
        "ALTER TABLE runs ADD COLUMN num_reused_tokens INTEGER",
    ),
    (
        "ALTER TABLE runs ADD COLUMN path TEXT",
        "ALTER TABLE runs ADD COLUMN drafter_path TEXT",
        "ALTER TABLE runs ADD COLUMN policy TEXT",
    ),
    (
        "ALTER TABLE runs ADD COLUMN owner TEXT",
        "ALTER TABLE runs ADD COLUMN task TEXT",
        # All that runs are filtered and sorted by: whole rows hold texts, 60 times as much.
        """CREATE INDEX runs_overview ON runs (
            pair, mode, backend, source, finish_reason, task, owner, started_at,
            decode_tok_s, mean_acceptance_length, num_output_tokens
        )""",
        """CREATE TABLE run_events (
            run_id INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
            events BLOB NOT NULL
        )""",
        """CREATE TABLE chats (
            id TEXT PRIMARY KEY,
            owner TEXT,
            title TEXT NOT NULL DEFAULT '',
            renamed INTEGER NOT NULL DEFAULT 0,
            settings TEXT NOT NULL DEFAULT '{}',
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL
        )""",
        "CREATE INDEX chats_by_owner ON chats (owner, updated_at)",
        """CREATE TABLE turns (
            chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            role TEXT NOT NULL,
            content TEXT,
            run_id INTEGER,
            finish_reason TEXT,
            created_at TEXT NOT NULL,
            PRIMARY KEY (chat_id, position)
        )""",
    ),
    (
        "ALTER TABLE runs ADD COLUMN at_client INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE runs ADD COLUMN acceptance_source TEXT",
        "ALTER TABLE runs ADD COLUMN acceptance_shared INTEGER NOT NULL DEFAULT 0",
    ),
    (
        """CREATE TABLE benchmarks (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            plan TEXT NOT NULL,
            hardware TEXT NOT NULL,
            library_versions TEXT NOT NULL,
            app_version TEXT NOT NULL,
            created_at TEXT NOT NULL,
            finished_at TEXT,
            lease TEXT,
            launch TEXT,
            owner TEXT,
            shares_left INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE benchmark_questions (
            benchmark_id INTEGER NOT NULL REFERENCES benchmarks (id) ON DELETE CASCADE,
            dataset TEXT NOT NULL,
            position INTEGER NOT NULL,
            question TEXT NOT NULL,
            PRIMARY KEY (benchmark_id, dataset, position)
        )""",
        """CREATE TABLE benchmark_runs (
            benchmark_id INTEGER NOT NULL REFERENCES benchmarks (id) ON DELETE CASCADE,
            cell TEXT NOT NULL,
            question_id TEXT NOT NULL,
            repetition INTEGER NOT NULL,
            turn INTEGER NOT NULL,
            share INTEGER NOT NULL,
            run_id INTEGER NOT NULL,
            began_at REAL NOT NULL,
            score REAL,
            PRIMARY KEY (benchmark_id, cell, question_id, repetition, turn)
        )""",
    ),
)
"""Append only: users' databases hold what an entry once made, so a change is a new entry."""

_RECORD = "schema_migrations"


def schema_version(db: sqlite_utils.Database) -> int:
    """Read how many migrations the database has had; 0 for a new file.

    Raises:
        StoreTooNew: a newer version of the app has been here.
        StoreCorrupt: a database, but not this app's.
    """
    tables = [name for name in db.table_names() if not name.startswith("sqlite_")]
    if _RECORD not in tables:
        if tables:
            raise StoreCorrupt(f"it belongs to another program (it has a table {tables[0]!r})")
        return 0
    version = int(db.execute(f"SELECT coalesce(max(number), 0) FROM {_RECORD}").fetchone()[0])  # noqa: S608
    if version > len(MIGRATIONS):
        raise StoreTooNew(f"it has format {version} and this version knows {len(MIGRATIONS)}")
    return version


def migrate(db: sqlite_utils.Database) -> None:
    """Bring the database to the newest shape; call inside a transaction that holds the write lock.

    Raises:
        StoreTooNew, StoreCorrupt: as `schema_version`.
    """
    version = schema_version(db)
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {_RECORD} "
        "(number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)"
    )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            db.execute(statement)
        applied_at = datetime.now(UTC).isoformat()
        db.table(_RECORD).insert({"number": number, "applied_at": applied_at})
