//! The feeds: in order, without gaps, through any control.

use std::{collections::BTreeMap, time::Duration};

use causeway_control::{
    Control, Error,
    feed::{Message, Messages, Part},
    model::feed::{Event, FeedReservation},
    model::reservation::ReservationType,
};
use tokio::{task::JoinSet, time::timeout};

use crate::support::{Fixture, RETAINED, bulk_create, operation, wanted};

/// The longest that a change may take to reach a reader. None takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reader that stores what it receives, and checks that the feed keeps its rules.
pub(crate) struct Reader {
    messages: Messages<Message>,
    pub(crate) version: i64,
    pub(crate) slugs: BTreeMap<String, FeedReservation>,
    pub(crate) events: Vec<Event>,
    pub(crate) snapshots: usize,
}

impl Reader {
    pub(crate) async fn new(control: &Control, region: &str, after: i64) -> Self {
        let messages = control.feeds().watch(region, after, None).await.expect("a feed");
        Self { messages, version: after, slugs: BTreeMap::new(), events: Vec::new(), snapshots: 0 }
    }

    /// Receives the next message. Returns the version that the feed had then.
    pub(crate) async fn hear(&mut self) -> i64 {
        let message = timeout(PATIENCE, self.messages.recv()).await.expect("something is heard in time");
        let message = message.expect("the feed goes on").expect("the feed does not fail");
        match message.part {
            Part::Snapshot { version, reservations, first, last } => {
                if first {
                    self.slugs.clear();
                    self.snapshots += 1;
                }
                self.slugs.extend(reservations.into_iter().map(|it| (it.slug.clone(), it)));
                if last {
                    self.version = version;
                }
            }
            Part::Events(events) => {
                for event in events {
                    assert_eq!(event.version, self.version + 1, "a gap");
                    self.version = event.version;
                    self.take(event.reservation.clone());
                    self.events.push(event);
                }
            }
            // A reader that has to catch up first learns how far the feed is.
            Part::Heartbeat => {}
        }
        assert!(message.current_version >= self.version);
        message.current_version
    }

    /// Applies an event. A new primary slug changes the canonical slug of all the organization's slugs.
    fn take(&mut self, reservation: FeedReservation) {
        let others = self.slugs.values_mut().filter(|it| it.organization_id == reservation.organization_id);
        match reservation.kind {
            Some(ReservationType::Primary) => {
                others.for_each(|it| {
                    if it.kind != Some(ReservationType::Primary) {
                        it.canonical_slug = Some(reservation.slug.clone());
                    }
                });
            }
            Some(_) => {}
            None => {
                others.filter(|it| it.canonical_slug.as_ref() == Some(&reservation.slug)).for_each(|it| {
                    it.canonical_slug = None;
                })
            }
        }
        if reservation.kind.is_some() {
            self.slugs.insert(reservation.slug.clone(), reservation);
        } else {
            self.slugs.remove(&reservation.slug);
        }
    }

    /// Receives messages until this version is reached.
    pub(crate) async fn reach(&mut self, version: i64) {
        while self.version < version {
            self.hear().await;
        }
        assert_eq!(self.version, version);
    }

    pub(crate) fn slugs(&self) -> Vec<&str> {
        self.slugs.keys().map(String::as_str).collect()
    }
}

async fn confirmed(control: &Control, number: u128, slugs: &[(i64, &str)]) {
    let requested_slugs = slugs.iter().map(|(id, slug)| wanted(*id, slug)).collect();
    bulk_create(control, "us", operation(number), requested_slugs).await.expect("reserved");
    control.slug_reservations().confirm("us", operation(number)).await.expect("confirmed");
}

