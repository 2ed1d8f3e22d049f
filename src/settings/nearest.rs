//! Which known name somebody may have meant.

/// The least similarity, from 0 to 1, at which a name is suggested.
const ALIKE: f64 = 0.3;

/// The known name that is most like an unknown one; `None` if none is like it.
pub(super) fn nearest<'a>(known: &'a [String], name: &str) -> Option<&'a str> {
    let alike =
        known.iter().map(|known| (strsim::normalized_damerau_levenshtein(known, name), known.as_str()));
    let most = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    most.filter(|(alike, _)| *alike >= ALIKE).map(|(_, known)| known)
}
