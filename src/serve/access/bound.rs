//! The body of a request whose messages must name only what is the caller's own. A handler gets a message
//! once all of it has been checked, and an error in place of one that breaks the rule.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, BytesMut};
use causeway_proto::{
    access::{FieldPath, FieldValue, Rule},
    failure::Failure,
    limits::MAX_MESSAGE_BYTES,
    relocation::v1::ErrorReason,
};
use causeway_tls::{Identity, Role};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body, codegen::Bytes};
use uuid::Uuid;

use super::{Owned, Owner, Owners};

/// How many bytes precede each message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// What the messages of one request must keep to.
pub(super) struct Binding {
    rule: Rule,
    /// All identities of the caller that may make the call and still fit the messages that came.
    callers: Vec<Identity>,
    owners: Arc<dyn Owners>,
    /// What the first message spoke of.
    first: Option<Named>,
}

/// What a message speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Named {
    region: Option<String>,
    organization: Option<i64>,
    import: Option<Uuid>,
}

/// What there is to look up before a message may pass: who owns something, and who of the callers may.
type Lookup = BoxFuture<'static, Result<Vec<Identity>, Status>>;

/// What becomes of a message.
enum Verdict {
    Passes,
    LookUp(Lookup),
}

fn not_own_region() -> Status {
    let message = "a region may make this call only in its own name and for its own organizations";
    Failure::new(ErrorReason::NotOwnRegion, message).into()
}

fn not_own_import() -> Status {
    let message = "an importer may make this call only for an import that it began; another one needs the role operator";
    Failure::new(ErrorReason::NotOwnImport, message).into()
}

/// The one value that a message has for a field; `None` if it has none. A message with several different
/// values is refused, because a decoder uses the last one.
fn one<'a>(
    path: Option<&FieldPath>,
    message: &'a [u8],
    otherwise: fn() -> Status,
) -> Result<Option<FieldValue<'a>>, Status> {
    let Some(path) = path else { return Ok(None) };
    let values = path.values(message).map_err(|error| {
        Status::from(Failure::new(
            ErrorReason::InvalidArgument,
            format!("the request cannot be read: {error}"),
        ))
    })?;
    let Some((first, rest)) = values.split_first() else { return Ok(None) };
    if rest.iter().any(|other| other != first) {
        return Err(otherwise());
    }
    Ok(Some(*first))
}

impl Binding {
    /// Messages that one of these callers may send.
    pub(super) fn new(rule: Rule, callers: Vec<Identity>, owners: Arc<dyn Owners>) -> Self {
        Self { rule, callers, owners, first: None }
    }

    fn named(&self, message: &[u8]) -> Result<Named, Status> {
        let region = one(self.rule.own_region.as_ref(), message, not_own_region)?;
        let organization = one(self.rule.own_organization.as_ref(), message, not_own_region)?;
        let import = one(self.rule.own_import.as_ref(), message, not_own_import)?;
        let text = |value: Option<FieldValue<'_>>| match value {
            Some(FieldValue::Text(text)) => Some(text.to_owned()),
            _ => None,
        };
        Ok(Named {
            region: text(region),
            organization: match organization {
                Some(FieldValue::Number(id)) => Some(id),
                _ => None,
            },
            // The handler refuses what is not an id.
            import: text(import).and_then(|text| Uuid::try_parse(&text).ok()),
        })
    }

    /// Checks one message.
    fn check(&mut self, message: &[u8]) -> Result<Verdict, Status> {
        let named = self.named(message)?;
        if let Some(first) = &self.first {
            let same = |one: bool, otherwise: fn() -> Status| if one { Ok(()) } else { Err(otherwise()) };
            same(named.region.is_none() || named.region == first.region, not_own_region)?;
            same(named.organization.is_none() || named.organization == first.organization, not_own_region)?;
            same(named.import.is_none() || named.import == first.import, not_own_import)?;
            return Ok(Verdict::Passes);
        }
        self.first = Some(named.clone());
        if self.rule.own_region.is_some() {
            let own = |it: &Identity| it.role() != Role::Region || named.region.as_deref() == Some(it.name());
            self.callers.retain(own);
        }
        if self.callers.is_empty() {
            return Err(not_own_region());
        }
        Ok(match self.owned(&named) {
            Some(owned) => Verdict::LookUp(self.look_up(owned)),
            None => Verdict::Passes,
        })
    }

    /// What has an owner that must be known.
    fn owned(&self, named: &Named) -> Option<Owned> {
        if self.rule.own_organization.is_some() {
            // A number that is not in the message is 0, which is no organization.
            return Some(Owned::Organization(named.organization.unwrap_or(0)));
        }
        named.import.map(Owned::Import)
    }

    fn look_up(&self, owned: Owned) -> Lookup {
        let (owners, callers) = (Arc::clone(&self.owners), self.callers.clone());
        Box::pin(async move {
            let owner = owners.owner(owned).await?;
            let may = |caller: &Identity| match (owned, caller.role(), &owner) {
                (Owned::Organization(_), Role::Region, Owner::Named(region)) => caller.name() == region,
                (Owned::Organization(_), Role::Region, _) => false,
                // Nobody has begun it yet; otherwise the handler reports that there is none.
                (Owned::Import(_), Role::Importer, Owner::Absent) => true,
                (Owned::Import(_), Role::Importer, Owner::Named(uri)) => caller.to_string() == *uri,
                (Owned::Import(_), Role::Importer, Owner::Nobody) => false,
                _ => true,
            };
            let callers: Vec<Identity> = callers.into_iter().filter(may).collect();
            match (callers.is_empty(), owned) {
                (false, _) => Ok(callers),
                (true, Owned::Organization(_)) => Err(not_own_region()),
                (true, Owned::Import(_)) => Err(not_own_import()),
            }
        })
    }
}