pub(crate) async fn a_reader_begins_with_all_there_is(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let control = &fixture.control;
    let mut empty = Reader::new(control, "us", 0).await;
    empty.hear().await;
    assert_eq!((empty.version, empty.snapshots, empty.slugs()), (1, 1, vec![]));

    confirmed(control, 1, &[(1, "acme"), (2, "bolt")]).await;
    bulk_create(control, "us", operation(2), vec![wanted(3, "cord")]).await.expect("reserved");
    bulk_create(control, "de", operation(1), vec![wanted(4, "dune")]).await.expect("reserved");
    control.slug_reservations().confirm("de", operation(1)).await.expect("confirmed");

    let mut reader = Reader::new(control, "us", 0).await;
    reader.reach(3).await;
    // The feed has neither unconfirmed reservations nor those of other regions.
    assert_eq!(reader.slugs(), ["acme", "bolt"]);
    let acme = FeedReservation {
        slug: "acme".to_owned(),
        organization_id: 1,
        kind: Some(ReservationType::Primary),
        canonical_slug: Some("acme".to_owned()),
        operation_id: operation(1),
        wanted: false,
    };
    assert_eq!(reader.slugs["acme"], acme);
    empty.reach(3).await;
    assert_eq!((empty.snapshots, empty.events.len()), (1, 2));
    assert_eq!(empty.slugs, reader.slugs);

    control.slug_reservations().release("us", operation(1)).await.expect("released");
    control.slug_reservations().confirm("us", operation(2)).await.expect("confirmed");
    reader.reach(6).await;
    assert_eq!(reader.slugs(), ["cord"]);

    let refused = control.feeds().watch("nowhere", 0, None).await.map(|_| ());
    assert!(matches!(refused, Err(Error::RegionNotRegistered { .. })), "{refused:?}");
    let refused = control.feeds().watch("us", -1, None).await.map(|_| ());
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
}

pub(crate) async fn a_reader_goes_on_where_it_was(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let control = &fixture.control;
    for (number, slug) in ["acme", "bolt", "cord", "dune"].into_iter().enumerate() {
        let id = i64::try_from(number + 1).expect("small");
        confirmed(control, number as u128 + 1, &[(id, slug)]).await;
    }
    let mut reader = Reader::new(control, "us", 3).await;
    reader.reach(5).await;
    assert_eq!((reader.snapshots, reader.slugs()), (0, vec!["cord", "dune"]));
    // A reader that is up to date is informed of that.
    let mut reader = Reader::new(control, "us", 5).await;
    assert_eq!((reader.hear().await, reader.version, reader.snapshots), (5, 5, 0));
    // A reader with a version above control's must have received it from a database that no longer exists.
    let mut reader = Reader::new(control, "us", 9).await;
    reader.hear().await;
    assert_eq!((reader.version, reader.snapshots, reader.slugs.len()), (5, 1, 4));
}

pub(crate) async fn a_reader_that_is_too_far_behind_starts_over(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let control = &fixture.control;
    let many: Vec<String> = (0..RETAINED).map(|number| format!("slug-{number:04}")).collect();
    let many: Vec<(i64, &str)> = (1..).zip(many.iter().map(String::as_str)).collect();
    confirmed(control, 1, &[(5_000, "acme")]).await;
    confirmed(control, 2, &many).await;
    confirmed(control, 3, &[(6_000, "bolt")]).await;
    let version = RETAINED + 3;
    assert_eq!(control.feeds().prune().await.expect("pruned"), 2);
    assert_eq!(control.feeds().prune().await.expect("nothing"), 0);

    let mut reader = Reader::new(control, "us", 2).await;
    reader.reach(version).await;
    assert_eq!((reader.snapshots, reader.slugs.len()), (1, many.len() + 2));
    let mut reader = Reader::new(control, "us", 3).await;
    reader.reach(version).await;
    assert_eq!((reader.snapshots, reader.events.len()), (0, many.len()));
}

pub(crate) async fn a_reader_hears_what_another_control_does(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let other = fixture.another(2).await;
    let mut reader = Reader::new(&fixture.control, "us", 0).await;
    reader.reach(1).await;
    confirmed(&other, 1, &[(1, "acme")]).await;
    reader.reach(2).await;
    assert_eq!(reader.slugs(), ["acme"]);
    other.stop().await;
    confirmed(&fixture.control, 2, &[(2, "bolt")]).await;
    reader.reach(3).await;
    assert_eq!(reader.slugs(), ["acme", "bolt"]);
}

