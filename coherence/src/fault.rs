//! What goes wrong. Invariant: each fault is lifted before its trial ends.

/// What goes wrong in the middle of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Redis is killed, and starts again empty.
    RestartRedis,
    /// Redis is killed, and starts again from a snapshot that was taken before.
    RestoreRedis,
    /// Redis is stopped where it stands, and goes on later.
    FreezeRedis,
    /// Redis is frozen again and again, for about as long as a call may take.
    StutterRedis,
    /// Redis is flushed, again and again.
    FlushRedis,
    /// One instance reaches Redis slowly, so that its writes are long on their way, and Redis is flushed at times.
    SlowRedis,
    /// Redis ends all connections, again and again.
    KillClients,
    /// What Redis holds is swapped with an empty database and back, again and again, and at times it loses what proves
    /// which is which.
    SwapDatabases,
    /// Redis loses what proves its keyspace to the instances, again and again.
    ForgetProof,
    /// One instance is started again with another database number of the same Redis.
    OtherDatabase,
    /// Redis has only 2 MB and evicts whatever it held.
    EvictRedis,
    /// One instance's connections to Redis are reset, and new ones refused.
    CutOff,
    /// One instance hears nothing more from Redis.
    Silence,
    /// One instance is led to another Redis, a copy of the first.
    SplitBrain,
    /// Instances are killed in turn, some of them while their writes are committed and cannot be released, and start
    /// again.
    KillService,
    /// One instance is stopped where it stands, and goes on later.
    FreezeService,
    /// Instances are frozen in turn, for about as long as a view lasts.
    StutterService,
    /// PostgreSQL ends sessions that write, again and again.
    TerminateBackends,
    /// PostgreSQL is killed, recovers and starts again.
    RestartPostgres,
    /// Of a Redis Cluster, one primary is killed and its replica takes its place.
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

    /// What it is called on the command line.
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

    /// Whether the protection of a write may be lost while an instance answers without sealing: then reads may go back
    /// where a write is not yet acknowledged, see "What is not promised" in `docs/coherence.md`.
    pub(crate) const fn loses_fences_and_seals(self) -> bool {
        matches!(self, Self::EvictRedis)
    }
}
