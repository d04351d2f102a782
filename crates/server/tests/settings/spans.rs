//! The settings that are spans of time.

/// Each takes a span of time.
pub(crate) const SPANS: [&str; 15] = [
    "DB_POOL_TIMEOUT",
    "DB_QUEUE_MAX_WAIT",
    "DB_POOL_RECYCLE",
    "DB_POOL_IDLE_TIMEOUT",
    "DB_POOL_LEAK_AFTER",
    "DB_CONNECT_TIMEOUT",
    "COMMAND_TIMEOUT",
    "DB_SLOW_QUERY",
    "DB_RETRY_DELAY",
    "CACHE_TTL",
    "HTTP_HEADER_TIMEOUT",
    "HTTP_BODY_TIMEOUT",
    "HTTP_IDLE_TIMEOUT",
    "SHUTDOWN_DELAY",
    "SHUTDOWN_TIMEOUT",
];
