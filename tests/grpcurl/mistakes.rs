//! Every mistake that a caller can make, and the answer to it.

use std::collections::{BTreeMap, BTreeSet};

use causeway_harness::cluster::{Cluster, Silo};
use causeway_relocation::encrypted::{PublicKey, encrypt};
use causeway_silo::{db::Statement, env::Environment};
use serde_json::{Value, json};

use crate::{
    dynamic::Client,
    page::{self, Shell},
};

/// Reasons that no call alone can cause: something around the service must be broken, another caller must be faster or
/// act in its place, callers must have certificates, control must take only regions that were added, or it takes a
/// million organizations or a hundred renames. Other tests cover them.
const OF_NO_CALLER: [&str; 31] = [
    "CONTROL_NOT_OF_PRODUCT",
    "CONTROL_UNAVAILABLE",
    "COUNTS_DO_NOT_ADD_UP",
    "DATABASE_CONTENTION",
    "DATABASE_FULL",
    "DATABASE_UNAVAILABLE",
    "IDENTITY_INVALID",
    "ID_SPACE_EXHAUSTED",
    // Instructions come with reports, and their refusals go with them: tests/import.
    "INSTRUCTIONS_REFUSED",
    "INTERNAL",
    "MERGE_NOT_ALLOWED",
    "NOT_OWN_IMPORT",
    "NOT_OWN_REGION",
    "ORGANIZATION_NOT_RESERVED",
    "RECONCILIATION_UNDER_WAY",
    "REGION_NOT_ADDED",
    "ROLE_NOT_ALLOWED",
    "SCHEMA_CHANGED",
    // The state of an import, after control was put back from an older copy: tests/restored.
    "CONTROL_LOST_ROWS",
    "SHUTTING_DOWN",
    "SPOOL_FAILED",
    "STREAM_STALLED",
    "TOO_MANY_ALIASES",
    "TOO_MANY_BULK_CREATIONS",
    "TOO_MANY_CALLS",
    "TOO_MANY_SLUGS",
    "TOO_MANY_UPLOADS",
    "TOO_MANY_WATCHES",
    "TOO_MUCH_IN_HAND",
    "UNIQUE_CONFLICT",
    "UPLOAD_STALLED",
];

const KEY: &str = include_str!("../encrypted-exports/test-key-public.pem");
const OTHER_KEY: &str = include_str!("../encrypted-exports/other-test-key-public.pem");
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

const RESOLVE: &str = "causeway.control.v1.DirectoryService/ResolveSlug";
const LEASE: &str = "causeway.control.v1.RegionService/LeaseIds";
const GET_REGION: &str = "causeway.control.v1.RegionService/GetRegion";
const REGISTER: &str = "causeway.control.v1.RegionService/RegisterRegion";
const REMOVE_REGION: &str = "causeway.control.v1.RegionService/RemoveRegion";
const SUSPEND: &str = "causeway.control.v1.RegionService/SuspendRegion";
const RESUME_REGION: &str = "causeway.control.v1.RegionService/ResumeRegion";
const RESERVATIONS: &str = "causeway.control.v1.SlugReservationService/ListSlugReservations";
const RESERVE: &str = "causeway.control.v1.SlugReservationService/BulkCreateOrganizationSlugReservations";
const RESERVE_ONE: &str = "causeway.control.v1.SlugReservationService/CreateOrganizationSlugReservation";
const OPERATION: &str = "causeway.control.v1.SlugReservationService/GetSlugOperation";
const OPERATIONS: &str = "causeway.control.v1.SlugReservationService/ListSlugOperations";
const VERSION: &str = "causeway.relocation.v1.VersionService/GetVersion";
const CONFIRM: &str = "causeway.control.v1.SlugReservationService/ConfirmOrganizationSlugReservations";
const RELEASE: &str = "causeway.control.v1.SlugReservationService/ReleaseOrganizationSlugReservations";
const RENAME: &str = "causeway.control.v1.SlugReservationService/UpdateOrganizationSlug";
const RELEASE_ALIAS: &str = "causeway.control.v1.SlugReservationService/ReleaseSlugAlias";
const FEED: &str = "causeway.control.v1.SlugReservationService/WatchSlugReservations";
const FIND_ROWS: &str = "causeway.control.v1.ControlImportService/FindRows";
const WRITE: &str = "causeway.control.v1.ControlImportService/ImportModels";
const IMPORT: &str = "causeway.region.v1.ImportService/ImportOrganizations";
const GET: &str = "causeway.region.v1.ImportService/GetImport";
const LIST: &str = "causeway.region.v1.ImportService/ListImports";
const WATCH: &str = "causeway.region.v1.ImportService/WatchImport";
const FINDINGS: &str = "causeway.region.v1.ImportService/ListFindings";
const KEYS: &str = "causeway.region.v1.ImportService/ListMappedKeys";
const RESUME: &str = "causeway.region.v1.ImportService/ResumeImport";
const PAUSE: &str = "causeway.region.v1.ImportService/PauseImports";
const UNPAUSE: &str = "causeway.region.v1.ImportService/UnpauseImports";
const SET_THROTTLE: &str = "causeway.region.v1.ThrottleService/SetThrottle";
const REVERT: &str = "causeway.region.v1.ImportService/RevertImport";
const PUBLIC_KEY: &str = "causeway.region.v1.ImportService/GetPublicKey";
const ORGANIZATION: &str = "causeway.region.v1.OrganizationService/GetOrganization";
const REPLICA: &str = "causeway.region.v1.OrganizationService/ResolveSlug";

