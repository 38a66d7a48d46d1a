"""The table of settings: every name, its type, and its default in both columns, as data.

One line per setting: ``name: Annotated[type, Setting(old name, ...)] = Celeriac's default``. The
class is at once the table and the type of a snapshot, so that the rest of the house reads
``settings.task_acks_late`` as a typed attribute. Nothing is validated or looked up here: see
``validation``, ``spelling`` and ``configuration``. ``docs/reference/settings.md`` is made from it.

Types are as wide as what people configure in practice: a pool may be a name or a class, a broker
URL may be a list of them. Durations are float seconds, unless the name says ``_ms``.
"""

# Annotations stay text until one is asked for: evaluating all of them costs 7 ms, and a program
# that only sends tasks sets two or three settings.
from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Final, get_type_hints

from msgspec import UNSET, Struct, field
from msgspec.structs import asdict

from celeriac.settings.masking import shown

Strings = tuple[str, ...]
Options = dict[str, Any]
Pluggable = str | type[Any]
"""A dotted name, an alias, or the class itself."""

SAME: Final = UNSET
"""Stands in Celery's column where both columns agree."""

_LOG_FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
_TASK_LOG_FORMAT: Final = (
    "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
)
_PUBLISH_RETRY_POLICY: Final[Options] = {
    "max_retries": 3,
    "interval_start": 0,
    "interval_max": 1,
    "interval_step": 0.2,
}
_ENGINE_OPTIONS: Final[Options] = {"pool_pre_ping": True, "pool_recycle": 3600}


class Setting(Struct, frozen=True):
    """What the table knows of a setting beside its type and Celeriac's default.

    ``old``: the spelling before Celery 4 as a pattern, in which ``*`` stands for the setting's name
    in upper case and ``+`` for that name without its first word; empty if there is none.
    ``celery``: the default under ``import celery``, where it differs. ``read``: whether this
    version does anything with the setting.
    """

    old: str = ""
    celery: Any = SAME
    read: bool = False


