//! Places for connections: how many may be open, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Limits on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many may be open at once. A further one is accepted and closed at once.
    pub open: usize,
    /// How many of them may be from one address.
    pub from_address: usize,
    /// How long a connection may take for its TLS handshake, if there is one, and to send the whole HTTP/2 preface.
    pub handshake: Duration,
    /// How long a connection may have no call before it is closed. It is checked once in this time, so it may last up
    /// to twice as long.
    pub idle: Duration,
    /// How often a silent connection is pinged. A certificate that is not accepted any more is noticed by then, too.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open: 2_000,
            from_address: 1_000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(900),
            keepalive: Duration::from_secs(30),
        }
    }
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Full {
    /// As many are open as may be.
    All(usize),
    /// As many are open from this address as may be from one.
    OfAddress(IpAddr, usize),
}

/// The places for connections, in all and for each address.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    limits: Limits,
    all: Arc<Semaphore>,
    of_addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ConnectionLimiter {
    /// Places within these limits, all free.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, all: Arc::new(Semaphore::new(limits.open)), of_addresses: Arc::default() }
    }

    /// Takes a place for a connection.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn take(&self, stream: &TcpStream) -> Result<ConnectionPermit, Full> {
        let Ok(all) = Arc::clone(&self.all).try_acquire_owned() else {
            return Err(Full::All(self.limits.open));
        };
        // The peer of a connection that has ended already is not known; the connection ends by itself.
        let address = stream.peer_addr().ok().map(|peer| peer.ip().to_canonical());
        let of_address = address.map(|address| {
            let mut counts = self.of_addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_default();
            if *count >= self.limits.from_address {
                return Err(Full::OfAddress(address, self.limits.from_address));
            }
            *count += 1;
            Ok(OfAddress { address, counts: Arc::clone(&self.of_addresses) })
        });
        Ok(ConnectionPermit { _all: all, _of_address: of_address.transpose()? })
    }
}

/// The place of one connection. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _all: OwnedSemaphorePermit,
    _of_address: Option<OfAddress>,
}

#[derive(Debug)]
struct OfAddress {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