/// The id with this number.
fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn import_id(number: u32) -> Value {
    json!({"importId": id(number)})
}

/// A caller, and the mistakes that it has made so far.
struct Caller {
    control: Client,
    us: Client,
    de: Client,
    shell: Shell,
    /// The code of each reason that it has received.
    met: BTreeMap<String, String>,
}

/// Makes all mistakes. The first region has a key and the second one has none.
pub(crate) async fn make_all(cluster: &mut Cluster) {
    let mut caller = Caller {
        control: Client::meet(&cluster.control_url()).await,
        us: Client::meet(cluster.region(0).url()).await,
        de: Client::meet(cluster.region(1).url()).await,
        shell: Shell::new(),
        met: BTreeMap::new(),
    };
    let import = caller.import("examples/acme.json", json!({"importId": id(1)})).await;
    assert_eq!(import["state"], "IMPORT_STATE_SUCCEEDED", "{import}");
    caller.asks_for_what_is_not_there().await;
    caller.registers_and_leases().await;
    caller.reserves().await;
    caller.writes_to_control().await;
    caller.uploads().await;
    caller.imports_what_fails().await;
    caller.renames(cluster).await;

    let met: BTreeSet<String> = caller.met.keys().cloned().collect();
    let spared = OF_NO_CALLER.map(str::to_owned).into();
    let expected: BTreeSet<String> = caller.control.reasons().difference(&spared).cloned().collect();
    assert_eq!(
        met, expected,
        "a reason that a caller can get is not tested here, or is listed as one that no caller can get"
    );
    assert!(met.is_disjoint(&spared), "a caller got one of {spared:?}");
    let shown = page::mistakes();
    assert_eq!(shown.len(), met.len(), "a reason is on the page twice, or not at all");
    assert_eq!(shown.into_iter().collect::<BTreeMap<_, _>>(), caller.met);
}

impl Caller {
    fn meets(&mut self, reason: &str) {
        // Both services explain every reason in the same way.
        self.met.insert(reason.to_owned(), format!("{:?}", self.control.documented(reason)));
    }

    /// Makes calls that must fail for these reasons.
    async fn fails(&mut self, region: Option<usize>, calls: &[(&str, Vec<Value>, &str)]) {
        for (method, requests, reason) in calls {
            let client = match region {
                None => &self.control,
                Some(0) => &self.us,
                Some(_) => &self.de,
            };
            let mistake = client.call(method, requests).await.expect_err("it is a mistake");
            assert_eq!(mistake.reason, *reason, "{method} {requests:?}: {mistake:?}");
            assert!(mistake.message.len() > 10, "{method} {requests:?}: {mistake:?}");
            assert!(client.lists(method, reason), "the comment of {method} does not list {reason}");
            self.meets(reason);
        }
    }

