//! The states of an import, and what is true in each of them.

use causeway_proto::region::v1 as proto;

/// Who works on an import in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Nobody: it has ended, or waits for a call.
    Nobody,
    /// A process whose spool directory has the file.
    WithFile,
    /// Any process, because the file is not needed any more.
    WithoutFile,
    /// Any process, until control's directory has the organizations.
    UntilReported,
}

/// Makes the enum, the list of its values and their facts from one table: state = name in the store, who works on it.
/// The states are those of the contract, under the same names.
macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $name:literal, $worker:ident;)*) => {
        /// The state of an import. It only moves forward, or to `Failed`, from which it may be resumed, or to
        /// `Reverting`.
        ///
        /// | state | what has been committed | after a restart |
        /// | --- | --- | --- |
        /// | `Receiving` | nothing | deleted: no caller got an answer |
        /// | `Planning` | the file, in full | planned again |
        /// | `Writing` | plan findings, counts, and the chunks up to some point | continues after the last chunk |
        /// | `ResolvingSlugs` | all rows, hidden; perhaps slugs | asks again (same operation and answer), or confirms |
        /// | `Finishing` | confirmed slugs; perhaps chunks of deferred models | continues after the last chunk |
        /// | `Succeeded` | everything, visible | reports to control's directory, if that has not been done |
        /// | `Failed` | what was written stays hidden | stays |
        /// | `Checking` | plan findings and counts of a dry run | starts over |
        /// | `Planned` | all findings and counts of a dry run | stays |
        /// | `Reverting` | nothing is visible; the marks of reverted chunks | continues before the last mark |
        /// | `Reverted` | only rows that something else needs | stays |
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ImportState {
            $($(#[$doc])* $state,)*
        }

        impl ImportState {
            /// All states, in the order in which they are defined.
            pub const ALL: &[Self] = &[$(Self::$state),*];

            /// Its name in the store.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$state => $name,)*
                }
            }

            /// The same state in the contract.
            #[must_use]
            pub fn to_proto(self) -> proto::ImportState {
                match self {
                    $(Self::$state => proto::ImportState::$state,)*
                }
            }

            /// Who works on an import in this state.
            #[must_use]
            pub fn worker(self) -> Worker {
                match self {
                    $(Self::$state => Worker::$worker,)*
                }
            }
        }
    };
}

states! {
    /// The file is being sent.
    Receiving = "receiving", Nobody;
    /// The region reads and checks the file.
    Planning = "planning", WithFile;
    /// The region writes models.
    Writing = "writing", WithFile;
    /// Control resolves slugs; the region writes and confirms them.
    ResolvingSlugs = "resolving_slugs", WithFile;
    /// The region writes deferred models, then makes everything visible.
    Finishing = "finishing", WithFile;
    /// Everything is written. The report to control's directory may still be due.
    Succeeded = "succeeded", UntilReported;
    /// Ended by an error.
    Failed = "failed", Nobody;
    /// A dry run goes through all records and looks up existing rows that they would match.
    Checking = "checking", WithFile;
    /// A dry run is done.
    Planned = "planned", Nobody;
    /// The region undoes everything that was written.
    Reverting = "reverting", WithoutFile;
    /// Everything that was written is undone, except rows that something else needs.
    Reverted = "reverted", Nobody;
}

impl ImportState {
    /// Whether nothing more happens to the import by itself, except for its report.
    #[must_use]
    pub fn is_final(self) -> bool {
        self.to_proto().is_final()
    }

    /// Whether a process has to go on with an import in this state. One that has succeeded counts only until it has
    /// been reported.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        matches!(self.worker(), Worker::WithFile | Worker::WithoutFile)
    }

    /// The state with this name in the store; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|state| state.name() == name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_states() {
        for state in ImportState::ALL {
            assert_eq!(ImportState::from_name(state.name()), Some(*state));
        }
        assert_eq!(ImportState::from_name("gone"), None);
    }

    #[test]
    fn whoever_works_on_a_state_is_not_done_but_for_the_report() {
        for state in ImportState::ALL {
            assert!(!(state.is_final() && state.is_unfinished()), "{state:?}");
            assert_eq!(state.name(), state.to_proto().short_name());
        }
    }
}
