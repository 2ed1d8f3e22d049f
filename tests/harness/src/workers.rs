//! A small stand-in for the workers of the product: it reads and deletes the messages of both outboxes and
//! makes the mappings and replicas that they name, from what the other side has at that moment. It knows the
//! categories that an import uses, and leaves all others where they are.

use anyhow::ensure;
use causeway_silo::{
    db::{Db, DbError, Statement},
    transact,
};

/// What the messages of a category make on the other side. All parameters are texts.
struct Job {
    category: i64,
    /// Removes what was made before. `$1` is the organization, `$2` the object of the message.
    delete: &'static str,
    /// Reads the columns `a` to `e` of the source, whose id is `$1`. Without a row, nothing is made.
    read: &'static str,
    /// Makes it: `$1` and `$2` are as above, `$3` to `$7` are what was read, `$8` is the name of the region.
    insert: &'static str,
}

/// Messages of a region.
const OF_REGION: [Job; 4] = [
    Job {
        category: 2,
        delete: "DELETE FROM sentry_organizationmapping WHERE organization_id = CAST($1 AS bigint)",
        read: "SELECT slug AS a, name AS b, status::text AS c, NULL AS d, NULL AS e FROM sentry_organization WHERE id = $1",
        insert: "INSERT INTO sentry_organizationmapping (organization_id, slug, name, status, date_created, verified, \
                 idempotency_key, region_name) SELECT CAST($1 AS bigint), $3, $4, CAST($5 AS bigint), now(), false, '', $8",
    },
    Job {
        category: 3,
        delete: "DELETE FROM sentry_organizationmembermapping WHERE organization_id = CAST($1 AS bigint) \
                 AND organizationmember_id = CAST($2 AS bigint)",
        read: "SELECT role AS a, email::text AS b, user_id::text AS c, inviter_id::text AS d, invite_status::text AS e \
               FROM sentry_organizationmember WHERE id = $1",
        insert: "INSERT INTO sentry_organizationmembermapping (organization_id, organizationmember_id, role, email, user_id, \
                 inviter_id, invite_status, date_added) SELECT CAST($1 AS bigint), CAST($2 AS bigint), $3, $4, \
                 CAST($5 AS bigint), CAST($6 AS bigint), CAST($7 AS smallint), now()",
    },
    Job {
        category: 11,
        delete: "DELETE FROM sentry_teamreplica WHERE organization_id = CAST($1 AS bigint) AND team_id = CAST($2 AS bigint)",
        read: "SELECT slug AS a, name AS b, status::text AS c, NULL AS d, NULL AS e FROM sentry_team WHERE id = $1",
        insert: "INSERT INTO sentry_teamreplica (organization_id, team_id, slug, name, status, date_added) \
                 SELECT CAST($1 AS bigint), CAST($2 AS bigint), $3, $4, CAST($5 AS integer), now()",
    },
    Job {
        category: 26,
        delete: "DELETE FROM sentry_organizationmember_teamsreplica WHERE organization_id = CAST($1 AS bigint) \
                 AND organizationmemberteam_id = CAST($2 AS bigint)",
        read: "SELECT team_id::text AS a, organizationmember_id::text AS b, is_active::text AS c, role AS d, NULL AS e \
               FROM sentry_organizationmember_teams WHERE id = $1",
        insert: "INSERT INTO sentry_organizationmember_teamsreplica (organization_id, organizationmemberteam_id, team_id, \
                 organizationmember_id, is_active, role, date_added) SELECT CAST($1 AS bigint), CAST($2 AS bigint), \
                 CAST($3 AS bigint), CAST($4 AS bigint), CAST($5 AS boolean), $6, now()",
    },
];

