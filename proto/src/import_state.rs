//! What is true of an import in each state, for both sides of the contract.

use crate::region::v1::ImportState;

impl ImportState {
    /// All states that an import can be in.
    pub const ALL: [Self; 11] = [
        Self::Receiving,
        Self::Planning,
        Self::Writing,
        Self::ResolvingSlugs,
        Self::Finishing,
        Self::Succeeded,
        Self::Failed,
        Self::Checking,
        Self::Planned,
        Self::Reverting,
        Self::Reverted,
    ];

    /// Whether the import has ended, well or not: nothing more happens to it by itself, except that a region may still
    /// report the organizations of one that has succeeded.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Planned | Self::Reverted)
    }

    /// The name for rows and people: the name in the contract, without its prefix and in lower case.
    #[must_use]
    pub fn short_name(self) -> String {
        let name = self.as_str_name();
        name.strip_prefix("IMPORT_STATE_").unwrap_or(name).to_lowercase()
    }

    /// The state with this [short name](Self::short_name); `None` if there is none.
    #[must_use]
    pub fn from_short_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.short_name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_contract_is_listed() {
        let known = (1..100).filter_map(|number| ImportState::try_from(number).ok());
        let mut listed = ImportState::ALL.to_vec();
        listed.sort_by_key(|state| *state as i32);
        assert_eq!(known.collect::<Vec<_>>(), listed);
    }

    #[test]
    fn names_lead_back_to_states() {
        for state in ImportState::ALL {
            assert_eq!(ImportState::from_short_name(&state.short_name()), Some(state));
        }
        assert_eq!(ImportState::from_short_name("unspecified"), None);
    }

    /// The comment of `WatchImport` names the states that end it.
    #[test]
    fn the_contract_says_which_states_are_final() {
        let comment = include_str!("../causeway/region/v1/import_service.proto");
        let comment = comment.split("when it has ended: in").nth(1).expect("the comment of WatchImport");
        let comment = comment.split(". A stream").next().expect("it goes on");
        let named: Vec<String> = comment
            .split(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
            .filter(|word| word.len() > 3)
            .map(|word| word.trim_start_matches("IMPORT_STATE_").to_lowercase())
            .collect();
        let is_final = ImportState::ALL.into_iter().filter(|state| state.is_final());
        let (mut is_final, mut named) = (is_final.map(ImportState::short_name).collect::<Vec<_>>(), named);
        is_final.sort();
        named.sort();
        assert_eq!(named, is_final);
    }
}
