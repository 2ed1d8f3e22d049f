//! Two regions import the same organization while one of them dies half way and its calls to control get lost. In the
//! end each region has the organization once, under a slug of its own.
//!
//! `cargo run -p causeway-harness --example two_regions`

use std::time::Duration;

use causeway_harness::{
    cluster::{CallFaults, Cluster, ImportOptions, LinkState, Service, Store},
    export::Export,
};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> anyhow::Result<()> {
    let mut export = Export::new();
    export.organization(1, "acme").user(1, "ann").member(1, 1, 1).project(1, 1, "website");
    let export = export.to_bytes();

    // The builder also sets another store, more regions, several controls, and real processes.
    let cluster = Cluster::builder(Store::Sqlite).region("us").region("de").seed(42).start().await?;

    // Half of control's answers get lost on the way to a region, and one region cannot reach control at all.
    cluster.set_call_faults(CallFaults { lose_answers: 500, ..CallFaults::default() });
    cluster.set_link_state(1, LinkState::Cut);
    for region in 0..cluster.region_count() {
        cluster.region(region).begin(&export, &ImportOptions::default()).await?;
    }
    cluster.kill(Service::Region(0)).await;

    // Now everything works again: services run, links are open. Nothing else has to be done.
    cluster.heal().await?;
    cluster.quiet(Duration::from_secs(30)).await?;
    cluster.assert_invariants().await?;

    for region in 0..cluster.region_count() {
        for organization in cluster.region(region).visible_organizations().await? {
            println!(
                "{}: organization {} is {}",
                cluster.region_name(region),
                organization.id,
                organization.slug
            );
        }
    }
    println!("\nwhat happened:\n{}", cluster.trace());
    cluster.stop().await;
    Ok(())
}
