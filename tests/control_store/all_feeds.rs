//! The feeds of all regions on one stream, and the limits on streams for routers and regions.

use std::{collections::BTreeMap, time::Duration};

use causeway_control::{
    Control, Error,
    feed::all::AllMessage,
    feed::{Message, Messages, Part},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{Fixture, WATCHES, bulk_create, operation, refused_field, wanted};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a reader of all feeds has: for each region, its version and its slugs.
#[derive(Debug)]
struct All {
    messages: Messages<AllMessage>,
    regions: BTreeMap<String, (i64, BTreeMap<String, i64>)>,
    snapshots: usize,
}

impl All {
    async fn new(control: &Control, positions: &[(&str, i64)]) -> Self {
        let positions = positions.iter().map(|(region, version)| ((*region).to_owned(), *version));
        let messages = control.feeds().watch_all(positions.collect()).await.expect("a stream");
        Self { messages, regions: BTreeMap::new(), snapshots: 0 }
    }

    async fn next(&mut self) -> AllMessage {
        let message = timeout(PATIENCE, self.messages.recv()).await.expect("in time").expect("it goes on");
        let message = message.expect("a message");
        match &message {
            AllMessage::Regions { regions, first, last } => {
                assert!(first & last, "few regions");
                let before = std::mem::take(&mut self.regions);
                for (name, address) in regions {
                    assert_eq!(*address, format!("https://{name}.example.com"));
                    self.regions.insert(name.clone(), before.get(name).cloned().unwrap_or_default());
                }
            }
            AllMessage::Feed { region, message: Message { part, current_version } } => {
                let (version, slugs) = self.regions.get_mut(region).expect("a region that was listed");
                match part {
                    Part::Snapshot { version: at, reservations, first, last } => {
                        assert!(first & last, "few slugs");
                        slugs.clear();
                        slugs.extend(reservations.iter().map(|it| (it.slug.clone(), it.organization_id)));
                        (*version, self.snapshots) = (*at, self.snapshots + 1);
                    }
                    Part::Events(events) => {
                        for event in events {
                            assert!(
                                *version == 0 || event.version == *version + 1,
                                "{event:?} after {version}"
                            );
                            *version = event.version;
                            let reservation = &event.reservation;
                            match reservation.kind {
                                Some(_) => {
                                    slugs.insert(reservation.slug.clone(), reservation.organization_id);
                                }
                                None => {
                                    slugs.remove(&reservation.slug);
                                }
                            }
                        }
                    }
                    Part::Heartbeat => panic!("a heartbeat of one region"),
                }
                assert!(*current_version >= *version);
            }
            AllMessage::Positions(_) => {}
        }
        message
    }

    /// Reads until control has sent everything, and returns the positions.
    async fn positions(&mut self) -> BTreeMap<String, i64> {
        loop {
            if let AllMessage::Positions(positions) = self.next().await {
                return positions.into_iter().collect();
            }
        }
    }

    async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            self.next().await;
        }
    }

    fn has(&self, region: &str, slug: &str) -> Option<i64> {
        self.regions.get(region)?.1.get(slug).copied()
    }
}

async fn confirmed(control: &Control, region: &str, number: u128, id: i64, slug: &str) {
    bulk_create(control, region, operation(number), vec![wanted(id, slug)]).await.expect("reserved");
    control.slug_reservations().confirm(region, operation(number)).await.expect("confirmed");
}