class Settings(Struct, frozen=True, kw_only=True):
    """All settings at one moment. Frozen: safe to keep, to share between threads and to pickle.

    Dictionaries in it (``beat_schedule`` ...) are those that the configuration was given.
    """

    # -- app
    imports: Annotated[Strings, Setting("CELERY_*", read=True)] = ()
    include: Annotated[Strings, Setting("CELERY_*", read=True)] = ()

    # -- time
    enable_utc: Annotated[bool, Setting("*", read=True)] = True
    timezone: Annotated[str | None, Setting("CELERY_*", read=True)] = None

    # -- broker connection
    broker_channel_error_retry: Annotated[bool, Setting("*")] = False
    broker_connection_max_retries: Annotated[int | None, Setting("*", read=True)] = 100
    broker_connection_retry: Annotated[bool, Setting("*", read=True)] = True
    broker_connection_retry_on_startup: Annotated[bool | None, Setting("*", read=True)] = None
    broker_connection_timeout: Annotated[float | None, Setting("*")] = 4.0
    broker_failover_strategy: Annotated[str | None, Setting("*", read=True)] = None
    broker_heartbeat: Annotated[float | None, Setting("*", celery=120.0, read=True)] = 20.0
    broker_heartbeat_checkrate: Annotated[float, Setting("*")] = 3.0
    broker_host: Annotated[str | None, Setting("*")] = None
    broker_login_method: Annotated[str | None, Setting("*")] = None
    broker_native_delayed_delivery_queue_type: Annotated[str, Setting("*", read=True)] = "quorum"
    broker_password: Annotated[str | None, Setting("*")] = None
    broker_pool_acquire_timeout: Annotated[float | None, Setting("*")] = None
    broker_pool_limit: Annotated[int | None, Setting("*")] = 10
    broker_port: Annotated[int | None, Setting("*")] = None
    broker_read_url: Annotated[str | Strings | None, Setting("*", read=True)] = None
    broker_timeout: Annotated[float, Setting(read=True)] = 5.0
    broker_transport: Annotated[str | None, Setting("*")] = None
    broker_transport_options: Annotated[Options, Setting("*", read=True)] = {}
    broker_url: Annotated[str | Strings | None, Setting("*", celery="amqp://", read=True)] = None
    broker_use_ssl: Annotated[bool | Options, Setting("*", read=True)] = False
    broker_user: Annotated[str | None, Setting("*")] = None
    broker_vhost: Annotated[str | None, Setting("*")] = None
    broker_write_url: Annotated[str | Strings | None, Setting("*", read=True)] = None

    # -- tasks
    task_acks_late: Annotated[bool, Setting("CELERY_+", celery=False, read=True)] = True
    task_acks_on_failure: Annotated[bool | None, Setting("CELERY_+", read=True)] = None
    task_acks_on_failure_or_timeout: Annotated[bool, Setting("CELERY_+", read=True)] = True
    task_acks_on_timeout: Annotated[bool | None, Setting("CELERY_+", read=True)] = None
    task_allow_error_cb_on_chord_header: Annotated[bool, Setting("CELERY_+")] = False
    task_always_eager: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_annotations: Annotated[Any, Setting("CELERY_+", read=True)] = None
    task_compression: Annotated[str | None, Setting("CELERY_MESSAGE_COMPRESSION", read=True)] = None
    task_create_missing_queue_exchange_type: Annotated[
        str | None, Setting("CELERY_+", read=True)
    ] = None
    task_create_missing_queue_type: Annotated[str, Setting("CELERY_+", read=True)] = "classic"
    task_create_missing_queues: Annotated[bool, Setting("CELERY_+", read=True)] = True
    task_default_delivery_mode: Annotated[int | str, Setting("CELERY_+", read=True)] = 2
    task_default_exchange: Annotated[str | None, Setting("CELERY_+", read=True)] = None
    task_default_exchange_type: Annotated[str, Setting("CELERY_+", read=True)] = "direct"
    task_default_priority: Annotated[int | None, Setting("CELERY_+", read=True)] = None
    task_default_queue: Annotated[str, Setting("CELERY_+", read=True)] = "celery"
    task_default_queue_type: Annotated[str, Setting("CELERY_+", read=True)] = "classic"
    task_default_rate_limit: Annotated[str | int | float | None, Setting("CELERY_+")] = None
    task_default_routing_key: Annotated[str | None, Setting("CELERY_+", read=True)] = None
    task_delivery_limit: Annotated[int, Setting(read=True)] = 3
    task_eager_propagates: Annotated[
        bool, Setting("CELERY_EAGER_PROPAGATES_EXCEPTIONS", read=True)
    ] = False
    task_ignore_result: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_inherit_parent_priority: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_protocol: Annotated[int, Setting("CELERY_*", read=True)] = 2
    task_publish_retry: Annotated[bool, Setting("CELERY_*", read=True)] = True
    task_publish_retry_policy: Annotated[Options, Setting("CELERY_*", read=True)] = field(
        default_factory=_PUBLISH_RETRY_POLICY.copy
    )
    task_queue_max_priority: Annotated[int | None, Setting("CELERY_+", read=True)] = None
    task_queues: Annotated[Any, Setting("CELERY_+", read=True)] = None
    task_reject_on_worker_lost: Annotated[
        bool | None, Setting("CELERY_+", celery=None, read=True)
    ] = True
    task_remote_tracebacks: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_repr_maxlevels: Annotated[int, Setting("CELERY_+", read=True)] = 3
    task_retry_on_worker_lost: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_routes: Annotated[Any, Setting("CELERY_+", read=True)] = None
    task_send_sent_event: Annotated[bool, Setting("CELERY_SEND_TASK_SENT_EVENT")] = False
    task_serializer: Annotated[str, Setting("CELERY_*", read=True)] = "json"
    task_soft_time_limit: Annotated[float | None, Setting("CELERYD_*", read=True)] = None
    task_store_eager_result: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_store_errors_even_if_ignored: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_time_limit: Annotated[float | None, Setting("CELERYD_*", read=True)] = None
    task_track_started: Annotated[bool, Setting("CELERY_+", read=True)] = False
    task_unknown_ttl: Annotated[float, Setting(read=True)] = 86_400.0

    # -- results
    result_accept_content: Annotated[Strings | None, Setting("*", read=True)] = None
    result_backend: Annotated[str | None, Setting("CELERY_*", celery="disabled://", read=True)] = (
        None
    )
    result_backend_always_retry: Annotated[bool, Setting("CELERY_*", read=True)] = False
    result_backend_base_sleep_between_retries_ms: Annotated[int, Setting("CELERY_*", read=True)] = (
        10
    )
    result_backend_max_retries: Annotated[float | None, Setting("CELERY_*", read=True)] = float(
        "inf"
    )
    result_backend_max_sleep_between_retries_ms: Annotated[int, Setting("CELERY_*", read=True)] = (
        10_000
    )
    result_backend_thread_safe: Annotated[bool, Setting()] = False
    result_backend_transport_options: Annotated[Options, Setting("CELERY_*", read=True)] = {}
    result_cache_max: Annotated[int | None, Setting("CELERY_MAX_CACHED_RESULTS", read=True)] = -1
    result_chord_expires: Annotated[float | None, Setting("CELERY_*")] = None
    result_chord_join_timeout: Annotated[float, Setting("CELERY_*")] = 3.0
    result_chord_retry_interval: Annotated[float, Setting("CELERY_*")] = 1.0
    result_compression: Annotated[str | None, Setting("CELERY_*", read=True)] = None
    result_exchange: Annotated[str, Setting("CELERY_*")] = "celeryresults"
    result_exchange_type: Annotated[str, Setting("CELERY_*")] = "direct"
    result_expires: Annotated[float | None, Setting("CELERY_TASK_RESULT_EXPIRES", read=True)] = (
        86_400.0
    )
    result_extended: Annotated[bool, Setting("CELERY_*", celery=False, read=True)] = True
    result_failure_expires: Annotated[float | None, Setting("CELERY_*", read=True)] = None
    result_persistent: Annotated[bool | None, Setting("CELERY_*", read=True)] = None
    result_serializer: Annotated[str, Setting("CELERY_*", read=True)] = "json"

    # -- serialization
    accept_content: Annotated[Strings, Setting("CELERY_*", read=True)] = ("json",)

    # -- worker
    worker_agent: Annotated[Pluggable | None, Setting("CELERYD_+")] = None
    worker_autoscaler: Annotated[Pluggable, Setting("CELERYD_+")] = (
        "celery.worker.autoscale:Autoscaler"
    )
    worker_cancel_long_running_tasks_on_connection_loss: Annotated[bool, Setting("CELERYD_+")] = (
        False
    )
    worker_concurrency: Annotated[int | str | None, Setting("CELERYD_+", read=True)] = None
    worker_consumer: Annotated[Pluggable, Setting("CELERYD_+")] = "celery.worker.consumer:Consumer"
    worker_deduplicate_successful_tasks: Annotated[bool, Setting("CELERYD_+")] = False
    worker_detect_quorum_queues: Annotated[bool, Setting("CELERYD_+")] = True
    worker_direct: Annotated[bool, Setting("CELERY_*", read=True)] = False
    worker_disable_prefetch: Annotated[bool, Setting("CELERYD_+")] = False
    worker_disable_rate_limits: Annotated[bool, Setting("CELERY_+")] = False
    worker_enable_prefetch_count_reduction: Annotated[bool, Setting("CELERYD_+")] = True
    worker_enable_remote_control: Annotated[bool, Setting("CELERY_+")] = True
    worker_enable_soft_shutdown_on_idle: Annotated[bool, Setting("CELERYD_+")] = False
    worker_eta_task_limit: Annotated[int | None, Setting("CELERYD_+")] = None
    worker_grace: Annotated[float | None, Setting(read=True)] = None
    worker_hijack_root_logger: Annotated[bool, Setting("CELERYD_+", celery=True, read=True)] = False
    worker_log_color: Annotated[bool | None, Setting("CELERYD_+", read=True)] = None
    worker_log_datefmt: Annotated[str | None, Setting("CELERYD_+", read=True)] = None
    worker_log_format: Annotated[str, Setting("CELERYD_+", read=True)] = _LOG_FORMAT
    worker_log_style: Annotated[str, Setting(read=True)] = "text"
    worker_lost_wait: Annotated[float, Setting("CELERYD_*")] = 10.0
    worker_max_memory_per_child: Annotated[int | None, Setting("CELERYD_+", read=True)] = None
    worker_max_tasks_per_child: Annotated[int | None, Setting("CELERYD_+", read=True)] = None
    worker_pool: Annotated[Pluggable, Setting("CELERYD_+")] = "prefork"
    worker_pool_putlocks: Annotated[bool, Setting("CELERYD_+")] = True
    worker_pool_restarts: Annotated[bool, Setting("CELERYD_+")] = False
    worker_pool_start_method: Annotated[str, Setting("CELERYD_+")] = "fork"
    worker_prefetch_multiplier: Annotated[int | None, Setting("CELERYD_+", celery=4, read=True)] = (
        None
    )
    worker_proc_alive_timeout: Annotated[float, Setting("CELERYD_+")] = 4.0
    worker_redirect_stdouts: Annotated[bool, Setting("CELERY_+", read=True)] = True
    worker_redirect_stdouts_level: Annotated[str | int, Setting("CELERY_+", read=True)] = "WARNING"
    worker_send_task_events: Annotated[bool, Setting("CELERY_SEND_EVENTS")] = False
    worker_soft_shutdown_timeout: Annotated[float, Setting("CELERYD_+")] = 0.0
    worker_state_db: Annotated[str | None, Setting("CELERYD_+")] = None
    worker_task_log_datefmt: Annotated[str | None, Setting("CELERYD_+", read=True)] = None
    worker_task_log_format: Annotated[str, Setting("CELERYD_+", read=True)] = _TASK_LOG_FORMAT
    worker_timer: Annotated[Pluggable | None, Setting("CELERYD_+")] = None
    worker_timer_precision: Annotated[float, Setting("CELERYD_+")] = 1.0

    # -- remote control
    control_exchange: Annotated[str, Setting("*")] = "celery"
    control_queue_durable: Annotated[bool, Setting("*")] = False
    control_queue_exclusive: Annotated[bool, Setting("*")] = True
    control_queue_expires: Annotated[float | None, Setting("*")] = 10.0
    control_queue_ttl: Annotated[float | None, Setting("*")] = 300.0

    # -- events
    event_exchange: Annotated[str, Setting("CELERY_*")] = "celeryev"
    event_queue_durable: Annotated[bool, Setting("CELERY_*")] = False
    event_queue_exclusive: Annotated[bool, Setting("CELERY_*")] = True
    event_queue_expires: Annotated[float | None, Setting("CELERY_*")] = 60.0
    event_queue_prefix: Annotated[str, Setting("CELERY_*")] = "celeryev"
    event_queue_ttl: Annotated[float | None, Setting("CELERY_*")] = 5.0
    event_serializer: Annotated[str, Setting("CELERY_*")] = "json"

    # -- beat
    beat_cron_starting_deadline: Annotated[float | None, Setting("CELERYBEAT_+")] = None
    beat_enable_remote_control: Annotated[bool, Setting("CELERYBEAT_+")] = False
    beat_max_loop_interval: Annotated[float, Setting("CELERYBEAT_+")] = 0.0
    beat_remote_control_max_tick_age: Annotated[float | None, Setting("CELERYBEAT_+")] = None
    beat_schedule: Annotated[Options, Setting("CELERYBEAT_+")] = {}
    beat_schedule_filename: Annotated[str, Setting("CELERYBEAT_+")] = "celerybeat-schedule"
    beat_scheduler: Annotated[Pluggable, Setting("CELERYBEAT_+")] = (
        "celery.beat:PersistentScheduler"
    )
    beat_sync_every: Annotated[int, Setting("CELERYBEAT_+")] = 0

    # -- security
    security_cert_store: Annotated[str | None, Setting("CELERY_*", read=True)] = None
    security_certificate: Annotated[str | None, Setting("CELERY_*", read=True)] = None
    security_digest: Annotated[str, Setting("CELERY_*", read=True)] = "sha256"
    security_key: Annotated[str | None, Setting("CELERY_*", read=True)] = None
    security_key_password: Annotated[bytes | str | None, Setting("CELERY_*", read=True)] = None

    # -- result backend: ArangoDB
    arangodb_backend_settings: Annotated[Options | None, Setting("CELERY_*")] = None

    # -- result backend: Azure Block Blob
    azureblockblob_base_path: Annotated[str, Setting("*")] = ""
    azureblockblob_connection_timeout: Annotated[int, Setting("*")] = 20
    azureblockblob_container_name: Annotated[str, Setting("*")] = "celery"
    azureblockblob_read_timeout: Annotated[int, Setting("*")] = 120
    azureblockblob_retry_increment_base: Annotated[int, Setting("*")] = 2
    azureblockblob_retry_initial_backoff_sec: Annotated[int, Setting("*")] = 2
    azureblockblob_retry_max_attempts: Annotated[int, Setting("*")] = 3

    # -- result backend: Cassandra/Astra
    cassandra_auth_kwargs: Annotated[Options | None, Setting("*")] = None
    cassandra_auth_provider: Annotated[str | None, Setting("*")] = None
    cassandra_bundle_path: Annotated[str | None, Setting("*")] = None
    cassandra_entry_ttl: Annotated[float | None, Setting("*")] = None
    cassandra_keyspace: Annotated[str | None, Setting("*")] = None
    cassandra_options: Annotated[Options, Setting("*")] = {}
    cassandra_port: Annotated[int | None, Setting("*")] = None
    cassandra_read_consistency: Annotated[str | None, Setting("*")] = None
    cassandra_servers: Annotated[Strings | None, Setting("*")] = None
    cassandra_table: Annotated[str | None, Setting("*")] = None
    cassandra_write_consistency: Annotated[str | None, Setting("*")] = None

    # -- result backend: CosmosDB
    cosmosdbsql_collection_name: Annotated[str, Setting("*")] = "celerycol"
    cosmosdbsql_consistency_level: Annotated[str, Setting("*")] = "Session"
    cosmosdbsql_database_name: Annotated[str, Setting("*")] = "celerydb"
    cosmosdbsql_max_retry_attempts: Annotated[int, Setting("*")] = 9
    cosmosdbsql_max_retry_wait_time: Annotated[int, Setting("*")] = 30

    # -- result backend: Couchbase
    couchbase_backend_settings: Annotated[Options | None, Setting("CELERY_*")] = None

    # -- result backend: DynamoDB
    dynamodb_endpoint_url: Annotated[str | None, Setting()] = None

    # -- result backend: Elasticsearch
    elasticsearch_max_retries: Annotated[int | None, Setting("CELERY_*")] = None
    elasticsearch_retry_on_timeout: Annotated[bool | None, Setting("CELERY_*")] = None
    elasticsearch_save_meta_as_text: Annotated[bool, Setting("CELERY_*")] = True
    elasticsearch_timeout: Annotated[float | None, Setting("CELERY_*")] = None

    # -- result backend: Google Cloud Storage
    gcs_base_path: Annotated[str, Setting("*")] = ""
    gcs_bucket: Annotated[str | None, Setting("*")] = None
    gcs_project: Annotated[str | None, Setting("*")] = None
    gcs_threadpool_maxsize: Annotated[int | None, Setting()] = None
    gcs_ttl: Annotated[float, Setting("*")] = 0.0

    # -- result backend: MongoDB
    mongodb_backend_settings: Annotated[Options | None, Setting("CELERY_*")] = None

    # -- result backend: Redis
    redis_backend_credential_provider: Annotated[Any, Setting()] = None
    redis_backend_health_check_interval: Annotated[float | None, Setting()] = None
    redis_backend_use_ssl: Annotated[bool | Options | None, Setting("CELERY_*", read=True)] = None
    redis_client_name: Annotated[str | None, Setting()] = None
    redis_db: Annotated[int | None, Setting("CELERY_*")] = None
    redis_host: Annotated[str | None, Setting("CELERY_*")] = None
    redis_max_connections: Annotated[int | None, Setting("CELERY_*")] = None
    redis_password: Annotated[str | None, Setting("CELERY_*")] = None
    redis_port: Annotated[int | None, Setting("CELERY_*")] = None
    redis_retry_on_timeout: Annotated[bool, Setting("CELERY_*")] = False
    redis_socket_connect_timeout: Annotated[float | None, Setting("CELERY_*")] = None
    redis_socket_keepalive: Annotated[bool, Setting("CELERY_*")] = False
    redis_socket_timeout: Annotated[float | None, Setting("CELERY_*")] = 120.0
    redis_username: Annotated[str | None, Setting("CELERY_*")] = None

    # -- result backend: S3
    s3_access_key_id: Annotated[str | None, Setting("*")] = None
    s3_base_path: Annotated[str | None, Setting("*")] = None
    s3_bucket: Annotated[str | None, Setting("*")] = None
    s3_endpoint_url: Annotated[str | None, Setting("*")] = None
    s3_region: Annotated[str | None, Setting("*")] = None
    s3_secret_access_key: Annotated[str | None, Setting("*")] = None

    # -- result backend: SQLAlchemy database
    database_create_tables_at_setup: Annotated[bool, Setting("*")] = True
    database_engine_callback: Annotated[Any, Setting("*")] = None
    database_engine_options: Annotated[Options, Setting("CELERY_RESULT_ENGINE_OPTIONS")] = field(
        default_factory=_ENGINE_OPTIONS.copy
    )
    database_short_lived_sessions: Annotated[
        bool, Setting("CELERY_RESULT_DB_SHORT_LIVED_SESSIONS")
    ] = False
    database_table_names: Annotated[Options | None, Setting("CELERY_RESULT_DB_TABLENAMES")] = None
    database_table_schemas: Annotated[Options | None, Setting("*")] = None
    database_url: Annotated[str | None, Setting("CELERY_RESULT_DBURI")] = None

    # -- result backend: cache/memcached
    cache_backend: Annotated[str | None, Setting("CELERY_*")] = None
    cache_backend_options: Annotated[Options, Setting("CELERY_*")] = {}

    def __repr__(self) -> str:
        """Only what differs from the defaults, and no secrets: snapshots end up in logs."""
        changed = {
            name: shown(name, value)
            for name, value in asdict(self).items()
            if value != getattr(DEFAULTS, name)
        }
        return f"Settings({', '.join(f'{name}={text}' for name, text in changed.items())})"


