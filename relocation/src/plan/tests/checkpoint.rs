//! Plans that are stored, and plans that are resumed where planning was interrupted.

use std::path::PathBuf;

use super::*;

/// Some 12,000 records, in several segments: options, some of them the same, and members and users for a filter.
fn many() -> ExportFile {
    let mut records = vec![organization(1, "one"), organization(2, "two")];
    for pk in 1..=3_000 {
        records.push(format!(
            r#"{{"model": "sentry.user", "pk": {pk}, "fields": {{"username": "u{pk}", "password": "", "email": "u{pk}@x"}}}}"#
        ));
        records.push(format!(
            r#"{{"model": "sentry.useroption", "pk": {pk}, "fields": {{"user": {}, "key": "k", "value": 1}}}}"#,
            1 + pk / 2
        ));
        records.push(format!(
            r#"{{"model": "sentry.organizationmember", "pk": {pk}, "fields": {{"organization": {}, "user_id": {pk}}}}}"#,
            1 + pk % 2
        ));
        records.push(format!(r#"{{"model": "sentry.nonsense{}", "pk": {pk}, "fields": {{}}}}"#, pk % 7));
        // Teams without a slug, many of them with the same name, and rules with actors as owners.
        if pk % 10 == 0 {
            records.push(format!(
                r#"{{"model": "sentry.team", "pk": {pk}, "fields": {{"organization": 1, "slug": "", "name": "t{}", "actor": {pk}}}}}"#,
                pk % 7
            ));
            records.push(format!(
                r#"{{"model": "sentry.rule", "pk": {pk}, "fields": {{"project": 1, "label": "", "data": {{}}, "owner": {}}}}}"#,
                pk / 2
            ));
        }
    }
    ExportFile::new(&records)
}

impl ExportFile {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn checkpointed(
        &self,
        stem: &str,
        identity: &str,
        limits: Limits,
    ) -> Result<Plan, ExportError> {
        let filter = BTreeSet::from(["one".to_owned(), "none".to_owned()]);
        let request = PlanRequest {
            source: &Source::plain(&self.path("export.json"))?,
            scratch_dir: self.dir.path(),
            filter: Some(&filter),
            limits,
            merge_users: false,
            most_organizations: 1_000_000,
            now: self.env.now(),
            tables: "",
            keep: Some(&Checkpoint { stem: self.path(stem), identity: identity.to_owned(), stepped: None }),
        };
        Plan::make(&self.catalog, &self.env, &request, &PlanningProgress::default())
    }

    /// The complete log of planning. A directory blocks the path of the plan, so that the log stays.
    fn log(&self, stem: &str) -> Vec<u8> {
        let part = self.path(&format!("{stem}.plan.part"));
        std::fs::create_dir(&part).unwrap();
        self.checkpointed(stem, "a", Limits::default()).unwrap();
        std::fs::remove_dir(&part).unwrap();
        assert!(!self.path(&format!("{stem}.plan")).exists());
        std::fs::read(self.path(&format!("{stem}.planning"))).unwrap()
    }

    /// Overwrites the file, only its beginning or all of it, so that reading there fails.
    fn spoil(&self, bytes: usize) {
        let mut text = std::fs::read(self.path("export.json")).unwrap();
        let end = bytes.min(text.len());
        text[..end].fill(b'!');
        std::fs::write(self.path("export.json"), text).unwrap();
    }

    /// The whole content of a plan, as a text to compare.
    fn said(&self, plan: &Plan) -> String {
        let models: Vec<_> = self
            .catalog
            .written()
            .map(|model| {
                let of_model = &plan.models[model.position];
                let runs: Vec<_> = of_model.runs.iter().unwrap().map(Result::unwrap).collect();
                let takes = |pk: &u32| {
                    let selection = plan.selection.as_ref().unwrap();
                    selection.takes(model, i64::from(*pk), Some(&format!("u{pk}@x")))
                };
                let taken: Vec<u32> = (1..=3_000).filter(takes).collect();
                let lost: Vec<Vec<u64>> =
                    of_model.lost_slugs.iter().map(|lost| lost.iter().collect()).collect();
                let marks = of_model.marks.all().map(|places| places.iter().collect::<Vec<_>>());
                (of_model.seen, runs, marks, taken, lost)
            })
            .collect();
        let actors: Vec<_> = (1..=3_000).filter_map(|pk| plan.actor(pk)).collect();
        format!("{} {:?} {:?} {actors:?} {models:?}", plan.records, plan.passed_over, plan.findings)
    }
}

#[test]
fn a_plan_is_taken_up_wherever_its_making_was_cut_off() {
    let file = many();
    let plan = file.plan(Some(&["one", "none"])).unwrap();
    let teams = &plan.models[file.catalog.position("sentry.team").unwrap()];
    assert_eq!(teams.lost_slugs[0].len(), 300 - 7, "one of each name gets it");
    assert_eq!((plan.actor(10).is_some(), plan.actor(1_510)), (true, None), "those that a rule names");
    let undisturbed = file.said(&plan);
    let log = file.log("whole");
    assert!(log.len() > 100_000, "{}", log.len());
    let few = [0, 1, 11, 12, 43, 44, 45, 60, log.len()];
    for cut in few.into_iter().chain((0..8).map(|part| log.len() * part / 8 + 7)) {
        let stem = format!("cut-{cut}");
        let path = file.path(&format!("{stem}.planning"));
        std::fs::write(&path, &log[..cut]).unwrap();
        let plan = file.checkpointed(&stem, "a", Limits::default()).unwrap();
        assert_eq!(file.said(&plan), undisturbed, "cut off after {cut} bytes");
        // From then on it is stored, and complete.
        assert!(!path.exists());
        assert_eq!(file.said(&file.checkpointed(&stem, "a", Limits::default()).unwrap()), undisturbed);
    }
}

#[test]
fn what_was_read_is_not_read_again() {
    let file = many();
    let log = file.log("log");
    file.checkpointed("plan", "a", Limits::default()).unwrap();
    // This part of the log has two segments of 5,000 records, which cover at least 1,000 bytes of the file.
    std::fs::write(file.path("half.planning"), &log[..log.len() * 4 / 5]).unwrap();
    file.spoil(1_000);
    // Comparing and selecting read records again, but none at the beginning of the file.
    let outcome = |stem: &str| match file.checkpointed(stem, "a", Limits::default()) {
        Ok(_) => "taken up".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(outcome("nothing").contains("not a JSON array"), "{}", outcome("nothing"));
    assert!(!outcome("half").contains("not a JSON array"), "{}", outcome("half"));
    file.spoil(usize::MAX);
    assert_eq!(outcome("plan"), "taken up");
}

#[test]
fn what_is_kept_of_something_else_or_is_damaged_is_not_believed() {
    let file = many();
    let limits = Limits::default();
    let undisturbed = file.said(&file.checkpointed("it", "a", limits).unwrap());
    let path = file.path("it.plan");
    let plan = std::fs::read(&path).unwrap();
    let mut cases = vec![(plan.clone(), "b"), (Vec::new(), "a"), (vec![0; plan.len()], "a")];
    for part in 0..6 {
        let mut damaged = plan.clone();
        damaged[plan.len() * part / 6] ^= 1;
        cases.push((damaged, "a"));
        cases.push((plan[..plan.len() * part / 6].to_vec(), "a"));
    }
    for (bytes, identity) in cases {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(file.said(&file.checkpointed("it", identity, limits).unwrap()), undisturbed);
        assert!(std::fs::read(&path).unwrap().len() == plan.len(), "it is kept again");
    }
    let log = file.log("other");
    assert_eq!(file.said(&file.checkpointed("other", "b", limits).unwrap()), undisturbed);
    for part in 0..6 {
        let mut damaged = log.clone();
        damaged[log.len() * part / 6] ^= 1;
        std::fs::write(file.path("damaged.planning"), damaged).unwrap();
        assert_eq!(file.said(&file.checkpointed("damaged", "a", limits).unwrap()), undisturbed);
        std::fs::remove_file(file.path("damaged.plan")).unwrap();
    }
}

#[test]
fn a_plan_serves_wider_limits_and_no_narrower_ones() {
    let file = many();
    file.checkpointed("it", "a", Limits::default()).unwrap();
    let narrow = Limits { record_bytes: 64, ..Limits::default() };
    file.checkpointed("it", "a", narrow).unwrap_err();
    file.spoil(usize::MAX);
    file.checkpointed("it", "a", Limits::LARGEST).unwrap();
    // What was read under other limits is read again, because it may not pass these.
    let file = many();
    std::fs::write(file.path("log.planning"), file.log("whole")).unwrap();
    file.checkpointed("log", "a", narrow).unwrap_err();
}

#[test]
fn a_plan_that_cannot_be_kept_is_made_all_the_same() {
    let file = many();
    let undisturbed = file.said(&file.plan(Some(&["one", "none"])).unwrap());
    for (stem, ending) in [("log", "planning"), ("part", "plan.part"), ("whole", "plan")] {
        std::fs::create_dir(file.path(&format!("{stem}.{ending}"))).unwrap();
        assert_eq!(
            file.said(&file.checkpointed(stem, "a", Limits::default()).unwrap()),
            undisturbed,
            "{stem}"
        );
    }
}

#[test]
fn what_is_kept_holds_no_value_of_a_field() {
    let file = many();
    file.checkpointed("it", "a", Limits::default()).unwrap();
    let (plan, log) = (std::fs::read(file.path("it.plan")).unwrap(), file.log("log"));
    for bytes_of_file in [plan, log] {
        assert!(bytes_of_file.len() > 10_000);
        // Shorter values occur in any numbers by chance.
        for value in ["u1234@x", "\"u1234\"", "u1234"] {
            assert!(!bytes_of_file.windows(value.len()).any(|bytes| bytes == value.as_bytes()), "{value}");
        }
    }
}