    /// Makes a call that must succeed.
    async fn succeeds(&self, method: &str, request: Value) -> Value {
        self.control.one(method, request).await.unwrap_or_else(|mistake| panic!("{method}: {mistake:?}"))
    }

    /// Imports a file into the first region, and returns the import at its end.
    async fn import(&self, file: &str, mut header: Value) -> Value {
        header["scope"] = json!("SCOPE_ORGANIZATION");
        let messages = self.shell.messages(file, &header).await;
        self.us.call(IMPORT, &messages).await.expect("the file is taken");
        let seen = self.us.call(WATCH, &[json!({"importId": header["importId"]})]).await;
        seen.expect("it can be watched").last().expect("it was seen")["import"].clone()
    }

    async fn asks_for_what_is_not_there(&mut self) {
        let token = || vec![json!({"pageSize": 2, "pageToken": "x"})];
        let unknown = || vec![json!({"importId": UNKNOWN})];
        self.fails(
            None,
            &[
                (RESOLVE, vec![json!({"slug": "nobody"})], "SLUG_NOT_FOUND"),
                (RESERVATIONS, token(), "INVALID_PAGE_TOKEN"),
                (GET_REGION, vec![json!({"name": "atlantis"})], "REGION_NOT_FOUND"),
                (FEED, vec![json!({"region": "atlantis"})], "REGION_NOT_REGISTERED"),
                (FEED, vec![json!({"region": "us", "afterVersion": "-1"})], "INVALID_ARGUMENT"),
                (VERSION, vec![json!({"contractRevision": 1_000})], "CONTRACT_NOT_SUPPORTED"),
                (
                    VERSION,
                    vec![json!({"requiredCapabilities": ["CAPABILITY_ENCRYPTED_EXPORTS"]})],
                    "CAPABILITY_MISSING",
                ),
            ],
        )
        .await;
        self.fails(
            Some(0),
            &[
                (GET, vec![json!({"importId": "7"})], "INVALID_ARGUMENT"),
                (GET, unknown(), "IMPORT_NOT_FOUND"),
                (WATCH, unknown(), "IMPORT_NOT_FOUND"),
                (FINDINGS, unknown(), "IMPORT_NOT_FOUND"),
                (KEYS, unknown(), "IMPORT_NOT_FOUND"),
                (RESUME, unknown(), "IMPORT_NOT_FOUND"),
                (REVERT, unknown(), "IMPORT_NOT_FOUND"),
                (LIST, token(), "INVALID_PAGE_TOKEN"),
                (ORGANIZATION, vec![json!({"id": "1234567"})], "ORGANIZATION_NOT_FOUND"),
                (ORGANIZATION, vec![json!({})], "INVALID_ARGUMENT"),
                (REPLICA, vec![json!({"slug": ""})], "INVALID_ARGUMENT"),
            ],
        )
        .await;
    }

    async fn registers_and_leases(&mut self) {
        let lease = |region: &str, operation: &str, count: u32, above: &str| {
            vec![json!({
                "region": region, "operationId": operation, "model": "sentry.project", "count": count, "above": above,
            })]
        };
        let other = json!({"name": "us", "address": "http://other.example.com", "instanceId": UNKNOWN});
        self.succeeds(LEASE, lease("us", &id(10), 5, "0").remove(0)).await;
        self.fails(
            None,
            &[
                (REGISTER, vec![other], "REGION_NAME_TAKEN"),
                (LEASE, lease("us", "7", 1, "0"), "INVALID_ARGUMENT"),
                (LEASE, lease("atlantis", &id(11), 1, "0"), "REGION_NOT_REGISTERED"),
                (LEASE, lease("us", &id(10), 6, "0"), "OPERATION_CONTENT_DIFFERS"),
                (REMOVE_REGION, vec![json!({"name": "us"})], "REGION_HAS_REGISTERED"),
            ],
        )
        .await;
        self.succeeds(SUSPEND, json!({"name": "us", "text": "a test"})).await;
        self.fails(None, &[(LEASE, lease("us", &id(12), 1, "0"), "REGION_SUSPENDED")]).await;
        self.succeeds(RESUME_REGION, json!({"name": "us"})).await;
    }

