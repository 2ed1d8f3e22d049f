//! Checks owners: whom an older export means by an owner, which memberships are merged, and which organizations have no
//! owner.

use std::collections::{HashMap, HashSet};

use causeway_proto::relocation::v1::FindingKind;

use super::{Outcome, case::AuditCase, cell::Cell, file::FileRecord, taken::Certainty};

const ACTOR: &str = "sentry.actor";
const MEMBER: &str = "sentry.organizationmember";
const MEMBER_TEAM: &str = "sentry.organizationmemberteam";
const ORGANIZATION: &str = "sentry.organization";
const TEAM: &str = "sentry.team";
const USER: &str = "sentry.user";

/// Whom an export up to 24.4 means by the owner of a rule, which it names by an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The record has no owner, or names it in the fields that exports use today.
    NotByActor,
    /// The export does not define whom the actor represents.
    Unknown,
    /// Today's field for the owner, the owner's model, and the owner's source primary key.
    Known(&'static str, &'static str, i64),
}

/// Finds the owner that a record names by an actor. `records` are all records of the file.
pub(crate) fn owner<'r>(records: impl Iterator<Item = &'r FileRecord> + Clone, record: &FileRecord) -> Owner {
    let (team_field, user_field) = match record.model.as_str() {
        "sentry.rule" => ("owner_team", "owner_user_id"),
        "sentry.alertrule" => ("team", "user_id"),
        _ => return Owner::NotByActor,
    };
    let Some(actor) = record.pk_in("owner") else { return Owner::NotByActor };
    if record.set(team_field).is_some() || record.set(user_field).is_some() {
        return Owner::NotByActor;
    }
    let own = records.clone().find(|it| it.model == ACTOR && it.pk == actor).and_then(|it| {
        match it.pk_in("type")? {
            0 => Some(Owner::Known(team_field, TEAM, it.pk_in("team")?)),
            1 => Some(Owner::Known(user_field, USER, it.pk_in("user_id")?)),
            _ => None,
        }
    });
    own.unwrap_or_else(|| {
        let mut teams = records.filter(|it| it.model == TEAM && it.pk_in("actor") == Some(actor));
        teams.next().map_or(Owner::Unknown, |team| Owner::Known(team_field, TEAM, team.pk))
    })
}

/// The two fields of a membership, each with the model that it refers to.
type Connected = [(&'static str, &'static str); 2];

/// The fields in which two memberships must agree to be merged, and the roles from the highest to the lowest that has a
/// name. `None` if the model is not a membership.
fn alike(model: &str) -> Option<(Connected, &'static [&'static str])> {
    match model {
        MEMBER => Some((
            [("organization", ORGANIZATION), ("user_id", USER)],
            &["owner", "manager", "admin", "member"],
        )),
        MEMBER_TEAM => Some(([("team", TEAM), ("organizationmember", MEMBER)], &["admin", "contributor"])),
        _ => None,
    }
}

/// A membership that the import has written as a row.
#[derive(Debug)]
struct Membership {
    pk: i64,
    id: i64,
    role: Option<String>,
}

/// The memberships of one model that the audit has seen so far, by the two rows that they connect.
#[derive(Debug, Default)]
pub(super) struct Memberships(HashMap<(i64, i64), Membership>);

