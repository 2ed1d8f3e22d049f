use super::*;

/// More records than fit into two segments. The one at `at` is replaced by `other`.
fn many(at: usize, other: &str) -> Vec<String> {
    let mut records: Vec<String> = (1..=12_000).map(|pk| team(pk, 1, &format!("t{pk}"))).collect();
    other.clone_into(&mut records[at - 1]);
    records
}

fn refused(records: &[String]) -> Finding {
    match ExportFile::new(records).plan(None).unwrap_err() {
        ExportError::Invalid(finding) | ExportError::OverLimit { finding, .. } => *finding,
        error => panic!("{error}"),
    }
}

#[test]
fn a_record_is_named_by_its_number_in_the_file_in_whichever_segment_it_lies() {
    let invalid = team(11_000, 1, "x").replace("\"t\"", "7");
    let deep = team(11_000, 1, "x").replace("\"t\"", &format!("{}1{}", "[".repeat(200), "]".repeat(200)));
    for record in [invalid, deep] {
        let finding = refused(&many(11_000, &record));
        assert_eq!(finding.model.as_deref(), Some("sentry.team"));
        assert_eq!((finding.ordinal, finding.source_pk), (Some(11_000), Some(11_000)), "{finding}");
    }
    let odd = team(7_000, 1, "x").replace("\"name\"", "\"nonsense\": 1, \"name\"");
    let plan = ExportFile::new(&many(7_000, &odd)).plan(None).unwrap();
    assert_eq!(plan.records, 12_000);
    assert_eq!(plan.findings.iter().map(|finding| finding.ordinal).collect::<Vec<_>>(), [Some(7_000)]);
}

#[test]
fn of_several_errors_the_first_one_of_the_file_is_reported() {
    let invalid = |pk: i64| team(pk, 1, "x").replace("\"t\"", "7");
    // In another segment, in the same one, and where the file cannot be read further.
    for later in [invalid(11_000), invalid(3_001), "{]".to_owned()] {
        let mut records = many(3_000, &invalid(3_000));
        later.clone_into(records.last_mut().unwrap());
        assert_eq!(refused(&records).source_pk, Some(3_000));
        let mut records = many(11_900, &invalid(11_900));
        later.clone_into(records.last_mut().unwrap());
        assert_eq!(refused(&records).source_pk, Some(11_900));
    }
}
