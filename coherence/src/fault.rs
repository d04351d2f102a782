//! The faults. Invariant: each fault ends before its trial does.

/// A fault in the middle of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Redis is killed, and starts again empty.
    RestartRedis,
    /// Redis is killed, and starts again from a snapshot that was taken before.
    RestoreRedis,
    /// Redis is stopped with SIGSTOP, and continues later.
    FreezeRedis,
    /// Redis is frozen repeatedly, for about the timeout of a call.
    StutterRedis,
    /// Redis is flushed repeatedly.
    FlushRedis,
    /// One instance's connection to Redis is slow, and Redis is flushed now and then.
    SlowRedis,
    /// Redis closes all connections repeatedly.
    KillClients,
    /// The database of Redis is swapped with an empty one and back, repeatedly, and now and then the proofs that tell
    /// them apart are deleted.
    SwapDatabases,
    /// The proofs by which instances recognize their keyspace are deleted repeatedly.
    ForgetProof,
    /// One instance is restarted with another database number of the same Redis.
    OtherDatabase,
    /// Redis has only 2 MB and evicts any key.
    EvictRedis,
    /// One instance's connections to Redis are reset, and new ones refused.
    CutOff,
    /// One instance gets no more bytes from Redis; its connections stay open.
    Silence,
    /// One instance is connected to a copy of Redis.
    SplitBrain,
    /// Instances are killed and restarted in turn, some of them after a commit whose fences they cannot release.
    KillService,
    /// One instance is stopped with SIGSTOP, and continues later.
    FreezeService,
    /// Instances are frozen in turn, for about the time for which their view of the epoch is valid.
    StutterService,
    /// PostgreSQL terminates writing sessions repeatedly.
    TerminateBackends,
    /// PostgreSQL is killed, recovers and starts again.
    RestartPostgres,
    /// A primary of a Redis Cluster is killed, and its replica takes its place.
    Failover,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::None,
        Self::RestartRedis,
        Self::RestoreRedis,
        Self::FreezeRedis,
        Self::StutterRedis,
        Self::FlushRedis,
        Self::SlowRedis,
        Self::KillClients,
        Self::SwapDatabases,
        Self::ForgetProof,
        Self::OtherDatabase,
        Self::EvictRedis,
        Self::CutOff,
        Self::Silence,
        Self::SplitBrain,
        Self::KillService,
        Self::FreezeService,
        Self::StutterService,
        Self::TerminateBackends,
        Self::RestartPostgres,
        Self::Failover,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RestartRedis => "restart-redis",
            Self::RestoreRedis => "restore-redis",
            Self::FreezeRedis => "freeze-redis",
            Self::StutterRedis => "stutter-redis",
            Self::FlushRedis => "flush-redis",
            Self::SlowRedis => "slow-redis",
            Self::KillClients => "kill-clients",
            Self::SwapDatabases => "swap-databases",
            Self::ForgetProof => "forget-proof",
            Self::OtherDatabase => "other-database",
            Self::EvictRedis => "evict-redis",
            Self::CutOff => "cut-off",
            Self::Silence => "silence",
            Self::SplitBrain => "split-brain",
            Self::KillService => "kill-service",
            Self::FreezeService => "freeze-service",
            Self::StutterService => "stutter-service",
            Self::TerminateBackends => "terminate-backends",
            Self::RestartPostgres => "restart-postgres",
            Self::Failover => "failover",
        }
    }

    /// Whether it happens to Redis, or between Redis and an instance.
    #[must_use]
    pub(crate) const fn needs_redis(self) -> bool {
        !matches!(
            self,
            Self::None
                | Self::KillService
                | Self::FreezeService
                | Self::StutterService
                | Self::TerminateBackends
                | Self::RestartPostgres
        )
    }

    /// Whether Redis may lose a fence and a seal at the same time. Then reads may go back while a write is not yet
    /// acknowledged: see "What is not promised" in `docs/coherence.md`.
    pub(crate) const fn loses_fences_and_seals(self) -> bool {
        matches!(self, Self::EvictRedis)
    }
}
