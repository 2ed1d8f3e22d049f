//! Runs all commands of the page in their order, and holds what comes against what the page shows.

use std::time::Duration;

use causeway_harness::cluster::Cluster;
use chrono::DateTime;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    dynamic::{Client, Mistake, message, method_of},
    page::{Fence, Run, Shell, fences},
};

/// Where the page has control and the region.
const CONTROL: &str = "127.0.0.1:50051";
const REGION: &str = "127.0.0.1:50052";
/// What stands on the page for a token that the page before it has told.
const TOKEN: &str = "NEXT_PAGE_TOKEN";
/// It answers from what it has heard of control, and it takes a moment until it has.
const REPLICA: &str = "causeway.region.v1.OrganizationService/ResolveSlug";
/// How long it may take. It never takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a call.
struct Outcome {
    method: String,
    answers: Result<Vec<Value>, Mistake>,
}

struct Reader {
    control: Client,
    region: Client,
    /// Addresses as they are, and as the page has them.
    addresses: [(String, &'static str); 2],
    token: String,
}

/// Runs the whole page.
pub(crate) async fn run(cluster: &Cluster) {
    let (control, region) = (cluster.control_url(), cluster.region(0).url().to_owned());
    let bare = |url: &str| url.trim_start_matches("http://").to_owned();
    let mut reader = Reader {
        control: Client::meet(&control).await,
        region: Client::meet(&region).await,
        addresses: [(bare(&control), CONTROL), (bare(&region), REGION)],
        token: String::new(),
    };
    let shell = Shell::new();
    let fences = fences();
    let mut last = None;
    let (mut calls, mut compared) = (0, 0);
    for (index, fence) in fences.iter().enumerate() {
        match fence {
            Fence::Function(_) => {}
            Fence::Commands(commands) => {
                succeeded(last.take());
                let shown = match fences.get(index + 1) {
                    Some(Fence::Messages(_, messages)) => messages.len(),
                    _ => 0,
                };
                for run in shell.runs(&commands.replace(TOKEN, &reader.token)).await {
                    succeeded(last.take());
                    calls += 1;
                    last = reader.make(run, shown).await;
                }
            }
            Fence::Messages(name, messages) => {
                let answered = last.take_if(|outcome| reader.output_of(&outcome.method) == *name);
                match answered {
                    Some(outcome) => {
                        reader.compare(&outcome, messages);
                        compared += 1;
                    }
                    // One that is only explained.
                    None => {
                        let descriptor = causeway_proto::json::pool().get_message_by_name(name);
                        let descriptor = descriptor.unwrap_or_else(|| panic!("no message {name}"));
                        for json in messages {
                            message(descriptor.clone(), json);
                        }
                    }
                }
            }
            Fence::Failure(text) => {
                let outcome = last.take().expect("a call before it");
                let mistake = outcome.answers.expect_err("the page says that it fails");
                let code = format!("  Code: {:?}\n", mistake.code);
                let message = format!("  Message: {}\n", mistake.message);
                let reason = format!("\"reason\": \"{}\"\n", mistake.reason);
                for line in [code, message, reason] {
                    assert!(text.contains(&line), "{}: {line}is not in {text}", outcome.method);
                }
                compared += 1;
            }
        }
    }
    succeeded(last);
    assert!(calls > 30 && compared > 15, "{calls} calls, {compared} of them compared");
}

/// What the page does not show as failed has not failed.
fn succeeded(outcome: Option<Outcome>) {
    if let Some(Outcome { method, answers: Err(mistake) }) = outcome {
        panic!("{method}: {mistake:?}");
    }
}

impl Reader {
    fn output_of(&self, method: &str) -> String {
        let pool = if self.control.services.contains(method.split('/').next().unwrap_or_default()) {
            &self.control.pool
        } else {
            &self.region.pool
        };
        method_of(pool, method).output().full_name().to_owned()
    }

    /// Does what grpcurl would do. `shown` is how many answers the page has.
    async fn make(&self, run: Run, shown: usize) -> Option<Outcome> {
        let (address, words) = run.words.split_first().expect("an address");
        let client = match address.as_str() {
            CONTROL => &self.control,
            REGION => &self.region,
            other => panic!("who is at {other}?"),
        };
        match words {
            [verb] if verb == "list" => assert!(!client.services.is_empty()),
            [verb, service] if verb == "list" => assert!(client.services.contains(service), "{service}"),
            [verb, symbol] if verb == "describe" => {
                assert!(client.describes(symbol).await, "{address} does not describe {symbol}");
            }
            [method] => {
                let most = if run.timed { shown } else { usize::MAX };
                let asking = async {
                    loop {
                        let answers = client.call_for(method, &run.requests, most).await;
                        if answers.is_ok() || method != REPLICA {
                            return answers;
                        }
                        sleep(Duration::from_millis(10)).await;
                    }
                };
                let answers = timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{method} hangs"));
                return Some(Outcome { method: method.clone(), answers });
            }
            other => panic!("{other:?} is not understood"),
        }
        None
    }

    /// Holds answers against those that the page shows: the last ones, for of a stream it shows how it ends.
    fn compare(&mut self, outcome: &Outcome, shown: &[Value]) {
        let method = &outcome.method;
        let answers = outcome.answers.as_ref().unwrap_or_else(|mistake| panic!("{method}: {mistake:?}"));
        assert!(answers.len() >= shown.len(), "{method}: {answers:?}");
        for (answer, shown) in answers[answers.len() - shown.len()..].iter().zip(shown) {
            if let Err(place) = self.agree(answer, shown) {
                panic!("{method}: the page shows another {place} than {answer:#}");
            }
        }
    }

    /// Whether all that is shown is so; if not, where.
    fn agree(&mut self, real: &Value, shown: &Value) -> Result<(), String> {
        match (real, shown) {
            (Value::Object(real), Value::Object(shown)) => {
                assert!(real.is_empty() || !shown.is_empty(), "the page shows nothing of {real:?}");
                for (name, shown) in shown {
                    let real = real.get(name).unwrap_or(&Value::Null);
                    self.agree(real, shown).map_err(|place| format!("{name}.{place}"))?;
                }
                Ok(())
            }
            (Value::Array(real), Value::Array(shown)) if real.len() >= shown.len() => {
                for (index, (real, shown)) in real.iter().zip(shown).enumerate() {
                    self.agree(real, shown).map_err(|place| format!("{index}.{place}"))?;
                }
                Ok(())
            }
            (Value::String(real), Value::String(shown)) if shown == TOKEN => {
                self.token.clone_from(real);
                Ok(())
            }
            (Value::String(real), Value::String(shown)) if self.masked(real) == self.masked(shown) => Ok(()),
            _ if real == shown => Ok(()),
            _ => Err(format!("({shown})")),
        }
    }

    /// A text without what is another one each time.
    fn masked(&self, text: &str) -> String {
        let duration = |text: &str| text.strip_suffix('s').is_some_and(|it| it.parse::<f64>().is_ok());
        if Uuid::try_parse(text).is_ok() {
            return "a UUID".to_owned();
        }
        if DateTime::parse_from_rfc3339(text).is_ok() {
            return "a time".to_owned();
        }
        if duration(text) {
            return "a duration".to_owned();
        }
        if text.starts_with("-----BEGIN PUBLIC KEY-----\n") {
            return "a key".to_owned();
        }
        let mut text = text.to_owned();
        for (real, shown) in &self.addresses {
            text = text.replace(real.as_str(), shown);
        }
        // The suffix of the one slug of the example that needs one.
        let mut parts = text.split("support-");
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str("support-");
            masked.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()));
        }
        masked
    }
}
