//! Records that break a rule, and are left out if their user exists. Only control knows which users exist, so the region
//! asks it before anything is written, and refuses the file for the first such record of a user who does not.

use std::collections::HashSet;

use causeway_silo::env::Environment;
use roaring::RoaringTreemap;

use super::{Plan, Record, defects::Defective, record_ownership::unsigned, segment::user_of};
use crate::{
    catalog::{Catalog, Model, USER},
    export::{Decoder, ExportError},
    value::Value,
};

impl Plan {
    /// Whether there are such records.
    #[must_use]
    pub fn has_undecided(&self) -> bool {
        self.models.iter().any(|plan| !plan.marks.undecided.is_empty())
    }

    fn each_undecided<'m>(
        &self,
        catalog: &'m Catalog,
        env: &Environment,
        mut take: impl FnMut(&'m Model, &Record),
    ) -> Result<(), ExportError> {
        for model in catalog.written() {
            let is_of_these = |plan: &super::ModelPlan| !plan.marks.undecided.is_empty();
            if !self.models.get(model.position).is_some_and(is_of_these) {
                continue;
            }
            let mut reader = self.reader(model, env, 1)?;
            while let Some(record) = reader.next_record()? {
                if self.is_undecided(model, record.offset) {
                    take(model, &record);
                }
            }
        }
        Ok(())
    }

    /// The users on whom such records depend: their primary keys in the file, and their usernames.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn undecided_users(
        &self,
        catalog: &Catalog,
        env: &Environment,
    ) -> Result<Vec<(i64, String)>, ExportError> {
        let mut wanted = RoaringTreemap::new();
        self.each_undecided(catalog, env, |model, record| {
            wanted.extend(user_of(model, &record.values).map(unsigned));
        })?;
        let Some((model, name)) =
            catalog.model(USER).and_then(|model| Some((model, model.column("username")?)))
        else {
            return Err(ExportError::inconsistent("the catalog has no usernames"));
        };
        let mut users = Vec::new();
        let mut reader = self.reader(model, env, 1)?;
        while let Some(record) = reader.next_record()? {
            if wanted.contains(unsigned(record.source_pk))
                && let Some(username) = record.values.get(name).and_then(Value::as_text)
            {
                users.push((record.source_pk, username.to_owned()));
            }
        }
        Ok(users)
    }

    /// Refuses the file for the first such record whose user is not among those that exist, by primary key in the file.
    ///
    /// # Errors
    /// The defect of that record.
    pub fn refuse_undecided(
        &self,
        catalog: &Catalog,
        env: &Environment,
        existing: &HashSet<i64>,
    ) -> Result<(), ExportError> {
        let mut first: Option<Defective<'_>> = None;
        self.each_undecided(catalog, env, |model, record| {
            let exists = user_of(model, &record.values).is_some_and(|user| existing.contains(&user));
            if !exists && first.is_none_or(|(offset, ..)| record.offset < offset) {
                first = Some((record.offset, model, record.ordinal));
            }
        })?;
        match first {
            Some(first) => self.refuse(&Decoder::new(env, self.now), first),
            None => Ok(()),
        }
    }
}
