//! What operators tell regions to do about their imports, and what regions answer.

use causeway_audit::store::Filter;
use causeway_control::{
    Control, Error, PageRequest,
    instructions::Asked,
    model::{
        instruction::{
            HANDED_OUT_FOR, Instruction, InstructionAnswer, InstructionKind, InstructionRefusal,
            NewInstruction,
        },
        region::Caller,
        report::ImportReport,
    },
};
use causeway_proto::limits::MAX_INSTRUCTIONS;
use causeway_silo::db::Statement;
use chrono::TimeDelta;
use uuid::Uuid;

use crate::support::{Fixture, now, operation, refused_field};

const NONE: [Uuid; 0] = [];

/// An instruction of this number about import 1.
fn resume(region: &str, number: u128) -> NewInstruction {
    NewInstruction {
        id: operation(number),
        region: region.to_owned(),
        import_id: operation(1),
        kind: InstructionKind::Resume,
        asked_by: "spiffe://x/operator/ann".to_owned(),
    }
}

fn done(number: u128) -> InstructionAnswer {
    InstructionAnswer { id: operation(number), refusal: None }
}

fn refused(number: u128, reason: &str) -> InstructionAnswer {
    let refusal = InstructionRefusal { reason: reason.to_owned(), message: format!("because of {reason}") };
    InstructionAnswer { id: operation(number), refusal: Some(refusal) }
}

/// Reports without imports, with these answers, and returns the ids of the instructions that wait.
async fn report(control: &Control, region: &str, answers: Vec<InstructionAnswer>) -> Vec<Uuid> {
    let report = ImportReport {
        region: region.to_owned(),
        version: "0.1.0".to_owned(),
        feed_version: 7,
        imports: Vec::new(),
        answers,
    };
    let waiting = control.reports().report_imports(&report).await.expect("stored");
    waiting.into_iter().map(|it| it.asked.id).collect()
}

async fn ask(control: &Control, new: &NewInstruction) -> Asked {
    control.instructions().ask(new).await.expect("an answer")
}

/// The instructions about import 1, the newest first, each with what became of it.
async fn shown(control: &Control, region: &str) -> Vec<(Uuid, Option<Option<String>>)> {
    let shown = control.instructions().of_import(region, operation(1)).await.expect("read");
    let outcome = |it: Instruction| it.answer.map(|answer| answer.refusal.map(|refusal| refusal.reason));
    shown.into_iter().map(|it| (it.asked.id, outcome(it))).collect()
}

pub(crate) async fn an_instruction_that_is_asked_for_twice_is_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let control = &fixture.control;
    let new = resume("us", 10);
    let asked = Instruction { asked: new.clone(), asked_at: now(), answer: None };
    for _ in 0..3 {
        assert_eq!(ask(control, &new).await, Asked::Taken(asked.clone()));
    }
    let another = fixture.another(2).await;
    let both = resume("us", 11);
    let (one, two) = tokio::join!(ask(control, &both), ask(&another, &both));
    assert!(matches!((one, two), (Asked::Taken(_), Asked::Taken(_))));
    assert_eq!(report(control, "us", Vec::new()).await, [operation(10), operation(11)]);
    assert_eq!(report(control, "de", Vec::new()).await, NONE);
    // The audit log has each once.
    let filter = Filter { object: Some(format!("import/{}", operation(1))), ..Filter::default() };
    let request = PageRequest { limit: 100, after: None };
    let entries = control.audit().entries(&filter, &request).await.expect("read").items;
    assert_eq!(entries.len(), 2);
    // The same id for something else is refused.
    for other in [
        NewInstruction { region: "de".to_owned(), ..new.clone() },
        NewInstruction { import_id: operation(2), ..new.clone() },
        NewInstruction { kind: InstructionKind::Revert, ..new.clone() },
    ] {
        assert_eq!(refused_field(control.instructions().ask(&other).await), "instruction_id");
    }
    let long = NewInstruction { asked_by: "x".repeat(513), ..resume("us", 12) };
    assert_eq!(refused_field(control.instructions().ask(&long).await), "asked_by");
    // With its answer, it is known as well.
    report(control, "us", vec![done(10)]).await;
    let Asked::Taken(again) = ask(control, &new).await else { panic!("it was asked for") };
    assert!(again.answer.is_some_and(|answer| answer.refusal.is_none()));
    assert_eq!(report(control, "us", Vec::new()).await, [operation(11)]);
}

