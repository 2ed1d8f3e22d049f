//! The states of an import, and what is true in each of them.

/// Who works on an import in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Nobody: it has ended, or waits for a call.
    Nobody,
    /// A process whose spool directory has the file.
    WithFile,
    /// Any process.
    WithoutFile,
    /// Any process, until control's directory has the organizations.
    UntilReported,
}

/// Makes the enum, the list of its values and their facts from one table: state = name in the store, whether it is
/// final, who works on it.
macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $name:literal, $is_final:literal, $worker:ident;)*) => {
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
            /// All states.
            pub const ALL: &[Self] = &[$(Self::$state),*];

            /// Its name in the store.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$state => $name,)*
                }
            }

            /// Whether nothing more happens to the import by itself, except for its report.
            #[must_use]
            pub fn is_final(self) -> bool {
                match self {
                    $(Self::$state => $is_final,)*
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
    Receiving = "receiving", false, Nobody;
    /// The region reads and checks the file.
    Planning = "planning", false, WithFile;
    /// The region writes models.
    Writing = "writing", false, WithFile;
    /// Control resolves slugs; the region writes and confirms them.
    ResolvingSlugs = "resolving_slugs", false, WithFile;
    /// The region writes deferred models, then makes everything visible.
    Finishing = "finishing", false, WithFile;
    /// Everything is written. The report to control's directory may still be due.
    Succeeded = "succeeded", true, UntilReported;
    /// Ended by an error.
    Failed = "failed", true, Nobody;
    /// A dry run goes through all records and looks up existing rows that they would match.
    Checking = "checking", false, WithFile;
    /// A dry run is done.
    Planned = "planned", true, Nobody;
    /// The region undoes everything that was written.
    Reverting = "reverting", false, WithoutFile;
    /// Everything that was written is undone, except rows that something else needs.
    Reverted = "reverted", true, Nobody;
}

impl ImportState {
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
            let is_worked_on = matches!(state.worker(), Worker::WithFile | Worker::WithoutFile);
            assert!(!(state.is_final() && is_worked_on), "{state:?}");
        }
    }
}