DEFAULTS: Final = Settings()
NAMES: Final = frozenset(Settings.__struct_fields__)


class Entry(Struct, frozen=True):
    """One line of the table, taken apart."""

    name: str
    type: Any
    setting: Setting

    @property
    def old_names(self) -> tuple[str, ...]:
        """The upper-case spellings that are understood beside the name itself."""
        upper = self.name.upper()
        pattern = self.setting.old.replace("*", upper).replace("+", upper.partition("_")[2])
        return (pattern,) if pattern else ()


_entries: dict[str, Entry] = {}


def entry(name: str) -> Entry:
    """The line of the setting ``name`` (a new name; KeyError otherwise), evaluated once."""
    found = _entries.get(name)
    if found is None:
        line = SimpleNamespace(__annotations__={name: Settings.__annotations__[name]})
        hint = get_type_hints(line, globals(), include_extras=True)[name]
        found = _entries[name] = Entry(name, hint.__origin__, hint.__metadata__[0])
    return found


def entries() -> list[Entry]:
    """Every line, in the order of the table. Takes milliseconds the first time."""
    if len(_entries) < len(NAMES):
        hints = get_type_hints(Settings, globals(), include_extras=True)
        for name, hint in hints.items():
            _entries[name] = Entry(name, hint.__origin__, hint.__metadata__[0])
    return [_entries[name] for name in Settings.__struct_fields__]


def celery_column() -> dict[str, Any]:
    """The defaults of Celery that differ from Celeriac's, by name; evaluates only their lines."""
    texts = Settings.__annotations__
    differing = [name for name in Settings.__struct_fields__ if "celery=" in texts[name]]
    return {name: entry(name).setting.celery for name in differing}