    async fn reserves(&mut self) {
        let operation = |number| json!({"region": "de", "operationId": id(number)});
        let asks = |number, organization: &str, sha256: &str| {
            let wanted = json!({"requests": [{"organizationId": organization, "slug": "elsewhere"}]});
            let end = json!({"organizationCount": "1", "sha256": sha256});
            vec![json!({"header": operation(number)}), json!({"batch": wanted}), json!({"end": end})]
        };
        // The hash of `900000\0elsewhere\0\x000\n`.
        let reserve = |number| {
            asks(number, "900000", "b6498d34d95edde7418c48628cc0ee389d4a5e718661649f3005c0d0338eeba3")
        };
        // The hash of `900\0elsewhere\0\x000\n`. The id is in a block that the other region has leased.
        let of_another = asks(22, "900", "1e70589c52f4635cee2a8279b4482fbf926810a253caa2d61acb64e2dd1e92b0");
        self.fails(None, &[(RESERVE, of_another, "ORGANIZATION_ID_TAKEN")]).await;
        self.control.call(RESERVE, &reserve(20)).await.expect("reserved");
        self.fails(None, &[(RESERVE, reserve(21), "ORGANIZATION_ALREADY_RESERVED")]).await;
        self.succeeds(RELEASE, operation(20)).await;
        self.fails(
            None,
            &[
                (CONFIRM, vec![operation(20)], "OPERATION_RELEASED"),
                (CONFIRM, vec![operation(22)], "OPERATION_NOT_FOUND"),
                (OPERATION, vec![operation(22)], "OPERATION_NOT_FOUND"),
                (RESERVE_ONE, vec![operation(22)], "INVALID_ARGUMENT"),
                (OPERATIONS, vec![json!({"pageToken": "x"})], "INVALID_PAGE_TOKEN"),
            ],
        )
        .await;
    }

