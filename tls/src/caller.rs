//! Who calls: all identities that the certificate of a caller has, by its own URI and by the configuration.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    parse_x509_certificate,
};

use crate::identity::{Identity, IdentityError, Role, TrustDomain};

/// Somebody who calls. Cheap to clone. Displayed as the first of its identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    first: Identity,
    others: Arc<[Identity]>,
}

impl Caller {
    /// Somebody with one identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { first: identity, others: Arc::default() }
    }

    /// Who the holder of a certificate is, whose signature and time somebody has checked: the identity of its own URI,
    /// then those that the table gives to one of its names.
    ///
    /// # Errors
    /// If it has no identity or several URIs, or its URI is neither of this trust domain nor in the table.
    pub fn of_certificate(
        der: &[u8],
        trust_domain: &TrustDomain,
        table: &IdentityTable,
    ) -> Result<Self, IdentityError> {
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| IdentityError::Unreadable)?;
        let names = names(&certificate)?;
        let uris: Vec<&str> = names.iter().filter_map(|name| name.uri()).collect();
        let own = match uris.as_slice() {
            [] => None,
            [uri] => match Identity::of_uri(uri, trust_domain) {
                Ok(identity) => Some(identity),
                Err(_) if table.has_uri(uri) => None,
                Err(error) => return Err(error),
            },
            several => return Err(IdentityError::SeveralUris(several.len())),
        };
        let given = names.iter().flat_map(|name| table.identities(name, trust_domain));
        let mut identities = own.into_iter().chain(given);
        let first = identities.next().ok_or_else(|| IdentityError::NoUri(trust_domain.clone()))?;
        let others = identities.filter(|identity| *identity != first).collect();
        Ok(Self { first, others })
    }

    /// The identity by which it is known: that of its own URI, if it has one.
    #[must_use]
    pub fn first(&self) -> &Identity {
        &self.first
    }

    /// All that the caller is.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// Whether it is an operator, whatever else it is.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.with_role(Role::Operator).is_some()
    }

    /// Whether it is the region of this name, whatever else it is.
    #[must_use]
    pub fn is_region(&self, name: &str) -> bool {
        self.identities().any(|it| it.role() == Role::Region && it.name() == name)
    }

    /// The identity with a role; `None` if the caller does not have it.
    #[must_use]
    pub fn with_role(&self, role: Role) -> Option<&Identity> {
        self.identities().find(|identity| identity.role() == role)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)
    }
}

/// What a name that is a URI begins with here, so that no other kind of name looks like one.
const URI: &str = "uri:";

/// A name in a certificate: `uri:` and a URI, `dns:HOST`, `email:ADDRESS` or `subject:CN=...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct CertificateName(String);

impl CertificateName {
    /// The URI, if that is what it is.
    fn uri(&self) -> Option<&str> {
        self.0.strip_prefix(URI)
    }
}

/// Escapes what separates the parts of a subject, so that no value looks like several.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        if matches!(character, ',' | '=' | '+' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// The subject of a certificate, e.g. `CN=us,O=Example`, in the order of the certificate.
fn subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for attribute in certificate.subject().iter_attributes() {
        let kind = match oid2abbrev(attribute.attr_type(), oid_registry()) {
            Ok(short) => short.to_owned(),
            Err(_) => attribute.attr_type().to_id_string(),
        };
        parts.push(format!("{kind}={}", escaped(attribute.as_str().ok()?)));
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// All names of a certificate.
fn names(certificate: &X509Certificate<'_>) -> Result<Vec<CertificateName>, IdentityError> {
    let alternative = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let alternative = alternative.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut names = Vec::new();
    for name in alternative {
        match name {
            GeneralName::URI(uri) => names.push(CertificateName(format!("{URI}{uri}"))),
            GeneralName::DNSName(host) => names.push(CertificateName(format!("dns:{}", host.to_lowercase()))),
            GeneralName::RFC822Name(address) => names.push(CertificateName(format!("email:{address}"))),
            _ => {}
        }
    }
    names.extend(subject(certificate).map(|subject| CertificateName(format!("subject:{subject}"))));
    Ok(names)
}

/// One line of a table: a certificate with this name also is this. Written `NAME=ROLE/NAME`, e.g.
/// `dns:us.regions.example.com=region/us`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    name: CertificateName,
    role: Role,
    called: String,
}

impl FromStr for TableEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || {
            "must be NAME=ROLE/NAME, where the first NAME is a URI, dns:HOST, email:ADDRESS or subject:CN=..., and ROLE \
             is region, control, router, operator, importer or monitor"
                .to_owned()
        };
        let (name, identity) = text.rsplit_once('=').ok_or_else(shape)?;
        let (role, called) = identity.split_once('/').ok_or_else(shape)?;
        let role: Role = role.parse().map_err(|()| shape())?;
        let name = match name.split_once(':') {
            Some(("dns", host)) if !host.is_empty() => format!("dns:{}", host.to_lowercase()),
            Some(("email" | "subject", rest)) if !rest.is_empty() => name.to_owned(),
            Some((_, rest)) if rest.starts_with("//") => format!("{URI}{name}"),
            _ => return Err(shape()),
        };
        if !Identity::is_name(called) {
            return Err("the name of an identity is 1 to 64 letters, digits, dots, hyphens and underscores"
                .to_owned());
        }
        Ok(Self { name: CertificateName(name), role, called: called.to_owned() })
    }
}

