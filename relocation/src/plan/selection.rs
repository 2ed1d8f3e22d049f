//! Which records a slug filter leaves: the organizations of those slugs, the users who are members of them, and the
//! e-mail addresses of those users. All else is decided by its references when it is written, save for records that
//! have none.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use roaring::RoaringTreemap;

use crate::catalog::{EMAIL, Model, ORGANIZATION, USER};

/// What a filter leaves.
#[derive(Debug, Default)]
pub struct Selection {
    /// The slugs that were asked for and are not in the export.
    pub missing: BTreeSet<String>,
    /// Whether nothing was asked for: then nothing is imported, not even what refers to nothing.
    nothing: bool,
    organizations: RoaringTreemap,
    users: RoaringTreemap,
    /// Hashes of addresses in lower case. One that is taken by mistake would be one e-mail address too many: harmless.
    emails: HashSet<u64>,
    /// Records that hang from nothing and that nothing refers to which is taken, by the position of their model.
    adrift: HashMap<usize, RoaringTreemap>,
}

fn unsigned(pk: i64) -> u64 {
    u64::try_from(pk).unwrap_or(0)
}

fn email_hash(email: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(email.to_lowercase())
}

impl Selection {
    pub(super) fn new(slugs: &BTreeSet<String>) -> Self {
        Self { missing: slugs.clone(), nothing: slugs.is_empty(), ..Self::default() }
    }

    pub(super) fn see_organization(&mut self, pk: i64, slug: &str, wanted: &BTreeSet<String>) {
        if wanted.contains(slug) {
            self.organizations.insert(unsigned(pk));
            self.missing.remove(slug);
        }
    }

    pub(super) fn see_member(&mut self, organization: i64, user: i64) {
        if self.organizations.contains(unsigned(organization)) {
            self.users.insert(unsigned(user));
        }
    }

    pub(super) fn see_email(&mut self, user: i64, email: &str) {
        if self.users.contains(unsigned(user)) {
            self.emails.insert(email_hash(email));
        }
    }

    pub(super) fn leave(&mut self, adrift: HashMap<usize, RoaringTreemap>) {
        self.adrift = adrift;
    }

    pub(super) fn organization_count(&self) -> u64 {
        self.organizations.len()
    }

    /// Whether the filter leaves this record, as far as that does not depend on its references.
    #[must_use]
    pub fn takes(&self, model: &Model, source_pk: i64, email: Option<&str>) -> bool {
        if self.nothing {
            return false;
        }
        match model.name.as_str() {
            ORGANIZATION => self.organizations.contains(unsigned(source_pk)),
            USER => self.users.contains(unsigned(source_pk)),
            EMAIL => email.is_some_and(|email| self.emails.contains(&email_hash(email))),
            _ => self.adrift.get(&model.position).is_none_or(|adrift| !adrift.contains(unsigned(source_pk))),
        }
    }
}