pub(crate) async fn one_stream_carries_the_feeds_of_all_regions(fixture: Fixture) {
    let fixture = fixture.with_regions(&["de", "us"]).await;
    let (control, other) = (&fixture.control, fixture.another(2).await);
    confirmed(control, "us", 1, 1, "acme").await;
    let mut all = All::new(&other, &[]).await;
    assert!(matches!(all.next().await, AllMessage::Regions { .. }), "the list of regions comes first");
    let positions = all.positions().await;
    assert_eq!((all.has("us", "acme"), all.snapshots), (Some(1), 2));
    assert_eq!(positions["us"], all.regions["us"].0);
    assert_eq!(positions["de"], all.regions["de"].0);

    // Control reports each change, whichever control makes it.
    confirmed(control, "de", 1, 2, "bolt").await;
    confirmed(&other, "us", 2, 3, "cord").await;
    all.until(|all| all.has("de", "bolt") == Some(2) && all.has("us", "cord") == Some(3)).await;
    control.slug_reservations().release("us", operation(1)).await.expect("released");
    all.until(|all| all.has("us", "acme").is_none()).await;
    assert_eq!(all.snapshots, 2, "changes arrive as events");

    // A region that registers appears soon, and so do its slugs.
    let address = "https://au.example.com";
    control.regions().register("au", address, Uuid::from_u128(7)).await.expect("registered");
    all.until(|all| all.regions.contains_key("au")).await;
    confirmed(control, "au", 1, 4, "dune").await;
    all.until(|all| all.has("au", "dune") == Some(4)).await;

    // A reader that comes back continues at its positions, and gets a snapshot only where that is not possible.
    let at = |all: &All, region: &str| all.regions[region].0;
    let (us, de) = (at(&all, "us"), at(&all, "de"));
    drop(all);
    confirmed(control, "us", 5, 5, "elm").await;
    let mut back = All::new(control, &[("us", us), ("de", de + 1_000), ("nowhere", 3)]).await;
    let positions = back.positions().await;
    assert_eq!((back.has("us", "elm"), back.has("us", "cord")), (Some(5), None), "the change alone");
    assert_eq!((back.has("de", "bolt"), back.has("au", "dune")), (Some(2), Some(4)));
    assert_eq!(back.snapshots, 2);
    assert_eq!(positions.keys().collect::<Vec<_>>(), ["au", "de", "us"]);

    let twice = vec![("us".to_owned(), 1), ("us".to_owned(), 2)];
    assert_eq!(refused_field(control.feeds().watch_all(twice).await.map(|_| ())), "positions[1].region");
    let negative = vec![("us".to_owned(), -1)];
    assert_eq!(refused_field(control.feeds().watch_all(negative).await.map(|_| ())), "positions[0].version");
    let many = (0..10_001).map(|number| (number.to_string(), 0)).collect();
    assert_eq!(refused_field(control.feeds().watch_all(many).await.map(|_| ())), "positions");
}

/// The error that ends a stream.
async fn end(messages: &mut Messages<Message>) -> Option<Error> {
    let ended = async {
        while let Some(message) = messages.recv().await {
            if let Err(error) = message {
                return Some(error);
            }
        }
        None
    };
    timeout(PATIENCE, ended).await.expect("in time")
}

pub(crate) async fn routers_do_not_take_the_places_of_regions(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let feeds = fixture.control.feeds();
    let (us, de) = (Some(Uuid::from_u128(1000)), Some(Uuid::from_u128(1001)));
    let mut routers = Vec::new();
    for _ in 0..WATCHES {
        routers.push(feeds.watch_all(Vec::new()).await.expect("a stream"));
    }
    let refused = feeds.watch_all(Vec::new()).await.map(|_| ());
    assert!(matches!(refused, Err(Error::TooManyWatches { limit: WATCHES })), "{refused:?}");
    let refused = feeds.watch("us", 0, None).await.map(|_| ());
    assert!(matches!(refused, Err(Error::TooManyWatches { limit: WATCHES })), "{refused:?}");

    // Each region still gets its own feed, but not the feed of another one.
    let refused = feeds.watch("us", 0, de).await.map(|_| ());
    assert!(matches!(refused, Err(Error::RegionNameTaken { .. })), "{refused:?}");
    let mut other = feeds.watch("de", 0, de).await.expect("a stream");
    let mut own = Vec::new();
    for _ in 0..5 {
        own.push(feeds.watch("us", 0, us).await.expect("a stream"));
    }
    // The first stream is closed in favour of the fifth.
    let ended = end(&mut own[0]).await;
    assert!(matches!(ended, Some(Error::TooManyWatches { limit: 4 })), "{ended:?}");
    for messages in own[1..].iter_mut().chain([&mut other]) {
        assert!(messages.recv().await.expect("it goes on").is_ok());
    }
    // Streams of regions do not use up the places of routers either.
    drop(routers.pop());
    let mut again = feeds.watch_all(Vec::new()).await;
    while again.is_err() {
        // The place becomes free when the stream's task has ended.
        tokio::time::sleep(Duration::from_millis(5)).await;
        again = feeds.watch_all(Vec::new()).await;
    }
}