/// Which identities certificates have in addition to that of their own URI: for certificates of those whose
/// CA makes no such URIs, and for callers with several roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityTable(BTreeMap<CertificateName, Vec<(Role, String)>>);

impl FromIterator<TableEntry> for IdentityTable {
    fn from_iter<I: IntoIterator<Item = TableEntry>>(entries: I) -> Self {
        let mut table = Self::default();
        for TableEntry { name, role, called } in entries {
            table.0.entry(name).or_default().push((role, called));
        }
        table
    }
}

impl IdentityTable {
    fn has_uri(&self, uri: &str) -> bool {
        self.0.contains_key(&CertificateName(format!("{URI}{uri}")))
    }

    /// The identities of a name, as ones of this trust domain.
    fn identities<'a>(
        &'a self,
        name: &CertificateName,
        trust_domain: &'a TrustDomain,
    ) -> impl Iterator<Item = Identity> + 'a {
        let given = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        given.iter().filter_map(|(role, called)| Identity::new(trust_domain.clone(), *role, called))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn domain() -> TrustDomain {
        "prod.example".parse().expect("it is one")
    }

    fn table(entries: &[&str]) -> IdentityTable {
        entries.iter().map(|entry| entry.parse::<TableEntry>().expect("an entry")).collect()
    }

    /// A certificate with these alternative names and this subject.
    fn certificate(names: &[SanType], subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ASCII"))
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().expect("ASCII"))
    }

    fn identities(der: &[u8], table: &IdentityTable) -> Result<Vec<String>, IdentityError> {
        let caller = Caller::of_certificate(der, &domain(), table)?;
        Ok(caller.identities().map(|it| format!("{}/{}", it.role(), it.name())).collect())
    }

    #[test]
    fn a_caller_has_the_identity_of_its_uri_and_those_of_the_table() {
        let table = table(&[
            "spiffe://prod.example/operator/ann=importer/ann",
            "spiffe://prod.example/operator/ann=operator/ann",
            "dns:US.regions.example=region/us",
            "email:ann@example.com=monitor/ann",
            "subject:CN=us,O=Example=region/us-2",
            "spiffe://other.example/region/us=region/eu",
        ]);
        let ann = uri("spiffe://prod.example/operator/ann");
        for (names, subject, expected) in [
            (vec![ann.clone()], vec![], vec!["operator/ann", "importer/ann"]),
            (vec![dns("us.Regions.example")], vec![], vec!["region/us"]),
            (
                vec![SanType::Rfc822Name("ann@example.com".try_into().expect("ASCII")), ann],
                vec![],
                vec!["operator/ann", "monitor/ann", "importer/ann"],
            ),
            (
                vec![],
                vec![(DnType::CommonName, "us"), (DnType::OrganizationName, "Example")],
                vec!["region/us-2"],
            ),
            (vec![uri("spiffe://other.example/region/us")], vec![], vec!["region/eu"]),
        ] {
            let mut found = identities(&certificate(&names, &subject), &table).expect("somebody");
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(found.first(), expected.first());
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_certificate_that_the_table_does_not_name_is_nobody() {
        let table = table(&["dns:us.example=region/us", "subject:CN=us,O=Example=region/us"]);
        let refused = |names: &[SanType], subject: &[(DnType, &str)]| {
            identities(&certificate(names, subject), &table).expect_err("nobody")
        };
        let us = dns("us.example");
        let other = uri("spiffe://other.example/region/us");
        // A URI of another trust domain is refused, whatever other names there are.
        assert!(matches!(refused(&[us.clone(), other.clone()], &[]), IdentityError::OtherTrustDomain { .. }));
        let two = [uri("spiffe://prod.example/region/us"), other, us];
        assert_eq!(refused(&two, &[]), IdentityError::SeveralUris(2));
        let odd = [uri("spiffe://prod.example/region/us"), uri("urn:x")];
        assert_eq!(refused(&odd, &[]), IdentityError::SeveralUris(2));
        assert!(matches!(refused(&[dns("eu.example")], &[]), IdentityError::NoUri(_)));
        assert!(matches!(refused(&[dns("evil.us.example")], &[]), IdentityError::NoUri(_)));
        // One value that looks like several parts.
        assert!(matches!(refused(&[], &[(DnType::CommonName, "us,O=Example")]), IdentityError::NoUri(_)));
        assert!(matches!(refused(&[], &[(DnType::CommonName, "us")]), IdentityError::NoUri(_)));
    }

    #[test]
    fn an_entry_of_the_table_is_checked() {
        for wrong in [
            "",
            "region/us",
            "dns:=region/us",
            "us.example=region/us",
            "dns:us.example=region",
            "dns:us.example=root/us",
            "dns:us.example=region/a b",
            "dns:us.example=region/..",
        ] {
            assert!(wrong.parse::<TableEntry>().is_err(), "{wrong}");
        }
    }
}