    async fn writes_to_control(&mut self) {
        let chunk = |address: &str| {
            let fields = json!({"email": address, "date_added": "2026-01-01T00:00:00Z"}).to_string();
            json!({
                "region": "de", "importId": id(30), "model": "sentry.email", "minOrdinal": "1", "maxOrdinal": "1",
                "records": [{"ordinal": "1", "sourcePk": "1", "fieldsJson": fields}],
            })
        };
        self.succeeds(WRITE, chunk("one@example.com")).await;
        let rows = json!({"model": "sentry.team", "field": "slug", "values": ["web"]});
        let of_import = json!({
            "model": "sentry.email", "field": "email", "values": ["web"], "region": "de", "importId": id(30),
        });
        let mut of_stranger = chunk("");
        of_stranger["model"] = json!("sentry.useremail");
        of_stranger["records"][0]["fieldsJson"] = json!(r#"{"user": 1, "email": "one@example.com"}"#);
        self.fails(
            None,
            &[
                (WRITE, vec![of_stranger], "ROW_NOT_OF_IMPORT"),
                (WRITE, vec![chunk("other@example.com")], "CHUNK_CONTENT_DIFFERS"),
                (FIND_ROWS, vec![rows], "MODEL_NOT_WRITABLE"),
                (FIND_ROWS, vec![of_import], "IMPORT_NOT_PLANNING"),
            ],
        )
        .await;
    }

    async fn uploads(&mut self) {
        let header = |extra: Value| {
            let mut header = json!({"importId": id(40), "scope": "SCOPE_ORGANIZATION"});
            header.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            json!({"header": header})
        };
        let empty = || json!({"data": "W10="});
        let sha256 = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
        let end = || json!({"end": {"sizeBytes": "2", "sha256": sha256}});
        let same = header(json!({"importId": id(1)}));
        let encrypted = self.encrypted("other.tar", OTHER_KEY).await;
        let damaged = self.encrypted("damaged.tar", KEY).await;
        let without_key = self.encrypted("any.tar", KEY).await;
        self.fails(
            Some(0),
            &[
                (IMPORT, vec![same, empty(), end()], "IMPORT_CONTENT_DIFFERS"),
                (IMPORT, vec![header(json!({"importId": "7"})), empty()], "INVALID_ARGUMENT"),
                (IMPORT, vec![empty()], "UPLOAD_INVALID"),
                (IMPORT, vec![header(json!({})), empty()], "STREAM_INCOMPLETE"),
                (IMPORT, vec![header(json!({"sizeBytes": "5"})), empty(), end()], "UPLOAD_INVALID"),
                (IMPORT, vec![header(json!({"sizeBytes": "1099511627776"})), empty()], "UPLOAD_TOO_LARGE"),
                (IMPORT, encrypted, "DECRYPTION_KEY_MISMATCH"),
                (IMPORT, damaged, "ENCRYPTED_EXPORT_INVALID"),
                (RESUME, vec![import_id(1)], "IMPORT_NOT_FAILED"),
                (PAUSE, vec![import_id(1)], "IMPORT_ENDED"),
                (UNPAUSE, vec![json!({})], "INVALID_ARGUMENT"),
                (SET_THROTTLE, vec![json!({"maxRowsPerSecond": "0"})], "INVALID_ARGUMENT"),
            ],
        )
        .await;
        self.fails(
            Some(1),
            &[
                (IMPORT, without_key, "DECRYPTION_KEY_MISSING"),
                (PUBLIC_KEY, vec![json!({})], "DECRYPTION_KEY_MISSING"),
            ],
        )
        .await;
    }

    /// An upload of an export that is encrypted for this key. A damaged one has another byte in its token.
    async fn encrypted(&self, name: &str, key: &str) -> Vec<Value> {
        let (plain, key) = (b"[]\n".as_slice(), PublicKey::from_pem(key).expect("a key"));
        let mut bytes = Vec::new();
        encrypt(plain, plain.len() as u64, &key, &Environment::system(), &mut bytes)
            .expect("it is encrypted");
        if name == "damaged.tar" {
            // The token begins after the header of its member. Its first bytes are a version and a time.
            bytes[512 + 40] ^= 1;
        }
        std::fs::write(self.shell.path().join(name), bytes).expect("it is written");
        self.shell.messages(name, &json!({"importId": id(41), "scope": "SCOPE_ORGANIZATION"})).await
    }

    async fn imports_what_fails(&mut self) {
        let write = |name: &str, text: String| {
            std::fs::write(self.shell.path().join(name), text).expect("it is written");
        };
        let record =
            |model: &str, fields: &str| format!(r#"[{{"model": "{model}", "pk": 9, "fields": {fields}}}]"#);
        write("bad.json", record("sentry.team", r#"{"name": null}"#));
        write(
            "deep.json",
            record("sentry.team", &format!("{{\"name\": {}{}}}", "[".repeat(200), "]".repeat(200))),
        );
        write("large.json", record("sentry.user", &format!("{{\"username\": \"{}\"}}", "x".repeat(4 << 20))));
        let filter = json!({"importId": id(52), "filter": {"slugs": ["nobody"]}});
        for (file, header, reason) in [
            ("bad.json", import_id(50), "EXPORT_INVALID"),
            ("deep.json", import_id(51), "RECORD_TOO_DEEP"),
            ("examples/acme.json", filter, "FILTER_MATCHES_NOTHING"),
            ("large.json", import_id(53), "RECORD_TOO_LARGE"),
        ] {
            let import = self.import(file, header).await;
            assert_eq!(import["state"], "IMPORT_STATE_FAILED", "{import}");
            assert_eq!(import["failure"]["reason"], format!("ERROR_REASON_{reason}"), "{import}");
            self.meets(reason);
        }
        self.fails(Some(0), &[(RESUME, vec![import_id(50)], "IMPORT_FILE_GONE")]).await;
        // An import that is slow enough to be paused.
        self.us.one(SET_THROTTLE, json!({"maxBytesPerSecond": "1"})).await.expect("it is set");
        let header = json!({"importId": id(55), "scope": "SCOPE_ORGANIZATION"});
        let messages = self.shell.messages("examples/acme.json", &header).await;
        self.us.call(IMPORT, &messages).await.expect("the file is taken");
        self.us.one(PAUSE, import_id(55)).await.expect("it is paused");
        self.fails(Some(0), &[(RESUME, vec![import_id(55)], "IMPORT_PAUSED")]).await;
        self.us.one(REVERT, import_id(55)).await.expect("it is taken back");
        self.us.one(UNPAUSE, import_id(55)).await.expect("it goes on");
        let lifted = json!({"unlimited": ["THROTTLE_KIND_BYTES"]});
        self.us.one(SET_THROTTLE, lifted).await.expect("it is set");
        let seen = self.us.call(WATCH, &[import_id(55)]).await.expect("it can be watched");
        assert_eq!(seen.last().expect("it was seen")["import"]["state"], "IMPORT_STATE_REVERTED");
        // A resume is accepted, because the region's limit may have been raised since. It was not.
        self.us.one(RESUME, import_id(51)).await.expect("it is taken up");
        let seen = self.us.call(WATCH, &[import_id(51)]).await.expect("it can be watched");
        let import = &seen.last().expect("it was seen")["import"];
        assert_eq!((&import["resumeCount"], &import["state"]), (&json!(1), &json!("IMPORT_STATE_FAILED")));
        self.us.one(REVERT, import_id(51)).await.expect("it is taken back");
        self.fails(Some(0), &[(RESUME, vec![import_id(51)], "IMPORT_BEING_REVERTED")]).await;
        let dry = self.import("examples/acme.json", json!({"importId": id(54), "dryRun": true})).await;
        assert_eq!(dry["state"], "IMPORT_STATE_PLANNED", "{dry}");
        self.fails(Some(0), &[(REVERT, vec![import_id(54)], "IMPORT_IS_DRY_RUN")]).await;
    }

    /// Makes the mistakes of renames. Leaves the first region stopped.
    async fn renames(&mut self, cluster: &mut Cluster) {
        let rename = |operation: u32, organization: &str, slug: &str| {
            json!({
                "organizationId": organization, "desiredSlug": slug, "requireExact": true,
                "operationId": id(operation), "wait": "30s",
            })
        };
        let done = self.succeeds(RENAME, rename(60, "1", "dune")).await;
        assert_eq!(done["state"], "RENAME_STATE_CONFIRMED", "{done}");
        let operation = json!({"region": "us", "operationId": id(60)});
        let primary = json!({"organizationId": "1", "slug": "dune"});
        self.fails(
            None,
            &[
                (RELEASE, vec![operation], "OPERATION_CONFIRMED"),
                (RELEASE_ALIAS, vec![primary], "SLUG_NOT_ALIAS"),
                (RENAME, vec![rename(60, "1", "elm")], "OPERATION_CONTENT_DIFFERS"),
                (RENAME, vec![rename(61, "1", "zurich-grosse")], "SLUG_TAKEN"),
                (RENAME, vec![rename(61, "1", "settings")], "SLUG_RESERVED"),
                (RENAME, vec![rename(61, "1", "A B")], "SLUG_INVALID"),
                (RENAME, vec![rename(61, "1234567", "elm")], "ORGANIZATION_NOT_FOUND"),
            ],
        )
        .await;
        // The application renames an organization without asking control. After that, the import looks failed.
        let db = cluster.db(Silo::Region(0)).await.expect("its database");
        let local = "UPDATE sentry_organization SET slug = 'local' WHERE id = 2 RETURNING id";
        db.fetch_all(Statement::new(local)).await.expect("renamed");
        self.fails(None, &[(RENAME, vec![rename(62, "1", "local")], "SLUG_TAKEN_IN_REGION")]).await;
        let failed = "UPDATE causeway_import SET state = 'failed' WHERE state = 'succeeded' RETURNING state";
        db.fetch_all(Statement::new(failed)).await.expect("as if it had failed");
        self.fails(None, &[(RENAME, vec![rename(63, "1", "elm")], "ORGANIZATION_NOT_READY")]).await;
        db.close().await;

        cluster.stop_region(0).await;
        let mut impatient = rename(64, "3", "elm");
        impatient["wait"] = json!("0s");
        let begun = self.succeeds(RENAME, impatient).await;
        assert_eq!(begun["state"], "RENAME_STATE_PENDING", "{begun}");
        self.fails(None, &[(RENAME, vec![rename(65, "3", "fir")], "RENAME_IN_FLIGHT")]).await;
    }
}
