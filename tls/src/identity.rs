//! Who the holder of a certificate is: its one URI, in the form of SPIFFE, `spiffe://TRUST_DOMAIN/ROLE/NAME`.
//! https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md

use std::{fmt, str::FromStr, sync::Arc};

/// The most bytes of a trust domain, by the standard.
const MAX_TRUST_DOMAIN: usize = 255;
/// The most bytes of a name.
const MAX_NAME: usize = 64;
/// The most characters of a URI that a message shows.
const MAX_SHOWN: usize = 200;

/// What somebody is to Causeway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A service that stores organizations and imports them into its region.
    Region,
    /// A service that owns what must be unique across regions.
    Control,
    /// A program that resolves slugs.
    Router,
    /// A person who runs the services.
    Operator,
    /// Somebody who imports into regions.
    Importer,
    /// A program that watches the services.
    Monitor,
}

impl Role {
    /// All roles, in the order in which they are defined.
    pub const ALL: [Self; 6] =
        [Self::Region, Self::Control, Self::Router, Self::Operator, Self::Importer, Self::Monitor];

    /// The role as it is written in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Control => "control",
            Self::Router => "router",
            Self::Operator => "operator",
            Self::Importer => "importer",
            Self::Monitor => "monitor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// The name of those who issue certificates together, such as `prod.example.com`: 1 to 255 lowercase letters, digits,
/// dots, hyphens and underscores.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name as text, without `spiffe://`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err("a trust domain is 1 to 255 lowercase letters, digits, dots, hyphens and underscores"
                .to_owned())
        }
    }
}

/// Why a certificate gives no identity. The text is for the holder of the certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate or its alternative names cannot be parsed.
    #[error("its alternative names cannot be parsed")]
    Unreadable,
    /// It has no URI among its alternative names.
    #[error("it has no URI; it needs spiffe://{0}/ROLE/NAME")]
    NoUri(TrustDomain),
    /// It has several URIs, so it does not define which of them its holder is.
    #[error("it has {0} URIs; it must have one")]
    SeveralUris(usize),
    /// Its URI does not begin with `spiffe://`.
    #[error("its URI {0} does not begin with spiffe://")]
    OtherScheme(String),
    /// Its URI is of another trust domain than the server's.
    #[error("its URI {uri} is not of the trust domain {expected}")]
    OtherTrustDomain {
        /// The URI of the certificate.
        uri: String,
        /// The trust domain of the server.
        expected: TrustDomain,
    },
    /// Its URI has no role and name, more than these, or a name of other characters.
    #[error(
        "its URI {uri} is not spiffe://{expected}/ROLE/NAME, where NAME is 1 to {MAX_NAME} letters, digits, dots, hyphens and \
         underscores"
    )]
    Shape {
        /// The URI of the certificate.
        uri: String,
        /// The trust domain of the server.
        expected: TrustDomain,
    },
    /// Its URI has a role that does not exist.
    #[error(
        "its URI {0} has an unknown role; there are region, control, router, operator, importer and monitor"
    )]
    UnknownRole(String),
}

/// Who somebody is. Cheap to clone. Displayed as the URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    trust_domain: TrustDomain,
    role: Role,
    name: Arc<str>,
}

/// The beginning of a URI, for a message or the log: without control characters, which could make a line look like two.
fn beginning(uri: &str) -> String {
    let mut shown: String =
        uri.chars().take(MAX_SHOWN).map(|it| if it.is_control() { ' ' } else { it }).collect();
    if uri.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

impl Identity {
    /// Whether a text can be a name: what SPIFFE allows in a part of a path, and no longer than is sensible.
    pub(crate) fn is_name(text: &str) -> bool {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) && text != "." && text != ".."
    }

    /// The identity with these parts; `None` if the name is not 1 to 64 letters, digits, dots, hyphens and underscores.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, role: Role, name: &str) -> Option<Self> {
        Self::is_name(name).then(|| Self { trust_domain, role, name: name.into() })
    }

    /// The identity that a URI names.
    ///
    /// # Errors
    /// If it is not of the form `spiffe://TRUST_DOMAIN/ROLE/NAME` with this trust domain.
    pub fn of_uri(uri: &str, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let Some(rest) = uri.strip_prefix("spiffe://") else {
            return Err(IdentityError::OtherScheme(beginning(uri)));
        };
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        if domain != trust_domain.as_str() {
            return Err(IdentityError::OtherTrustDomain {
                uri: beginning(uri),
                expected: trust_domain.clone(),
            });
        }
        let shape = || IdentityError::Shape { uri: beginning(uri), expected: trust_domain.clone() };
        let (role, name) = path.split_once('/').ok_or_else(shape)?;
        let role = role.parse().map_err(|()| IdentityError::UnknownRole(beginning(uri)))?;
        Self::new(trust_domain.clone(), role, name).ok_or_else(shape)
    }

    /// The trust domain in which the identity is valid.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What it is to Causeway.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which one of its role it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.trust_domain, self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "prod.example".parse().expect("it is one")
    }

    #[test]
    fn an_identity_is_its_uri() {
        for role in Role::ALL {
            let uri = format!("spiffe://prod.example/{role}/Us-1.a_b");
            let identity = Identity::of_uri(&uri, &domain()).expect("it is one");
            assert_eq!((identity.role(), identity.name()), (role, "Us-1.a_b"));
            assert_eq!(identity.to_string(), uri);
        }
    }

    #[test]
    fn what_is_no_identity_is_refused_with_the_reason() {
        let error = |uri: &str| Identity::of_uri(uri, &domain()).expect_err(uri);
        for uri in ["https://prod.example/region/us", "SPIFFE://prod.example/region/us", "", "spiffe:/x"] {
            assert_eq!(error(uri), IdentityError::OtherScheme(uri.to_owned()));
        }
        for uri in [
            "spiffe://test.example/region/us",
            "spiffe://prod.example.evil/region/us",
            "spiffe://PROD.example/region/us",
            "spiffe://prod.example:443/region/us",
            "spiffe://me@prod.example/region/us",
            "spiffe://prod.example?/region/us",
            "spiffe:///region/us",
        ] {
            assert!(matches!(error(uri), IdentityError::OtherTrustDomain { .. }), "{uri}");
        }
        for path in [
            "",
            "/",
            "/region",
            "/region/",
            "/region/a/b",
            "/region/..",
            "/region/a%2fb",
            "/region/a?b=c",
            "/region/a#b",
            "/region/ü",
            "/region/a b",
        ] {
            let uri = format!("spiffe://prod.example{path}");
            assert!(matches!(error(&uri), IdentityError::Shape { .. }), "{uri}: {:?}", error(&uri));
        }
        let long = format!("spiffe://prod.example/region/{}", "a".repeat(65));
        assert!(matches!(error(&long), IdentityError::Shape { .. }));
        for role in ["Region", "regions", "admin", ""] {
            let uri = format!("spiffe://prod.example/{role}/us");
            assert_eq!(error(&uri), IdentityError::UnknownRole(uri.clone()));
        }
    }

    #[test]
    fn a_trust_domain_is_plain() {
        let long = "a".repeat(256);
        for text in ["", "Prod", "a b", "a/b", "a:1", "ü", &long] {
            assert!(text.parse::<TrustDomain>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_shows_the_beginning_of_a_uri_in_one_line() {
        let error = Identity::of_uri(&"ü".repeat(5_000), &domain()).expect_err("it is none");
        assert!(error.to_string().len() < 500, "{error}");
        let error = Identity::of_uri("spiffe://x\nERROR all is lost", &domain()).expect_err("it is none");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
