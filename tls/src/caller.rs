//! Who calls: all identities that the certificate of a caller has, by its own URI and by the configuration.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    parse_x509_certificate,
};

use crate::identity::{Identity, IdentityError, Role, TrustDomain};

/// Somebody who calls. It has at least one identity. Cheap to clone. Displayed as the first of its identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<[Identity]>);

impl Caller {
    /// Somebody with one identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self([identity].into())
    }

    /// Who the holder of a certificate is, whose signature and time somebody has checked: the identity of its own URI,
    /// then those that the table gives to one of its names.
    ///
    /// # Errors
    /// If it has no identity, several URIs, or a URI that is none of this trust domain and not in the table.
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
        let mut identities: Vec<Identity> = own.into_iter().collect();
        for identity in names.iter().flat_map(|name| table.identities(name, trust_domain)) {
            if !identities.contains(&identity) {
                identities.push(identity);
            }
        }
        if identities.is_empty() {
            return Err(IdentityError::NoUri(trust_domain.clone()));
        }
        Ok(Self(identities.into()))
    }

    /// All that the caller is, at least one.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.0
    }

    /// Whether the caller has a role.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.0.iter().any(|identity| identity.role() == role)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, identity) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            identity.fmt(f)?;
        }
        Ok(())
    }
}

/// A name in a certificate, as a table of identities has it: `spiffe://...` or another URI, `dns:HOST`, `email:ADDRESS`
/// or `subject:CN=...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct CertificateName(String);

impl CertificateName {
    /// The URI, if that is what it is.
    fn uri(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|name| name.contains("://"))
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
            GeneralName::URI(uri) if uri.contains("://") => names.push(CertificateName((*uri).to_owned())),
            // A URI of another form is one as well: it must not go unnoticed beside a second one.
            GeneralName::URI(uri) => names.push(CertificateName(format!("://{uri}"))),
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
        let name = match name.strip_prefix("dns:") {
            Some(host) => format!("dns:{}", host.to_lowercase()),
            None => name.to_owned(),
        };
        let known = name.contains("://")
            || ["dns:", "email:", "subject:"]
                .iter()
                .any(|kind| name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()));
        if !known {
            return Err(shape());
        }
        if !Identity::is_name(called) {
            return Err("the name of an identity is 1 to 64 letters, digits, dots, hyphens and underscores"
                .to_owned());
        }
        Ok(Self { name: CertificateName(name), role, called: called.to_owned() })
    }
}

/// Which identities certificates have beside that of their own URI: for certificates of those whose CA makes no such
/// URIs, and for callers with several roles.
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
        self.0.contains_key(&CertificateName(uri.to_owned()))
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