/// Four controls, each with operations of its own on one region, some of them released again; two readers.
pub(crate) async fn changes_at_once_are_reported_in_one_order(fixture: Fixture) {
    const CONTROLS: u128 = 4;
    const OPERATIONS: u128 = 8;
    const SLUGS: i64 = 5;
    let fixture = fixture.with_regions(&["us"]).await;
    let (reading, also_reading) = (fixture.another(50).await, fixture.another(51).await);
    let mut readers = [Reader::new(&reading, "us", 0).await, Reader::new(&also_reading, "us", 0).await];
    let mut changes = JoinSet::new();
    for number in 0..CONTROLS {
        let control = fixture.another(100 + u64::try_from(number).expect("small")).await;
        changes.spawn(async move {
            for operation_number in 0..OPERATIONS {
                let first = i64::try_from(number * 1_000 + operation_number * 10).expect("small") + 1;
                let requested_slugs =
                    (first..first + SLUGS).map(|id| wanted(id, &format!("slug-{id}"))).collect();
                let id = operation(number * 100 + operation_number);
                bulk_create(&control, "us", id, requested_slugs).await.expect("reserved");
                control.slug_reservations().confirm("us", id).await.expect("confirmed");
                if operation_number % 2 == 1 {
                    control.slug_reservations().release("us", id).await.expect("released");
                }
            }
        });
    }
    changes.join_all().await;
    let confirmed = i64::try_from(CONTROLS * OPERATIONS).expect("small") * SLUGS;
    for reader in &mut readers {
        reader.reach(1 + confirmed + confirmed / 2).await;
    }
    let [one, other] = readers;
    assert_eq!(one.slugs, other.slugs);
    let reservations = fixture.reservations().await;
    let reserved: Vec<&str> = reservations.iter().map(|it| it.slug.as_str()).collect();
    assert_eq!(one.slugs(), reserved);
    assert_eq!(i64::try_from(reserved.len()).expect("small"), confirmed / 2);
}

pub(crate) async fn a_slow_reader_misses_nothing(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let control = &fixture.control;
    let mut reader = Reader::new(control, "us", 0).await;
    reader.reach(1).await;
    // More events than the messages that wait for a reader can contain.
    for number in 0..3 {
        let slugs: Vec<String> = (0..3_000).map(|id| format!("slug-{number}-{id}")).collect();
        let slugs: Vec<(i64, &str)> = (1 + number * 10_000..).zip(slugs.iter().map(String::as_str)).collect();
        confirmed(control, u128::try_from(number).expect("small"), &slugs).await;
    }
    // If the reader is so slow that control prunes events meanwhile, it starts again from a snapshot, and still gets
    // all slugs.
    reader.reach(9_001).await;
    assert_eq!(reader.slugs.len(), 9_000);
}

/// Control reads the parts that a slow reader has not received yet only later. Each part contains how far the
/// feed was when control read it.
pub(crate) async fn a_slow_reader_is_told_how_far_the_feed_is(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let control = &fixture.control;
    let many = async |number: i64, count: i64| {
        let slugs: Vec<String> = (0..count).map(|id| format!("slug-{number}-{id}")).collect();
        let slugs: Vec<(i64, &str)> = (1 + number * 20_000..).zip(slugs.iter().map(String::as_str)).collect();
        confirmed(control, u128::try_from(number).expect("small"), &slugs).await;
    };
    // A snapshot of six parts. When the reader has received one, two wait for it, and a third waits for room
    // among these.
    many(1, 11_000).await;
    let mut reader = Reader::new(control, "us", 0).await;
    reader.hear().await;
    many(2, 10).await;
    let mut last = 0;
    while reader.version == 0 {
        last = reader.hear().await;
    }
    assert_eq!((reader.version, last), (11_001, 11_011), "the last part says that there is more");
    reader.reach(11_011).await;
    assert_eq!(reader.slugs.len(), 11_010);

    // The same for events: five messages. Control reads the fifth one when the reader has received the second
    // one.
    many(3, 10_000).await;
    while reader.version == 11_011 {
        reader.hear().await;
    }
    many(4, 4_000).await;
    while reader.version < 21_011 {
        last = reader.hear().await;
    }
    assert_eq!(
        (reader.version, last),
        (21_011, 25_011),
        "the feed has more than the message, and the message says so"
    );
    reader.reach(25_011).await;
}

pub(crate) async fn a_feed_ends_when_its_control_does(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let mut reader = Reader::new(&fixture.control, "us", 0).await;
    reader.reach(1).await;
    fixture.control.stop().await;
    let ended = timeout(PATIENCE, async {
        loop {
            match reader.messages.recv().await {
                Some(Ok(_)) => {}
                other => return other,
            }
        }
    });
    let ended = ended.await.expect("it ends");
    assert!(matches!(ended, Some(Err(Error::ShuttingDown))), "{ended:?}");
}
