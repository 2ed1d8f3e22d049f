//! What a call is about.

use causeway_silo::region_name;
use uuid::Uuid;

use crate::chain::Link;

/// What the object of an entry about the beginning of the chain begins with.
const BEGINNING: &str = "audit/";

/// What a call is about: an object, and the import and operation that it belongs to. It consists of ids and names of
/// regions only, so nothing that a caller writes by mistake gets into the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    object: String,
    import_id: Option<Uuid>,
    operation_id: Option<Uuid>,
}

impl Subject {
    /// An import: the object is `import/UUID`, and the row belongs to the import.
    #[must_use]
    pub fn import(id: Uuid) -> Self {
        Self { object: format!("import/{id}"), import_id: Some(id), operation_id: None }
    }

    /// An operation on slugs or ids.
    #[must_use]
    pub fn operation(id: Uuid) -> Self {
        Self { object: format!("operation/{id}"), import_id: None, operation_id: Some(id) }
    }

    /// An organization, by its id: the object is `organization/ID`.
    #[must_use]
    pub fn organization(id: i64) -> Self {
        Self { object: format!("organization/{id}"), ..Self::default() }
    }

    /// A region. A text that cannot be the name of one is left out.
    #[must_use]
    pub fn region(name: &str) -> Self {
        let object =
            if region_name::is_valid(name) { format!("region/{name}") } else { "region/".to_owned() };
        Self { object, ..Self::default() }
    }

    /// The beginning of the chain of hashes: the last position that was deleted because of its age.
    #[must_use]
    pub(crate) fn beginning(at: Link) -> Self {
        Self { object: format!("{BEGINNING}{at}"), ..Self::default() }
    }

    /// The beginning of the chain that an object names, if it is one.
    pub(crate) fn beginning_of(object: &str) -> Option<Link> {
        object.strip_prefix(BEGINNING)?.parse().ok()
    }

    /// The same, as part of an operation.
    #[must_use]
    pub fn with_operation(self, id: Uuid) -> Self {
        Self { operation_id: Some(id), ..self }
    }

    /// The object, such as `import/UUID`; empty if none is known.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The import that the change belongs to, if any.
    #[must_use]
    pub fn import_id(&self) -> Option<Uuid> {
        self.import_id
    }

    /// The operation on slugs or ids that the change belongs to, if any.
    #[must_use]
    pub fn operation_id(&self) -> Option<Uuid> {
        self.operation_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_the_name_of_a_region_is_not_kept() {
        assert_eq!(Subject::region("us-east").object(), "region/us-east");
        for text in ["ann@example.org", "", "Token 5f3c", &"x".repeat(5_000)] {
            assert_eq!(Subject::region(text).object(), "region/");
        }
    }

    #[test]
    fn a_beginning_is_read_as_it_is_written() {
        let link = Link { position: 7, hash: [0xab; 32] };
        assert_eq!(Subject::beginning_of(Subject::beginning(link).object()), Some(link));
        for object in ["", "audit/", "audit/7", "import/7:ab", "7:ab"] {
            assert_eq!(Subject::beginning_of(object), None, "{object}");
        }
    }
}
