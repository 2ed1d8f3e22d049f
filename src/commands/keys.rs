//! Files with keys.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use anyhow::Context as _;
use causeway_relocation::encrypted::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// The most bytes that are read of a key file. No key file is as long as this.
const KEY_BYTES: u64 = 64 * 1024;

/// The text of a file with a secret, such as the URL of a database with its password. Warns if other users of the
/// machine can read it.
pub(super) fn secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    causeway_tls::warn_if_readable_by_others(path);
    read(path)
}

/// The text of a file with a key or another secret.
fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    // Large enough from the start: a growing buffer would leave copies in memory that are not erased.
    let mut pem = Zeroizing::new(Vec::with_capacity(usize::try_from(KEY_BYTES)?));
    File::open(path)
        .and_then(|file| file.take(KEY_BYTES).read_to_end(&mut pem))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let text = str::from_utf8(&pem).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads a private key from a PEM file.
pub(super) fn private(path: &Path) -> anyhow::Result<Arc<PrivateKey>> {
    let key = PrivateKey::from_pem(&secret(path)?).with_context(|| path.display().to_string())?;
    Ok(Arc::new(key))
}

/// Reads a public key from a PEM file.
pub(super) fn public(path: &Path) -> anyhow::Result<PublicKey> {
    PublicKey::from_pem(&read(path)?).with_context(|| path.display().to_string())
}
