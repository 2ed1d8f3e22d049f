//! Decides which answers are allowed, given the rows. The functions are pure, so that a test can try each wrong answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Past, SlugState};

/// The service or directory that resolved a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Control, which knows the organizations of all regions.
    Control,
    /// A region, which knows only its own organizations.
    Region(String),
    /// A directory in memory.
    Directory,
}

/// The organization that a slug leads to, according to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) region: String,
    pub(crate) id: i64,
    pub(crate) canonical: String,
}

/// The history of slugs, read once before and once after a source was asked.
#[derive(Debug)]
pub(crate) struct Looks<'a> {
    pub(crate) before: &'a Past,
    pub(crate) after: &'a Past,
    /// Whether the source had received everything that the first read saw. If not, its answer may be any older one.
    pub(crate) up_to_date: bool,
}

impl Looks<'_> {
    fn states(&self, slug: &str) -> &[SlugState] {
        if self.up_to_date { self.after.since(self.before, slug) } else { self.after.of(slug) }
    }

    /// Describes what is wrong with an answer of this source. `None` if nothing is.
    pub(crate) fn wrong(&self, source: &Source, slug: &str, answer: Option<&Led>) -> Option<String> {
        let states = self.states(slug);
        if !states.iter().any(|state| may_be(state, source, slug, answer)) {
            return Some(format!(
                "{source:?} {} `{slug}` leads to {answer:?}; it {} {states:?}",
                if self.up_to_date { "has heard all and says that" } else { "says that" },
                if self.up_to_date { "was meanwhile" } else { "was never anything but" },
            ));
        }
        let led = answer?;
        // The canonical slug must have been the organization's at some time. Not necessarily now: the canonical slug of
        // an alias changes without an event.
        let of_it = |state: &SlugState| match state {
            SlugState::Primary(owner) => owner.region == led.region && owner.id == led.id,
            SlugState::Temporary(owner) => {
                *source != Source::Control && owner.region == led.region && owner.id == led.id
            }
            _ => false,
        };
        let known = self.after.of(&led.canonical).iter().any(of_it);
        (!known).then(|| {
            format!(
                "{source:?} says that `{slug}` leads to organization {} of {}, known as `{}`, which that never was",
                led.id, led.region, led.canonical
            )
        })
    }
}

/// Whether a source may give this answer while the slug is in this state.
fn may_be(state: &SlugState, source: &Source, slug: &str, answer: Option<&Led>) -> bool {
    let (owner, is_known, is_alias) = match state {
        SlugState::Free => return answer.is_none(),
        // Only the organization's own region may know already that it has the slug.
        SlugState::Temporary(owner) => (owner, false, false),
        SlugState::Primary(owner) => (owner, true, false),
        SlugState::Alias(owner) => (owner, true, true),
    };
    let elsewhere = matches!(source, Source::Region(region) if *region != owner.region);
    match answer {
        None => elsewhere || !is_known,
        Some(led) => {
            let is_it = led.region == owner.region && led.id == owner.id;
            let named = *source != Source::Control || is_alias == (led.canonical != slug);
            is_it && !elsewhere && named && (is_known || matches!(source, Source::Region(_)))
        }
    }
}

/// An import, as read from the rows of its region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenImport {
    pub(crate) state: String,
    pub(crate) hides: bool,
    /// The ids of its organizations. Empty until the import has planned them.
    pub(crate) organizations: BTreeSet<i64>,
}

/// The imports of a region by import id.
pub(crate) type SeenImports = BTreeMap<String, SeenImport>;

