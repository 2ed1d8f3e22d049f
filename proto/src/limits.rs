//! Limits of the contract that both sides keep to: services refuse what is larger, and clients split what they send. The
//! comments of the contract name the same numbers.

/// The largest message that either service sends or takes, in bytes. gRPC's own default.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The most records of a call of `ImportModels`. Their keys, findings and returned values fit into one message.
pub const MAX_CHUNK_RECORDS: usize = 2_500;

/// The most values of a call of `FindRows`.
pub const MAX_FIND_VALUES: usize = 10_000;

/// The most bytes of all values of a call of `FindRows`, because the answer repeats them.
pub const MAX_FIND_BYTES: usize = 2 << 20;