/// What the workers do for the messages in control's outbox.
const OF_CONTROL: [Job; 2] = [
    Job {
        category: 27,
        // And what is in the way of the new copy.
        delete: "DELETE FROM hybridcloud_organizationslugreservationreplica WHERE organization_slug_reservation_id = \
                 CAST($2 AS bigint) OR organization_id = CAST($1 AS bigint)",
        read: "SELECT slug AS a, organization_id::text AS b, user_id::text AS c, region_name AS d, reservation_type::text AS e \
               FROM sentry_organizationslugreservation WHERE id = $1",
        insert: "INSERT INTO hybridcloud_organizationslugreservationreplica (organization_slug_reservation_id, slug, \
                 organization_id, user_id, region_name, reservation_type, date_added) SELECT CAST($2 AS bigint), $3, \
                 CAST($4 AS bigint), CAST($5 AS bigint), $6, CAST($7 AS bigint), now()",
    },
    Job {
        category: 33,
        delete: "DELETE FROM hybridcloud_orgauthtokenreplica WHERE organization_id = CAST($1 AS bigint) \
                 AND orgauthtoken_id = CAST($2 AS bigint)",
        read: "SELECT token_hashed AS a, name AS b, NULL AS c, NULL AS d, NULL AS e FROM sentry_orgauthtoken WHERE id = $1",
        insert: "INSERT INTO hybridcloud_orgauthtokenreplica (organization_id, orgauthtoken_id, token_hashed, name, \
                 date_added) SELECT CAST($1 AS bigint), CAST($2 AS bigint), $3, $4, now()",
    },
];

/// Takes all messages that an import may have written, and returns how many there were.
///
/// # Errors
/// If a database refuses, or a message names another region than `region_name`.
pub async fn drain(control: &Db, region: &Db, region_name: &str) -> anyhow::Result<usize> {
    let here = work(region, control, "sentry_regionoutbox", &OF_REGION, region_name).await?;
    // In this release, nothing is made of these.
    execute(region, Statement::new("DELETE FROM sentry_regionoutbox WHERE category = 8")).await?;
    let strange = Statement::new(
        "SELECT region_name AS name FROM sentry_controloutbox WHERE category IN (27, 33) AND region_name <> $1",
    );
    let strange = control.fetch_all(strange.with(region_name)).await?;
    ensure!(strange.is_empty(), "control has messages for another region: {strange:?}");
    let there = work(control, region, "sentry_controloutbox", &OF_CONTROL, region_name).await?;
    Ok(here + there)
}

/// Takes the messages of one outbox, in their order: reads `from`, and writes to `to`.
async fn work(from: &Db, to: &Db, outbox: &str, jobs: &[Job], region_name: &str) -> anyhow::Result<usize> {
    let mut taken = 0;
    loop {
        let next = Statement::new(
            "SELECT id, shard_scope, shard_identifier, object_identifier, CAST(category AS bigint) AS category FROM ",
        )
        .push(outbox)
        .push(" WHERE category IN (2, 3, 11, 26, 27, 33) AND scheduled_for < now() ORDER BY id LIMIT 1");
        let Some(message) = from.fetch_optional(next).await? else { return Ok(taken) };
        let (organization, object) = (message.int("shard_identifier")?, message.int("object_identifier")?);
        let category = message.int("category")?;
        if let Some(job) = jobs.iter().find(|job| job.category == category) {
            let both =
                |statement: Statement| statement.with(organization.to_string()).with(object.to_string());
            execute(to, both(Statement::new(job.delete))).await?;
            if let Some(source) = from.fetch_optional(Statement::new(job.read).with(object)).await? {
                let mut insert = both(Statement::new(job.insert));
                for column in ["a", "b", "c", "d", "e"] {
                    insert = insert.with(source.opt_text(column)?);
                }
                execute(to, insert.with(region_name)).await?;
            }
        }
        let done = Statement::new("DELETE FROM ").push(outbox).push(" WHERE id = ").arg(message.int("id")?);
        execute(from, done).await?;
        taken += 1;
    }
}

async fn execute(db: &Db, statement: Statement) -> Result<(), DbError> {
    transact!(DbError, db, |tx| {
        tx.execute(statement.clone()).await?;
    })
}
