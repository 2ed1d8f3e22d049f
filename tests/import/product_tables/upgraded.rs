//! Upgrades of the product that alter the tables that an import writes for its workers.

use super::*;

const JSONB: &str = "ALTER TABLE sentry_regionoutbox ALTER payload TYPE jsonb USING payload::jsonb";

/// Neither service is started again. In newer releases, payloads are of another type, and a copy may be gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_outbox_between_two_imports_does_no_harm() {
    let layout = Layout { one_database: false, region: "us", release: Release::R25_6 };
    let product = Product::start(layout).await;
    let first = product.import(&export(), &ImportOptions::default()).await;
    product.execute(Silo::Region(0), &[JSONB.to_owned()]).await;
    let second = product.import(&export(), &ImportOptions::default()).await;
    let payloads = "SELECT DISTINCT payload::jsonb ->> 'user_id' AS line FROM sentry_regionoutbox \
                    WHERE payload IS NOT NULL ORDER BY 1";
    let users = "SELECT DISTINCT user_id::text AS line FROM sentry_organizationmember WHERE user_id IS NOT NULL ORDER BY 1";
    assert_eq!(product.region(payloads).await, product.region(users).await);
    product.drain().await;
    product.assert_known().await;
    product.execute(Silo::Control, &["DROP TABLE sentry_teamreplica".to_owned()]).await;
    product.execute(Silo::Region(0), &["DROP TABLE hybridcloud_orgauthtokenreplica".to_owned()]).await;
    assert_eq!(product.compare(ReconcileMode::Check).await, [], "what is gone is not compared");
    for import in [&second, &first] {
        product.revert(import).await;
    }
    let reserved = "SELECT slug AS line FROM sentry_organizationslugreservation";
    assert_eq!(product.control(reserved).await, ["taken"]);
    assert_eq!(product.control("SELECT slug AS line FROM sentry_organizationmapping").await, ["taken"]);
    for table in ["sentry_organization", "hybridcloud_organizationslugreservationreplica"] {
        let rows = product.region(&format!("SELECT id::text AS line FROM {table}")).await;
        assert_eq!(rows, [] as [String; 0], "{table}");
    }
    product.cluster.stop().await;
}

/// An import that was planned for another outbox ends before anything is visible, and so does one that finds that the
/// outbox needs what nobody knows. Each says which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_outbox_during_an_import_ends_it() {
    let add = "ALTER TABLE sentry_regionoutbox ADD COLUMN later integer DEFAULT 0";
    let need = "ALTER TABLE sentry_regionoutbox ALTER later SET NOT NULL, ALTER later DROP DEFAULT";
    let of_control = "ALTER TABLE sentry_controloutbox ADD COLUMN later integer";
    let failpoints = Failpoints::default();
    let layout = Layout { one_database: false, region: "us", release: Release::R25_6 };
    let product = Product::start_with(layout, |builder| builder.failpoints(&failpoints)).await;
    let steps = [
        (Silo::Region(0), add, "have changed since"),
        (Silo::Control, of_control, "have changed since"),
        (Silo::Region(0), need, "sentry_regionoutbox.later needs a value"),
    ];
    for (silo, change, why) in steps {
        failpoints.arm("region.control_chunk.ready", Act::Hold, 0);
        let begun = product.cluster.region(0).begin(&export().to_bytes(), &ImportOptions::default()).await;
        let id = begun.expect("it begins").import.unwrap_or_default().import_id;
        failpoints.held().await;
        product.execute(silo, &[change.to_owned()]).await;
        failpoints.disarm();
        failpoints.arm("region.control_chunk.ready", Act::Fail, 0);
        failpoints.release();
        let ended = product.cluster.region(0).wait(&id).await.expect("it ends");
        let failure = ended.failure.clone().unwrap_or_default();
        assert_eq!(
            (ended.state(), failure.reason()),
            (ImportState::Failed, ErrorReason::SchemaChanged),
            "{failure:?}"
        );
        assert!(failure.message.contains(why), "{failure:?}");
        assert_eq!(
            product.region("SELECT slug AS line FROM sentry_organization WHERE status = 0").await,
            [] as [String; 0]
        );
    }
    product.cluster.stop().await;
}