impl AuditCase<'_> {
    /// The owner that a record names by an actor.
    pub(super) fn owner(&self, record: &FileRecord) -> Owner {
        owner(self.records.iter().map(AsRef::as_ref), record)
    }

    /// Merges a membership into an earlier one of the file that connects the same rows. The earlier one gets the higher
    /// of the two roles.
    pub(super) fn merged(&mut self, record: &FileRecord, seen: &mut Memberships) -> Option<Outcome> {
        let (fields, order) = alike(&record.model)?;
        let [one, other] =
            fields.map(|(field, model)| record.pk_in(field).and_then(|pk| self.new_pk(model, pk)));
        let key = one.zip(other)?;
        let default = (record.model == MEMBER).then_some("member");
        let role = record.text("role").or(default).map(str::to_owned);
        let rank = |role: &Option<String>| {
            order.iter().position(|known| Some(*known) == role.as_deref()).unwrap_or(order.len())
        };
        match seen.0.get_mut(&key) {
            Some(first) => {
                if rank(&role) < rank(&first.role) {
                    first.role.clone_from(&role);
                    self.roles.insert((record.model.clone(), first.pk), role);
                }
                let id = first.id;
                self.expect(record, &[FindingKind::RecordMerged], &[]);
                Some(self.existing(record, &[id]))
            }
            None => {
                let (id, _) = self.mapped.get(&(record.model.clone(), record.pk)).copied()?;
                seen.0.insert(key, Membership { pk: record.pk, id, role });
                None
            }
        }
    }

    /// Expects a finding for a username that is the address of another user of the file, or that existed here as an
    /// address; and for an address that existed here as a username. If two users of the file share one, the finding may
    /// be about the later of them.
    pub(super) fn check_usernames(&mut self) {
        let mut users = Vec::new();
        let mut unwritten = HashSet::new();
        for record in self.records_of(USER) {
            let address = record.text("email").unwrap_or_default().to_lowercase();
            let Some(Outcome::Inserted(id)) = self.outcome(USER, record.pk) else {
                unwritten.insert(address);
                continue;
            };
            let name =
                self.after.row(USER, id).and_then(|row| row.get("username")?.as_text()).unwrap_or_default();
            users.push((record, name.to_lowercase(), address));
        }
        let (names, addresses) =
            (self.holders(USER, "username", true), self.holders("sentry.email", "email", true));
        for (record, name, address) in &users {
            let holders: Vec<_> =
                users.iter().filter(|(other, _, theirs)| other.pk != record.pk && theirs == name).collect();
            let is_reported = self.has_address_finding(record, "username");
            let is_reported_there =
                || holders.iter().any(|(holder, ..)| self.has_address_finding(holder, "email"));
            let must = addresses.taken(name) == Certainty::Yes
                || (!holders.is_empty() && (is_reported || !is_reported_there()))
                // The file alone does not show whether the holder of the address is a user who existed
                // before.
                || (is_reported && unwritten.contains(name));
            if name.contains('@') && must {
                self.expect(record, &[FindingKind::UsernameIsAddress], &["username"]);
            }
            let is_named = users.iter().any(|(other, theirs, _)| other.pk != record.pk && theirs == address);
            let must = names.taken(address) == Certainty::Yes
                || (is_named && self.has_address_finding(record, "email"));
            if address.contains('@') && address != name && must {
                self.expect(record, &[FindingKind::UsernameIsAddress], &["email"]);
            }
        }
    }

    fn has_address_finding(&self, record: &FileRecord, field: &str) -> bool {
        self.findings.iter().any(|finding| {
            finding.kind() == FindingKind::UsernameIsAddress
                && finding.model == USER
                && finding.source_pk == record.pk
                && finding.field == field
        })
    }

    /// Expects a finding for every organization without an owner.
    pub(super) fn check_owners(&mut self) {
        let owned: Vec<i64> = self
            .after
            .rows(MEMBER)
            .values()
            .filter(|row| {
                row.get("role").and_then(Cell::as_text) == Some("owner")
                    && row.get("user_id").is_some_and(|user| *user != Cell::Null)
            })
            .filter_map(|row| row.get("organization").and_then(Cell::as_int))
            .collect();
        for record in self.records_of(ORGANIZATION) {
            if let Some(Outcome::Inserted(id)) = self.outcome(ORGANIZATION, record.pk)
                && !owned.contains(&id)
            {
                self.expect(&record, &[FindingKind::OrganizationWithoutOwner], &[]);
            }
        }
    }
}
