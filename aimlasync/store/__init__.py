"""Answers that were paid for, kept as bytes under a key of what was asked: files, SQLite, Redis, object stores.

    from aimlasync.store import open_store

    store = open_store("answers.sqlite")          # one file, for the processes of one machine
    store = open_store("answers/")                # a directory, also a shared one
    store = open_store("redis://cache:6379/0")    # extra `redis`
    store = open_store("s3://bucket/answers")     # what fsspec knows, where it is installed

`AsyncClient(cache=...)`, `BatchChat(store=...)` and `--store` take them. It is no record of a job: a value that is
missing or damaged is asked for again. It knows nothing of requests and answers, and imports nothing else of the
library.

    protocol      `Store`: what every store does; the seal that makes a torn value no value
    directory     `DirectoryStore`: a file for each answer
    sqlite        `SQLiteStore`: one file
    redis_server  `RedisStore`: Redis or Valkey
    redis_client  the client of one Redis or of a cluster; the only file here that imports redis
    fsspec_files  `FsspecStore`: s3://, gs://, memory:// and others, through fsspec
    cache         `Cache`: which answers a client keeps
    opening       `open_store`: from a path or a URL to a store
"""

from aimlasync.store.cache import Cache
from aimlasync.store.directory import DirectoryStore
from aimlasync.store.opening import open_store
from aimlasync.store.protocol import Store
from aimlasync.store.sqlite import SQLiteStore

__all__ = ["Cache", "DirectoryStore", "SQLiteStore", "Store", "open_store"]
