//! Frames in the files of a plan: length, checksum, payload. A torn file counts up to its last whole frame.

use std::{
    fs::{File, OpenOptions},
    hash::Hasher as _,
    io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use siphasher::sip::SipHasher13;

/// The maximum length of a payload, in bytes. A larger one means that the file is damaged.
const MAX_FRAME: u32 = 1 << 30;

/// How many bytes a frame has before its payload.
pub(super) const HEAD: usize = 12;

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Writes a frame: length, checksum, payload.
pub(super) fn write_frame(file: &mut impl io::Write, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a part of it is too large"))?;
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend(length.to_le_bytes());
    bytes.extend(checksum(payload).to_le_bytes());
    bytes.extend(payload);
    file.write_all(&bytes)
}

/// The payload of the next frame, or `None` at the end, and if the rest is damaged.
pub(super) fn read_frame(file: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > MAX_FRAME {
        return Ok(None);
    }
    let mut payload = Vec::new();
    file.take(length.into()).read_to_end(&mut payload)?;
    let whole = payload.len() as u64 == u64::from(length)
        && checksum(&payload) == u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    Ok(whole.then_some(payload))
}

pub(super) fn packed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

pub(super) fn unpacked<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Opens a file, and creates it if it is absent, so that only its owner can read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
