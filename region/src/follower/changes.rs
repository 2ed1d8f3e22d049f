//! What the messages of the feed change.

use std::collections::BTreeMap;

use causeway_proto::control::v1::{FeedEvent, FeedReservation, ReservationType, feed_event};
use uuid::Uuid;

use crate::{
    error::Error,
    replica::{ReplicaType, SlugChange},
};

pub(super) fn unreadable(what: &str) -> Error {
    Error::Internal(format!("control's feed cannot be read: {what}"))
}

fn operation(id: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(id).map_err(|_| unreadable("an operation id"))
}

/// What an event changes.
pub(super) fn changed(event: FeedEvent) -> Result<SlugChange, Error> {
    match event.change {
        Some(feed_event::Change::Reservation(reservation)) => change(reservation),
        Some(feed_event::Change::Removed(removed)) => Ok(SlugChange {
            operation_id: operation(&removed.operation_id)?,
            slug: removed.slug,
            organization_id: removed.organization_id,
            kind: None,
            canonical_slug: None,
            wanted: false,
        }),
        None => Err(unreadable("an event of a kind that this release does not know")),
    }
}

pub(super) fn change(reservation: FeedReservation) -> Result<SlugChange, Error> {
    let kind = match reservation.r#type() {
        ReservationType::Unspecified => return Err(unreadable("a reservation of no type")),
        ReservationType::Primary => Some(ReplicaType::Primary),
        ReservationType::TemporaryRenameAlias => Some(ReplicaType::Temporary),
        ReservationType::VanityAlias => Some(ReplicaType::Alias),
    };
    Ok(SlugChange {
        organization_id: reservation.organization_id,
        kind,
        canonical_slug: Some(reservation.canonical_slug).filter(|slug| !slug.is_empty()),
        operation_id: operation(&reservation.operation_id)?,
        wanted: reservation.wanted,
        slug: reservation.slug,
    })
}

/// The result of all changes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MessageChanges {
    /// The last change of each slug.
    pub(super) slugs: BTreeMap<String, SlugChange>,
    /// By which slug organizations are known from now on, where the message has a primary slug: their other
    /// slugs lead to it.
    pub(super) known_by: BTreeMap<i64, Option<String>>,
    /// Slugs that are free now. An organization whose primary slug is among them has no slug.
    pub(super) freed: Vec<(i64, String)>,
}

impl MessageChanges {
    pub(super) fn of(changes: Vec<SlugChange>) -> Self {
        let mut news = Self::default();
        for change in changes {
            let SlugChange { organization_id, slug, .. } = &change;
            match change.kind {
                Some(ReplicaType::Primary) => {
                    news.known_by.insert(*organization_id, Some(slug.clone()));
                }
                Some(_) => {}
                None => match news.known_by.get_mut(organization_id) {
                    Some(known) if known.as_ref() == Some(slug) => *known = None,
                    Some(_) => {}
                    None => news.freed.push((*organization_id, slug.clone())),
                },
            }
            news.slugs.insert(slug.clone(), change);
        }
        news
    }
}