/// Describes what is wrong with the organizations that a region showed between two reads of the rows. `None` if nothing
/// is. `asked` is the one organization that was asked for; `None` means all.
pub(crate) fn wrongly_shown(
    before: &SeenImports,
    after: &SeenImports,
    asked: Option<i64>,
    shown: &BTreeSet<i64>,
) -> Option<String> {
    let mut of_imports = BTreeSet::new();
    for (id, import) in after {
        let was = before.get(id).map_or("not there", |import| import.state.as_str());
        let is = import.state.as_str();
        // No state leads back to `succeeded`, and `reverting` leads only to `reverted`.
        let must = was == "succeeded" && is == "succeeded" && !import.hides;
        let may = matches!(is, "succeeded" | "reverting" | "reverted")
            && !matches!(was, "reverting" | "reverted")
            && !import.hides;
        for organization in &import.organizations {
            of_imports.insert(*organization);
            let is_shown = shown.contains(organization);
            if is_shown && !may {
                return Some(format!(
                    "organization {organization} is shown; its import {id} was {was} before and {is} after that{}",
                    if import.hides { ", and leaves its organizations hidden" } else { "" }
                ));
            }
            if must && !is_shown && asked.is_none_or(|asked| asked == *organization) {
                return Some(format!(
                    "organization {organization} of import {id}, which has succeeded, is not shown"
                ));
            }
        }
    }
    let nobodys = shown.difference(&of_imports).next()?;
    Some(format!("organization {nobodys} is shown, and is of no import"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Owner;

    fn us(id: i64) -> Owner {
        Owner { region: "us".to_owned(), id }
    }

    fn led(id: i64, canonical: &str) -> Option<Led> {
        Some(Led { region: "us".to_owned(), id, canonical: canonical.to_owned() })
    }

    const SOURCES: [fn() -> Source; 3] =
        [|| Source::Control, || Source::Region("us".to_owned()), || Source::Directory];

    /// Whether an answer about `acme` is allowed from each of the three sources, when the history was `before` and then
    /// `after`.
    fn pass(before: &[SlugState], after: &[SlugState], up_to_date: bool, answer: Option<&Led>) -> [bool; 3] {
        let own = [SlugState::Primary(us(1))];
        let before = Past::default().with("acme", before).with("own", &own);
        let after = Past::default().with("acme", after).with("own", &own);
        let looks = Looks { before: &before, after: &after, up_to_date };
        SOURCES.map(|source| looks.wrong(&source(), "acme", answer).is_none())
    }

    #[test]
    fn who_has_heard_all_says_what_is_the_case() {
        let primary = [SlugState::Primary(us(1))];
        assert_eq!(pass(&primary, &primary, true, led(1, "acme").as_ref()), [true; 3]);
        // An organization of another region, none, or one under a slug that it does not have.
        assert_eq!(pass(&primary, &primary, true, led(2, "acme").as_ref()), [false; 3]);
        assert_eq!(pass(&primary, &primary, true, None), [false; 3]);
        assert_eq!(pass(&primary, &primary, true, led(1, "other").as_ref()), [false; 3]);
        let other = Led { region: "de".to_owned(), ..led(1, "acme").expect("one") };
        assert_eq!(pass(&primary, &primary, true, Some(&other)), [false; 3]);
        let alias = [SlugState::Primary(us(1)), SlugState::Alias(us(1))];
        assert_eq!(pass(&alias, &alias, true, led(1, "own").as_ref()), [true; 3]);
        // Control reads the alias and the canonical slug at the same time.
        assert_eq!(pass(&alias, &alias, true, led(1, "acme").as_ref()), [false, true, true]);
    }

    #[test]
    fn what_is_not_confirmed_leads_nowhere_but_in_its_region() {
        let temporary = [SlugState::Temporary(us(1))];
        assert_eq!(pass(&temporary, &temporary, true, None), [true; 3]);
        assert_eq!(pass(&temporary, &temporary, true, led(1, "acme").as_ref()), [false, true, false]);
    }

    #[test]
    fn what_changes_meanwhile_may_be_either() {
        let (before, after) = ([SlugState::Primary(us(1))], [SlugState::Primary(us(1)), SlugState::Free]);
        for answer in [None, led(1, "acme")] {
            assert_eq!(pass(&before, &after, true, answer.as_ref()), [true; 3]);
        }
        let back = [SlugState::Primary(us(1)), SlugState::Free, SlugState::Primary(us(2))];
        assert_eq!(pass(&back, &back, true, led(1, "acme").as_ref()), [false; 3]);
        // A source that has not received the change yet may have an older state, but it must not invent an
        // answer.
        assert_eq!(pass(&back, &back, false, led(1, "acme").as_ref()), [true; 3]);
        assert_eq!(pass(&back, &back, false, led(3, "acme").as_ref()), [false; 3]);
    }

    #[test]
    fn a_region_says_nothing_of_others() {
        let past = Past::default().with("acme", &[SlugState::Primary(us(1))]);
        let looks = Looks { before: &past, after: &past, up_to_date: true };
        let de = Source::Region("de".to_owned());
        assert_eq!(looks.wrong(&de, "acme", None), None);
        assert!(looks.wrong(&de, "acme", led(1, "acme").as_ref()).is_some());
    }

    #[test]
    fn an_import_is_shown_when_it_has_succeeded_and_until_it_is_taken_back() {
        let seen = |state: &str, hides| {
            let import = SeenImport { state: state.to_owned(), hides, organizations: [7].into() };
            SeenImports::from([("i".to_owned(), import)])
        };
        let wrong = |was: &str, is: &str, hides, shown: &[i64]| {
            let shown = shown.iter().copied().collect();
            wrongly_shown(&seen(was, hides), &seen(is, hides), None, &shown).is_some()
        };
        for (was, is, hides, may, must) in [
            ("planning", "writing", false, false, false),
            ("finishing", "finishing", false, false, false),
            ("failed", "failed", false, false, false),
            ("finishing", "succeeded", false, true, false),
            ("succeeded", "succeeded", false, true, true),
            ("succeeded", "succeeded", true, false, false),
            ("succeeded", "reverting", false, true, false),
            ("succeeded", "reverted", false, true, false),
            ("reverting", "reverting", false, false, false),
            ("reverted", "reverted", false, false, false),
        ] {
            assert_eq!(wrong(was, is, hides, &[7]), !may, "{was} {is} {hides}");
            assert_eq!(wrong(was, is, hides, &[]), must, "{was} {is} {hides}");
        }
        assert!(wrong("succeeded", "succeeded", false, &[7, 8]));
        // An answer for one organization shows nothing about the others.
        let after = seen("succeeded", false);
        assert!(wrongly_shown(&after, &after, Some(8), &BTreeSet::new()).is_none());
        assert!(wrongly_shown(&after, &after, Some(7), &BTreeSet::new()).is_some());
    }
}
