//! Reservations of slugs.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The type of a reservation: what its slug is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReservationType {
    /// The slug by which the organization is known.
    Primary,
    /// Reserved for an organization whose region has not yet confirmed that it uses the slug.
    TemporaryRenameAlias,
    /// A former slug of the organization that still leads to it.
    VanityAlias,
}

impl ReservationType {
    /// The value in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The type with this value in the database; `None` if there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A slug that belongs to an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Valid: 1 to 50 lowercase characters. Unique across regions.
    pub slug: String,
    /// The name of the region that owns the organization.
    pub region: String,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// What the slug is for.
    pub kind: ReservationType,
    /// The operation that made it: a bulk creation of the region, or a rename.
    pub operation_id: Uuid,
    /// When it was made, by control's clock.
    pub created_at: DateTime<Utc>,
}

/// One organization that needs a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSlug {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug that it wants, in any form; at most 255 bytes, and may be empty.
    pub slug: String,
    /// The text from which control makes a slug if `slug` is empty; at most 255 bytes.
    pub name: String,
    /// Whether an organization of the region that control does not know already has this slug.
    pub taken_in_region: bool,
}

/// Why an organization gets the slug that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SlugReason {
    /// It is the wanted slug.
    Free,
    /// The wanted slug is not valid, and was normalized to this one.
    Normalized,
    /// Another organization has the wanted slug, or what it was normalized to.
    Taken,
    /// The wanted slug, or what it was normalized to, is a reserved word.
    ReservedWord,
    /// The wanted slug has no letter, or normalization leaves nothing of it.
    Invalid,
}

/// The owner of a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name of the region that owns the organization.
    pub region: String,
    /// The id of the organization that has the slug.
    pub organization_id: i64,
}

/// The slug that an organization got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSlug {
    /// The id of the organization that got the slug.
    pub organization_id: i64,
    /// The slug that it wanted, as its region sent it.
    pub wanted_slug: String,
    /// The slug that it got: valid, 1 to 50 characters.
    pub slug: String,
    /// Why it got that one.
    pub reason: SlugReason,
    /// What it would have got without a suffix: the wanted slug, or what it was normalized to.
    pub candidate: String,
    /// The owner of the candidate, if control knew an organization that had it, from the same operation or another one.
    pub taken_by: Option<Owner>,
}

/// Which reservations to list; by default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those of this region; `None` for all regions.
    pub region: Option<String>,
    /// Only those of this type; `None` for all types.
    pub kind: Option<ReservationType>,
}

/// Selects reservations of a region.
pub(crate) enum Selection<'a> {
    /// Those of an operation, of organizations with ids above the first number, up to the second.
    Operation(Uuid, i64, i64),
    /// All reservations of these organizations.
    Organizations(&'a [i64]),
    /// The reservation of one slug.
    Slug(&'a str),
}

/// Slugs to try, as columns of equal length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    /// The organizations that try them.
    pub(crate) organization_ids: Vec<i64>,
    /// The slug that each of them tries; no two are the same.
    pub(crate) slugs: Vec<String>,
    /// The slug that each of them wanted.
    pub(crate) wanted_slugs: Vec<String>,
}

impl Candidates {
    /// Splits the candidates into parts of at most `most`.
    pub(crate) fn parts(self, most: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = self;
        while rest.slugs.len() > most {
            let later = Self {
                organization_ids: rest.organization_ids.split_off(most),
                slugs: rest.slugs.split_off(most),
                wanted_slugs: rest.wanted_slugs.split_off(most),
            };
            parts.push(std::mem::replace(&mut rest, later));
        }
        parts.push(rest);
        parts
    }

    /// One organization that wants and tries one slug.
    pub(crate) fn one(organization_id: i64, slug: &str) -> Self {
        let slugs = vec![slug.to_owned()];
        Self { organization_ids: vec![organization_id], wanted_slugs: slugs.clone(), slugs }
    }

    /// Keeps the candidates that try one of these slugs.
    pub(crate) fn only(self, slugs: &HashSet<String>) -> Self {
        let others: Vec<(i64, String)> = self
            .organization_ids
            .iter()
            .zip(&self.slugs)
            .filter(|(_, slug)| !slugs.contains(*slug))
            .map(|(id, slug)| (*id, slug.clone()))
            .collect();
        self.without(&others)
    }

    /// Removes the candidates of organizations that already have a slug.
    pub(crate) fn without(self, having: &[(i64, String)]) -> Self {
        let having: HashSet<i64> = having.iter().map(|(id, _)| *id).collect();
        let mut open = Self::default();
        let slugs = self.slugs.into_iter().zip(self.wanted_slugs);
        for (id, (slug, wanted)) in self.organization_ids.into_iter().zip(slugs) {
            if !having.contains(&id) {
                open.organization_ids.push(id);
                open.slugs.push(slug);
                open.wanted_slugs.push(wanted);
            }
        }
        open
    }
}
