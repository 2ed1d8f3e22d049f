//! Where a command goes, and what it says of a call that failed there.

use causeway_client::CallError;
use causeway_proto::failure::CONTROL_ADDRESS;
pub(crate) use causeway_proto::place::{COMMAND, CommandTarget, quoted};

/// What said where a command goes, such as `--region` or `CAUSEWAY_REGION`; `None` if nothing did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin(pub(crate) Option<String>);

impl Origin {
    /// Where a command goes, and what said so, for its first line.
    pub(crate) fn of(&self, place: &CommandTarget) -> String {
        let note = match &self.0 {
            Some(note) => format!(" ({note})"),
            None => String::new(),
        };
        format!("{}{note}", place.named())
    }
}

/// The address of control, if the region returned it with a call that failed because of control.
pub(super) fn control_of(error: &CallError) -> Vec<String> {
    error.detail(CONTROL_ADDRESS).into_iter().collect()
}

/// Why a call to this place failed. Commands in it are completed, also those for control if the region
/// that was called returned control's address.
pub(crate) fn message(place: &CommandTarget, error: &CallError) -> String {
    place.complete(&error.to_string(), &control_of(error))
}
