//! Encodes sets of primary keys or offsets as bytes.

use std::io;

use roaring::RoaringTreemap;

pub(super) fn bitmap_to_bytes(bitmap: &RoaringTreemap) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn bitmap_from_bytes(bytes: &[u8]) -> io::Result<RoaringTreemap> {
    RoaringTreemap::deserialize_from(bytes)
}