/// Where a body is.
enum State {
    /// It reads the next message.
    Reading,
    /// It holds a message until somebody is looked up.
    LookingUp(Lookup, Bytes),
    /// A message was refused, or the body has ended.
    Over,
}

/// A body that passes whole messages only, each after a check.
pub(super) struct BoundBody {
    inner: Body,
    binding: Binding,
    /// What came and is not a whole message yet.
    buffer: BytesMut,
    /// What has been checked and can be passed on.
    passed: VecDeque<Frame<Bytes>>,
    state: State,
}

impl BoundBody {
    pub(super) fn new(inner: Body, binding: Binding) -> Self {
        Self { inner, binding, buffer: BytesMut::new(), passed: VecDeque::new(), state: State::Reading }
    }

    /// The next whole message with its head, if it is there.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(mut head) = self.buffer.get(..HEAD) else { return Ok(None) };
        if head.get_u8() != 0 {
            return Err(Status::unimplemented("the service takes no compressed messages"));
        }
        let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            let message =
                format!("a message of {length} bytes is larger than the limit of {MAX_MESSAGE_BYTES} bytes");
            return Err(Status::out_of_range(message));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(HEAD + length).freeze()))
    }

    /// Checks the next whole message. `false` if there is none.
    fn check_next(&mut self) -> Result<bool, Status> {
        let Some(message) = self.message()? else { return Ok(false) };
        let body =
            message.get(HEAD..).ok_or_else(|| Status::internal("a message is shorter than its head"))?;
        match self.binding.check(body)? {
            Verdict::Passes => self.passed.push_back(Frame::data(message)),
            Verdict::LookUp(lookup) => self.state = State::LookingUp(lookup, message),
        }
        Ok(true)
    }

    /// Notes that the body has ended.
    fn end(&mut self, trailers: Option<Frame<Bytes>>) {
        self.state = State::Over;
        if !self.buffer.is_empty() {
            // The beginning of a message: it cannot be decoded, and the handler reports that.
            self.passed.push_back(Frame::data(self.buffer.split().freeze()));
        }
        self.passed.extend(trailers);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Status>> {
        loop {
            if let Some(frame) = self.passed.pop_front() {
                return Poll::Ready(Ok(Some(frame)));
            }
            if matches!(self.state, State::Reading) && self.check_next()? {
                continue;
            }
            match &mut self.state {
                State::Over => return Poll::Ready(Ok(None)),
                State::LookingUp(lookup, message) => {
                    let callers = ready!(lookup.as_mut().poll(cx))?;
                    self.passed.push_back(Frame::data(std::mem::take(message)));
                    self.binding.callers = callers;
                    self.state = State::Reading;
                }
                State::Reading => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.buffer.put(data),
                        Err(trailers) => self.end(Some(trailers)),
                    },
                    Some(Err(status)) => return Poll::Ready(Err(status)),
                    None => self.end(None),
                },
            }
        }
    }
}

impl HttpBody for BoundBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = ready!(self.poll_next(cx));
        if polled.is_err() {
            self.state = State::Over;
            self.passed.clear();
        }
        Poll::Ready(polled.transpose())
    }
}
