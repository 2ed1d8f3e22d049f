//! All metrics. `METRICS.md` is written from this table, and a test compares what both services show with it.

use crate::metric::{Base, Definition, Entry, Kind, Label, Metric, On};

/// Bounds of times that a person may wait for, in seconds.
const TIMES: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of rounds with a suffix. There are 23 at most.
const ROUNDS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 23.0];

macro_rules! labels {
    ($($id:ident = $name:literal $values:literal;)*) => {
        $(#[doc = $values] pub static $id: Label = Label { name: $name, values: $values };)*
    };
}

labels! {
    SERVICE = "service" "`control` or `region`: one for each process";
    NAME = "name" "the name of the region, or `control`: one for each process";
    VERSION = "version" "the version of the program: one for each process";
    COMMIT = "commit" "the commit that the program was built from, as in `causeway --version`: one for each process";
    CONTRACT = "contract_revision" "the revision of the contract: one for each process";
    RPC = "rpc" "the calls of the contract, of health and of reflection, as `SERVICE/CALL`; `unknown` for every other path";
    CODE = "code" "the 17 codes of gRPC, such as `NOT_FOUND`, and `GIVEN_UP` if the caller went away or its deadline passed before the end";
    REASON = "reason" "the reasons of `error.proto`, such as `IMPORT_NOT_FOUND`; empty if the call gave no reason";
    WAIT_REASON = "reason" "the reasons of `error.proto`";
    POOL = "pool" "`all` on PostgreSQL, and `replica` of a control that reads from one; `readers` and `writer` on SQLite";
    CONNECTION_STATE = "state" "`used` and `idle`";
    SQLSTATE = "sqlstate" "the few codes by which PostgreSQL (`40001`, `40P01`, `55P03`) or SQLite (such as `5`) say that a transaction lost against another; `none` if it waited for its turn for too long";
    CERTIFICATE = "certificate" "`server`, `client_ca`, `client_crl`, and of a region also `control_client` and `control_ca`";
    READING = "reading" "`imports` and `spool` of a region, `regions` and `reservations` of control";
    IMPORT_STATE = "state" "the 11 states of an import, such as `writing`";
    QUEUE = "queue" "`plan` and `chunk`";
    THROTTLE_KIND = "kind" "`rows`, `bytes` and `latency`";
    MODEL = "model" "the models of the catalog. A name in a file that is not one of these has no series";
    LEASED_MODEL = "model" "the models of the catalog whose ids are leased";
    OUTCOME = "outcome" "`inserted`, `existing`, `filtered`, `out_of_scope` and `dropped`";
    SILO = "silo" "`region` and `control`";
    RESERVATION_KIND = "kind" "`primary`, `temporary_rename_alias` and `vanity_alias`";
    SLUG_REASON = "reason" "`free`, `normalized`, `taken`, `reserved_word` and `invalid`";
    REGION_STATE = "state" "`registered`, `added` (but never registered) and `suspended`; a region is counted in one of them";
    REGION = "region" "the first 2,000 regions by name that have registered and are not suspended; the others are only counted in `causeway_regions`";
}

macro_rules! metrics {
    ($($id:ident = $on:ident $kind:expr, $base:ident $name:literal [$($label:ident),*] $help:literal;)*) => {
        $(
            #[doc = concat!($help, ".")]
            pub static $id: Metric<{ <[&str]>::len(&[$(stringify!($label)),*]) }> = Metric {
                definition: Definition {
                    base_name: $name,
                    kind: $kind,
                    base: Base::$base,
                    on: On::$on,
                    help: $help,
                },
                labels: [$(&$label),*],
            };
        )*
        /// All metrics, in the order of `METRICS.md`.
        pub static ALL: &[Entry] = &[$($id.entry()),*];
    };
}

metrics! {
    BUILD = Both Kind::Gauge, Things "causeway_build_info" [SERVICE, NAME, VERSION, COMMIT, CONTRACT]
        "Always 1: which program this is";
    CALLS = Both Kind::Counter, Things "causeway_calls" [RPC, CODE, REASON]
        "Calls that have ended";
    CALL_DURATION = Both Kind::Histogram(TIMES), Seconds "causeway_call_duration" [RPC]
        "Time from the beginning of a call to the last byte of its answer. Watches, feeds and reflection are left out: they end when the caller wants";
    CALLS_IN_PROGRESS = Both Kind::Gauge, Things "causeway_calls_in_progress" [RPC]
        "Calls that have not ended";
    WATCHES = Both Kind::Gauge, Things "causeway_watches" []
        "Streams that are open of those that --max-watches limits";
    WATCHES_MAX = Both Kind::Gauge, Things "causeway_watches_max" []
        "The most of these streams, --max-watches";
    DATABASE_READY = Both Kind::Gauge, Things "causeway_database_ready" []
        "1 if the database answered and took a write at the last check of health, otherwise 0: it is away, read-only or its disk is full";
    DATABASE_CONNECTIONS = Both Kind::Gauge, Things "causeway_database_connections" [POOL, CONNECTION_STATE]
        "Open connections to the database";
    DATABASE_CONNECTIONS_MAX = Both Kind::Gauge, Things "causeway_database_connections_max" [POOL]
        "The most connections to the database, from --database-max-connections";
    RETRIES = Both Kind::Counter, Things "causeway_transaction_retries" [SQLSTATE]
        "Transactions that were run again because they had lost against others";
    TRACE_SPANS_DROPPED = Both Kind::Counter, Things "causeway_trace_spans_dropped" []
        "Spans of traces that the collector of --otlp-endpoint did not take; 0 without a collector";
    CERTIFICATE_END = Both Kind::Gauge, Seconds "causeway_certificate_end_timestamp" [CERTIFICATE]
        "When the first certificate of a file ends; of a revocation list, when the next one is due. No series without the file";
    READING_FAILED = Both Kind::Gauge, Things "causeway_reading_failed" [READING]
        "1 if the last reading failed or took too long, otherwise 0. While it is 1, the metrics of that reading have no series";
    READING_AGE = Both Kind::Gauge, Seconds "causeway_reading_age" [READING]
        "Time since the values of a reading were read. No series before the first";
    IMPORTS = Region Kind::Gauge, Things "causeway_imports" [IMPORT_STATE]
        "Imports that the region has, by state. Reading `imports`";
    IMPORTS_WAITING = Region Kind::Gauge, Things "causeway_imports_waiting" [WAIT_REASON]
        "Imports that wait and try again, by why the last attempt failed. Reading `imports`";
    IMPORT_WAIT = Region Kind::Gauge, Seconds "causeway_import_wait" [WAIT_REASON]
        "The longest that any import has waited for this reason. Reading `imports`";
    IMPORTS_QUEUED = Region Kind::Gauge, Things "causeway_imports_queued" [QUEUE]
        "Imports that wait for their turn, because --imports-at-once others have theirs";
    IMPORTS_PAUSED = Region Kind::Gauge, Things "causeway_imports_paused" []
        "Imports that an operator has paused. Reading `imports`";
    THROTTLE_LIMIT = Region Kind::Gauge, Things "causeway_throttle_limit" [THROTTLE_KIND]
        "The limits that hold imports of this process back: rows in a second, bytes in a second, and seconds that the probe statement may take. No series for a limit that is not set";
    THROTTLE_WRITE_RATIO = Region Kind::Gauge, Things "causeway_throttle_write_ratio" []
        "The part of the time in which imports of this process may write, from 0 to 1: less than 1 while they give way to the application";
    THROTTLE_WAIT = Region Kind::Counter, Seconds "causeway_throttle_wait" []
        "Time that chunks of this process have waited for these limits, all together";
    THROTTLE_PROBE_LATENCY = Region Kind::Gauge, Seconds "causeway_throttle_probe_latency" []
        "What the probe statement last took. No series if it was not measured, because no limit on it is set, or if it failed";
    IMPORT_RECORDS = Region Kind::Counter, Things "causeway_import_records" [MODEL, OUTCOME]
        "Records of chunks that were committed, by what became of them. Dry runs are left out";
    IMPORT_BYTES = Region Kind::Counter, Bytes "causeway_import_read" [MODEL]
        "Bytes that these records have in their files";
    CHUNK_DURATION = Region Kind::Histogram(TIMES), Seconds "causeway_chunk_duration" [SILO]
        "Time to write a chunk, with all attempts, to its commit; of one for control, to its answer";
    CHUNK_COMMIT_DURATION = Region Kind::Histogram(TIMES), Seconds "causeway_chunk_commit_duration" []
        "Time that the database took for the commit of a chunk of the region";
    SPOOL = Region Kind::Gauge, Bytes "causeway_spool" []
        "Size of all files in the spool directory. Reading `spool`";
    SPOOL_FREE = Region Kind::Gauge, Bytes "causeway_spool_free" []
        "Free space for the region on the disk of the spool directory. Reading `spool`";
    REGISTERED = Region Kind::Gauge, Things "causeway_registered" []
        "1 while control knows the region, as far as this process knows, otherwise 0: its imports wait";
    REPLICA_VERSION = Region Kind::Gauge, Things "causeway_replica_version" []
        "Version of the feed that the replica has; 0 before the first snapshot has ended. Reading `imports`";
    REPLICA_LAG = Region Kind::Gauge, Things "causeway_replica_lag_changes" []
        "Changes that the replica lacks, by what control said last. Does not grow while control is away: see the staleness. Reading `imports`";
    REPLICA_STALENESS = Region Kind::Gauge, Seconds "causeway_replica_staleness" []
        "Time since control last said that the replica lacks nothing. No series if it never did. Reading `imports`";
    IDS_LEFT = Region Kind::Gauge, Things "causeway_ids_left" [LEASED_MODEL]
        "Ids left in the block that control leased last. The region leases another when they do not suffice. Reading `imports`";
    DIFFERENCES = Region Kind::Gauge, Things "causeway_differences" []
        "Differences from control that the last whole comparison of this process left. No series before the first";
    COMPARISON_END = Region Kind::Gauge, Seconds "causeway_comparison_end_timestamp" []
        "When that comparison ended. No series before the first";
    RESERVATIONS = Control Kind::Gauge, Things "causeway_slug_reservations" [RESERVATION_KIND]
        "Reservations of slugs. Reading `reservations`";
    SLUGS_GIVEN = Control Kind::Counter, Things "causeway_slugs_given" [SLUG_REASON]
        "Slugs that bulk creations gave, by why the organization got that one. `taken`: another one has what it wanted";
    SUFFIX_ROUNDS = Control Kind::Histogram(ROUNDS), Things "causeway_slug_suffix_rounds" []
        "Rounds with a random suffix that a bulk creation needed. More than a few mean that very many want the same slugs";
    SLUG_CONFLICTS = Control Kind::Counter, Things "causeway_slug_conflicts" []
        "Attempts of bulk creations that another one came before, and that were made again";
    REGIONS = Control Kind::Gauge, Things "causeway_regions" [REGION_STATE]
        "Regions that control knows. Reading `regions`";
    FEED_VERSION = Control Kind::Gauge, Things "causeway_feed_version" [REGION]
        "Version of the region's feed: the changes that it ever had. Reading `regions`";
    FEED_LAG = Control Kind::Gauge, Things "causeway_feed_lag_changes" [REGION]
        "Changes of the feed that this control has not sent yet to the region. No series while the region reads from no stream of this control. Reading `regions`";
    REGION_SILENCE = Control Kind::Gauge, Seconds "causeway_region_silence" [REGION]
        "Time since the region registered or read its feed, whichever control it asked; noted about every ten seconds. Reading `regions`";
    REGION_CERTIFICATE_END = Control Kind::Gauge, Seconds "causeway_region_certificate_end_timestamp" [REGION]
        "When the certificate ends with which the region registered last. No series if it had none. Reading `regions`";
    IDS_UNLEASED = Control Kind::Gauge, Things "causeway_ids_unleased" [LEASED_MODEL]
        "Ids that no region has leased. Reading `regions`";
}
