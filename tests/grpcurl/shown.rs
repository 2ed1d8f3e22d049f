//! Runs all commands of the page in order, and compares the answers with those that the page shows.

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

/// The addresses of control and of the region on the page.
const CONTROL: &str = "127.0.0.1:50051";
const REGION: &str = "127.0.0.1:50052";
/// The page's placeholder for the token of the next page, which an earlier answer contains.
const TOKEN: &str = "NEXT_PAGE_TOKEN";
/// This method answers from the region's replica, which receives changes from control a moment later.
const REPLICA: &str = "causeway.region.v1.OrganizationService/ResolveSlug";
/// The longest that this may take. It never takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of a call.
struct Outcome {
    method: String,
    answers: Result<Vec<Value>, Mistake>,
}

struct Reader {
    control: Client,
    region: Client,
    /// Real addresses, each with its address on the page.
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
                    // A message that the page only explains.
                    None => {
                        let descriptor = causeway_proto::json::pool()
                            .expect("the contract can be read")
                            .get_message_by_name(name);
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

/// A call that the page does not show as failed must have succeeded.
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

    /// Makes the call that grpcurl would make. `shown` is the number of answers on the page.
    async fn make(&self, run: Run, shown: usize) -> Option<Outcome> {
        let (address, words) = run.words.split_first().expect("an address");
        let client = match address.as_str() {
            CONTROL => &self.control,
            REGION => &self.region,
            other => panic!("unknown address {other}"),
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

    /// Compares answers with those that the page shows. Of a stream, the page shows only the last ones.
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

    /// Checks that the real value has everything that the page shows. The error contains where it does not.
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

    /// A text with everything masked that differs from run to run.
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
        // Mask the random suffix of the one slug of the example that needs a suffix.
        let mut parts = text.split("support-");
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str("support-");
            masked.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()));
        }
        masked
    }
}
