//! What the targets share: mutations that keep the form of what they change, so that the code after the check
//! of the form is reached, and where seeds come from.

pub mod encrypted;
pub mod export;

#[path = "../../tests/harness/src/export/mutation.rs"]
mod mutation;
#[path = "../../tests/harness/src/export/reading.rs"]
mod reading;

/// Numbers that follow from a seed alone.
pub struct Numbers(u64);

impl Numbers {
    /// Numbers from a seed.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }
}

/// Puts bytes into the buffer of the fuzzer, unless they are too many. Gives back how many there are then.
fn put(bytes: &[u8], data: &mut [u8], size: usize, max_size: usize) -> usize {
    match data.get_mut(..bytes.len()) {
        Some(room) if bytes.len() <= max_size => {
            room.copy_from_slice(bytes);
            bytes.len()
        }
        _ => size,
    }
}
