//! The tar around an encrypted export. It is read here header by header, so that every claim of a header is
//! checked before it is used: no member is read into memory only because its header claims that it is small.

use std::io::{self, Read as _, Write};

use tar::{EntryType, Header, PaxExtensions};

use super::{DATA_KEY, EXPORT, OpenError, PUBLIC_KEY, ReadAt, SMALL_MEMBER_BYTES};

/// The size of a header in bytes. The content of a member is filled up to a multiple of it.
pub(super) const BLOCK: usize = 512;
const BLOCK_BYTES: u64 = 512;
/// The position of the checksum in a header. For the checksum itself, these bytes count as spaces.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Where the content of a member is in the file, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The three members of the archive; the small ones are read, the export is not.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) export: Span,
    pub(super) data_key: Vec<u8>,
    pub(super) public_key: Vec<u8>,
}

/// What an extended header contains about the member after it.
#[derive(Debug, Default)]
struct Extended {
    name: Option<String>,
    size: Option<u64>,
}

/// Finds the three members, in any order.
pub(super) fn members(source: &impl ReadAt) -> Result<Members, OpenError> {
    let end = source.size()?;
    let (mut export, mut data_key, mut public_key) = (None, None, None);
    let mut extended = Extended::default();
    let mut position = 0;
    while let Some(header) = header(source, position)? {
        let ahead = std::mem::take(&mut extended);
        let name = ahead.name.unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned());
        let size = match ahead.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| OpenError::NotTar { position })?,
        };
        let start = position + BLOCK_BYTES;
        let kind = header.entry_type();
        let small = || small(source, &name, Span { start, length: size }, end);
        match (kind, name.as_str()) {
            (EntryType::XHeader, _) => {
                extended = extension(&small()?).ok_or(OpenError::NotTar { position })?;
            }
            (EntryType::XGlobalHeader, _) => drop(small()?),
            (EntryType::Regular, EXPORT) => {
                present(&name, start, size, end)?;
                once(&mut export, EXPORT, Span { start, length: size })?;
            }
            (EntryType::Regular, DATA_KEY) => once(&mut data_key, DATA_KEY, small()?)?,
            (EntryType::Regular, PUBLIC_KEY) => once(&mut public_key, PUBLIC_KEY, small()?)?,
            (EntryType::Regular, _) => return Err(OpenError::Extra { name }),
            _ => return Err(OpenError::NotAFile { name }),
        }
        // The size has been checked against the file, so this cannot overflow.
        position = start + size.next_multiple_of(BLOCK_BYTES);
    }
    Ok(Members {
        export: export.ok_or(OpenError::Missing { name: EXPORT })?,
        data_key: data_key.ok_or(OpenError::Missing { name: DATA_KEY })?,
        public_key: public_key.ok_or(OpenError::Missing { name: PUBLIC_KEY })?,
    })
}

/// The header at this position; `None` at the end of the archive.
fn header(source: &impl ReadAt, position: u64) -> Result<Option<Header>, OpenError> {
    let end = source.size()?;
    let there = end.saturating_sub(position).min(BLOCK_BYTES);
    let mut block = [0; BLOCK];
    let (filled, _) = block.split_at_mut(usize::try_from(there).map_err(io::Error::other)?);
    source.read_exact_at(filled, position)?;
    // An empty file is not a tar. Otherwise an archive ends with an empty block, or with the file.
    if position > 0 && block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    match parsed(&block) {
        Some(header) if there == BLOCK_BYTES => Ok(Some(header)),
        _ => Err(OpenError::NotTar { position }),
    }
}

/// The block as a header, if its checksum is correct.
fn parsed(block: &[u8; BLOCK]) -> Option<Header> {
    let mut header = Header::new_old();
    *header.as_mut_bytes() = *block;
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if CHECKSUM.contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    header.cksum().is_ok_and(|said| said == sum).then_some(header)
}

/// Whether a file that begins with these bytes is a tar, whatever its members are. No JSON text has a checksum in that
/// place.
pub(super) fn is_tar(beginning: &[u8]) -> bool {
    beginning.first_chunk().is_some_and(|block| parsed(block).is_some())
}

/// Fails if the file ends before the member does.
fn present(name: &str, start: u64, size: u64, end: u64) -> Result<(), OpenError> {
    let there = end.saturating_sub(start);
    if size > there {
        return Err(OpenError::Truncated { name: name.to_owned(), size, there });
    }
    Ok(())
}

/// The content of a member that must be small.
fn small(source: &impl ReadAt, name: &str, span: Span, end: u64) -> Result<Vec<u8>, OpenError> {
    if span.length > SMALL_MEMBER_BYTES {
        let name = name.to_owned();
        return Err(OpenError::TooLarge { name, size: span.length, limit: SMALL_MEMBER_BYTES });
    }
    present(name, span.start, span.length, end)?;
    let mut content = vec![0; usize::try_from(span.length).map_err(io::Error::other)?];
    source.read_exact_at(&mut content, span.start)?;
    Ok(content)
}

fn once<T>(place: &mut Option<T>, name: &'static str, found: T) -> Result<(), OpenError> {
    match place.replace(found) {
        Some(_) => Err(OpenError::Twice { name }),
        None => Ok(()),
    }
}

/// Reads the name and the size from an extended header; `None` if they cannot be read. No other field matters here.
fn extension(content: &[u8]) -> Option<Extended> {
    let mut extended = Extended::default();
    for pair in PaxExtensions::new(content).flatten() {
        match pair.key() {
            // Without a value, the field of the header counts.
            _ if pair.value_bytes().is_empty() => {}
            Ok("path") => extended.name = Some(pair.value().ok()?.to_owned()),
            Ok("size") => extended.size = Some(pair.value().ok()?.parse().ok()?),
            _ => {}
        }
    }
    Some(extended)
}

/// Writes the header of a member.
pub(super) fn begin(out: &mut impl Write, name: &str, size: u64, time: u64) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Fills up the last block of a member of this size.
pub(super) fn end(out: &mut impl Write, size: u64) -> io::Result<()> {
    let missing = size.next_multiple_of(BLOCK_BYTES) - size;
    io::copy(&mut io::repeat(0).take(missing), out).map(drop)
}

/// Ends the archive with two empty blocks, as tar requires.
pub(super) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}