pub(crate) async fn an_instruction_is_handed_out_until_it_is_answered(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let control = &fixture.control;
    for (region, number) in [("us", 10), ("us", 11), ("de", 20)] {
        ask(control, &resume(region, number)).await;
    }
    for _ in 0..2 {
        assert_eq!(report(control, "us", Vec::new()).await, [operation(10), operation(11)]);
    }
    // What is answered in a report is not handed out with its answer.
    let refusal = refused(10, "IMPORT_NOT_FAILED");
    assert_eq!(report(control, "us", vec![refusal, done(11)]).await, NONE);
    let reported = [(operation(11), Some(None)), (operation(10), Some(Some("IMPORT_NOT_FAILED".to_owned())))];
    assert_eq!(shown(control, "us").await, reported);
    let stored = control.instructions().of_import("us", operation(1)).await.expect("read");
    let message = stored[1].answer.clone().and_then(|it| it.refusal).expect("refused").message;
    assert_eq!(message, "because of IMPORT_NOT_FAILED");
    // The first answer counts, however often others come.
    assert_eq!(report(control, "us", vec![done(10), refused(11, "INTERNAL"), done(10)]).await, NONE);
    assert_eq!(shown(control, "us").await, reported);
    // An answer to an instruction of another region, or to none, changes nothing.
    assert_eq!(report(control, "us", vec![done(20), done(99)]).await, NONE);
    assert_eq!(shown(control, "de").await, [(operation(20), None)]);
    assert_eq!(report(control, "de", Vec::new()).await, [operation(20)]);
}

pub(crate) async fn an_instruction_without_an_answer_expires_and_a_late_answer_counts(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    ask(&fixture.control, &resume("us", 10)).await;
    let stored = fixture.control.instructions().of_import("us", operation(1)).await.expect("read");
    let last = now() + HANDED_OUT_FOR - TimeDelta::microseconds(1);
    let just_before = fixture.another_for_added(last).await;
    assert_eq!(report(&just_before, "us", Vec::new()).await, [operation(10)]);
    assert!(stored[0].waits(last));
    let later = fixture.another_for_added(now() + HANDED_OUT_FOR).await;
    assert_eq!(report(&later, "us", Vec::new()).await, NONE);
    assert!(!stored[0].waits(now() + HANDED_OUT_FOR));
    // It does not take a place any more, and its answer is taken.
    for number in 0..MAX_INSTRUCTIONS as u128 {
        assert!(matches!(ask(&later, &resume("us", 100 + number)).await, Asked::Taken(_)));
    }
    report(&later, "us", vec![done(10)]).await;
    let mut stored = Vec::new();
    let db = fixture.db().await;
    let statement = Statement::new(
        "SELECT instruction_id FROM causeway_instruction WHERE answered_at IS NOT NULL AND refused_reason IS NULL",
    );
    for row in db.fetch_all(statement).await.expect("read") {
        stored.push(row.uuid("instruction_id").expect("an id"));
    }
    assert_eq!(stored, [operation(10)]);
}

pub(crate) async fn only_so_many_instructions_of_a_region_wait(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let control = &fixture.control;
    let most = MAX_INSTRUCTIONS as u128;
    for number in 0..most {
        assert!(matches!(ask(control, &resume("us", 100 + number)).await, Asked::Taken(_)));
    }
    assert_eq!(ask(control, &resume("us", 200)).await, Asked::TooMany);
    // Those that wait can be asked for again, and other regions have places of their own.
    assert!(matches!(ask(control, &resume("us", 100)).await, Asked::Taken(_)));
    assert!(matches!(ask(control, &resume("de", 300)).await, Asked::Taken(_)));
    assert_eq!(report(control, "us", Vec::new()).await.len(), MAX_INSTRUCTIONS);
    let too_many = ImportReport {
        region: "us".to_owned(),
        version: "0.1.0".to_owned(),
        feed_version: 7,
        imports: Vec::new(),
        answers: (0..=most).map(|number| done(100 + number)).collect(),
    };
    assert_eq!(refused_field(control.reports().report_imports(&too_many).await), "instruction_answers");
    let long = InstructionRefusal { reason: "INTERNAL".to_owned(), message: "x".repeat(4_001) };
    let long = InstructionAnswer { id: operation(100), refusal: Some(long) };
    let long = ImportReport { answers: vec![long], ..too_many };
    let field = refused_field(control.reports().report_imports(&long).await);
    assert_eq!(field, "instruction_answers[0].refusal.message");
    report(control, "us", vec![done(100)]).await;
    assert!(matches!(ask(control, &resume("us", 200)).await, Asked::Taken(_)));
}

pub(crate) async fn old_instructions_and_those_of_suspended_regions_are_not_kept_or_taken(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    ask(&fixture.control, &resume("us", 10)).await;
    let later = fixture.another_for_added(now() + TimeDelta::days(30)).await;
    ask(&later, &resume("us", 11)).await;
    assert_eq!(shown(&later, "us").await.len(), 2);
    let later = fixture.another_for_added(now() + TimeDelta::days(30) + TimeDelta::microseconds(1)).await;
    ask(&later, &resume("us", 12)).await;
    let ids: Vec<Uuid> = shown(&later, "us").await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [operation(12), operation(11)]);
    fixture.control.regions().suspend("us", "", &Caller::default()).await.expect("suspended");
    let refused = fixture.control.instructions().ask(&resume("us", 13)).await;
    assert!(matches!(refused, Err(Error::RegionSuspended { .. })), "{refused:?}");
    let unknown = fixture.control.instructions().ask(&resume("fr", 13)).await;
    assert!(matches!(unknown, Err(Error::RegionNotRegistered { .. })), "{unknown:?}");
}
