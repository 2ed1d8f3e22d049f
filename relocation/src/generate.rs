//! Generates new values: keys, tokens, hashes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_silo::env::{ALPHANUMERIC, Environment, HEX};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{catalog::Generator, value::Value};

/// The prefix of every organization auth token.
const ORG_AUTH_TOKEN_PREFIX: &str = "sntrys_";

/// A new value. For [`Generator::OrgAuthToken`], which needs to know its organization, use [`OrgAuthToken::new`].
#[must_use]
pub fn value(generator: Generator, env: &Environment) -> Value {
    match generator {
        Generator::Uuid => Value::Uuid(env.uuid()),
        Generator::Hex32 => Value::Text(env.characters(HEX, 32)),
        Generator::Hex64 => Value::Text(env.characters(HEX, 64)),
        Generator::SecureToken => Value::Text(env.characters(ALPHANUMERIC, 32)),
        // A hash that begins with `!` never matches; the random rest makes password reset links differ.
        Generator::UnusablePassword => Value::Text(format!("!{}", env.characters(ALPHANUMERIC, 40))),
        Generator::OrgAuthToken => Value::Text(hex::encode(Sha256::digest(env.bytes::<32>()))),
    }
}

/// The owner of an organization auth token, as the token names it.
#[derive(Debug, Clone)]
pub struct TokenOwner {
    /// The slug of the organization, which the token contains.
    pub organization_slug: String,
    /// The URL of the organization's region.
    pub region_url: String,
    /// The URL of control, which the token contains.
    pub control_url: String,
}

/// The parts of a new organization auth token that are stored. The token itself is discarded, so nobody knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgAuthToken {
    /// The SHA-256 of the token in hex.
    pub hashed: String,
    /// The last four characters of the token.
    pub last_characters: String,
}

impl OrgAuthToken {
    /// Generates a token for an organization: a prefix, a payload that names the organization, and a random secret.
    #[must_use]
    pub fn new(owner: &TokenOwner, env: &Environment) -> Self {
        let now = env.now();
        let issued_at = now.timestamp_micros() as f64 / 1e6;
        let payload = serde_json::json!({
            "iat": issued_at,
            "url": owner.control_url,
            "region_url": owner.region_url,
            "org": owner.organization_slug,
        });
        let secret = STANDARD.encode(env.bytes::<32>());
        let token = format!(
            "{ORG_AUTH_TOKEN_PREFIX}{}_{}",
            STANDARD.encode(payload.to_string()),
            secret.trim_end_matches('=')
        );
        let mut last: Vec<char> = token.chars().rev().take(4).collect();
        last.reverse();
        Self {
            hashed: hex::encode(Sha256::digest(token.as_bytes())),
            last_characters: last.into_iter().collect(),
        }
    }
}

/// The UUID of a name within an import. The same name always gets the same UUID.
#[must_use]
pub fn derived_uuid(import_id: Uuid, name: &str) -> Uuid {
    Uuid::new_v5(&import_id, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_values_have_their_form_and_differ() {
        let env = Environment::fixed(chrono::DateTime::UNIX_EPOCH, 3);
        for (generator, length) in [
            (Generator::Hex32, 32),
            (Generator::Hex64, 64),
            (Generator::SecureToken, 32),
            (Generator::UnusablePassword, 41),
            (Generator::OrgAuthToken, 64),
        ] {
            let (first, second) = (value(generator, &env), value(generator, &env));
            assert_eq!(first.as_text().unwrap().len(), length);
            assert_ne!(first, second);
        }
    }

    #[test]
    fn a_token_is_kept_as_hash_and_last_characters() {
        let env = Environment::fixed(chrono::DateTime::UNIX_EPOCH, 3);
        let owner = TokenOwner {
            organization_slug: "acme".into(),
            region_url: "http://r".into(),
            control_url: "http://c".into(),
        };
        let token = OrgAuthToken::new(&owner, &env);
        assert_eq!((token.hashed.len(), token.last_characters.len()), (64, 4));
        assert_ne!(token, OrgAuthToken::new(&owner, &env));
    }
}
