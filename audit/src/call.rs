//! The call that the current task works for.

use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::Subject;

/// The most bytes of who calls.
const MAX_WHO: usize = 512;
/// The most bytes of the name of an rpc.
const MAX_CALL: usize = 256;

tokio::task_local! {
    static CURRENT: Call;
}

/// A call, or work that a service does by itself. Cheap to clone; clones share the subject.
#[derive(Debug, Clone)]
pub struct Call(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    request_id: Uuid,
    who: String,
    address: String,
    name: String,
    subject: Mutex<Subject>,
}

fn bounded(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

impl Call {
    /// A call by `who`, empty if callers need no identity, from an IP address. `name` is the full name of the rpc.
    #[must_use]
    pub fn new(request_id: Uuid, who: &str, address: String, name: &str) -> Self {
        Self(Arc::new(Inner {
            request_id,
            who: bounded(who, MAX_WHO),
            address,
            name: bounded(name, MAX_CALL),
            subject: Mutex::default(),
        }))
    }

    /// Work that a service does by itself, such as an import in the background. `who` is the service.
    #[must_use]
    pub fn own(request_id: Uuid, who: &str, what: &'static str) -> Self {
        Self::new(request_id, who, String::new(), what)
    }

    /// The call that the current task works for. Work that nobody has named is `internal`: a program that uses a silo
    /// without serving it makes no calls.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_else(|_| Self::own(Uuid::nil(), "", "internal"))
    }

    /// The id of the request.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.0.request_id
    }

    /// Who calls, at most 512 bytes; empty if callers need no identity.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.0.who
    }

    /// The IP address that it came from; empty for work of the service itself.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The full name of the rpc, or what the service does by itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the call is about, as far as the use case has reported it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.0.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `work`, which returns at once, as part of the call.
    pub fn sync_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

/// Runs `work` as part of a call.
pub async fn scope<F: Future>(call: Call, work: F) -> F::Output {
    CURRENT.scope(call, work).await
}

/// Makes `work` part of the call of the current task, for a task that is spawned.
pub fn in_current_call<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let call = CURRENT.try_with(Clone::clone).ok();
    async move {
        match call {
            Some(call) => scope(call, work).await,
            None => work.await,
        }
    }
}

/// Notes what the current call is about, for its row if it fails, and returns it for [`append`](crate::append).
pub fn about(subject: Subject) -> Subject {
    let _unserved = CURRENT.try_with(|call| {
        *call.0.subject.lock().unwrap_or_else(PoisonError::into_inner) = subject.clone();
    });
    subject
}

/// The id of the request that the current task works for, to be sent with calls that it makes.
#[must_use]
pub fn current_request_id() -> Option<Uuid> {
    CURRENT.try_with(Call::request_id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawned_task_belongs_to_the_call_that_is_carried_over() {
        assert_eq!(current_request_id(), None);
        let id = Uuid::from_u128(7);
        let call = Call::new(id, "ann", "127.0.0.1".to_owned(), "Service/Call");
        let seen = scope(call.clone(), async {
            let lost = tokio::spawn(async { current_request_id() }).await.expect("it ends");
            let in_current_call = tokio::spawn(in_current_call(async {
                about(Subject::organization(7));
                current_request_id()
            }));
            (lost, in_current_call.await.expect("it ends"))
        });
        assert_eq!(seen.await, (None, Some(id)));
        assert_eq!(call.subject().object(), "organization/7");
    }

    #[test]
    fn texts_of_a_caller_are_bounded() {
        let call = Call::new(Uuid::nil(), &"ü".repeat(1_000), String::new(), &"x".repeat(1_000));
        assert_eq!((call.who().len(), call.name().len()), (512, 256));
    }
}
