//! How a request stream shows that it is complete. A stream that is cut off looks like one that has ended: only its
//! last message, which has the amount sent and its digest, distinguishes them.

use sha2::{Digest as _, Sha256};

use crate::{
    control::v1::{BulkCreateEnd, OrganizationSlugRequest},
    region::v1::UploadEnd,
};

/// Counts and hashes the organizations of a bulk creation, as they are sent or received.
#[derive(Debug, Clone, Default)]
pub struct OrganizationDigest {
    count: i64,
    digest: Sha256,
}

impl OrganizationDigest {
    /// Adds the next organizations, in the order of the stream.
    pub fn add<'a>(&mut self, requests: impl IntoIterator<Item = &'a OrganizationSlugRequest>) {
        for OrganizationSlugRequest { organization_id, slug, name, taken_in_region } in requests {
            self.count += 1;
            self.digest.update(organization_id.to_string());
            for text in [slug, name] {
                self.digest.update([0]);
                self.digest.update(text);
            }
            self.digest.update(if *taken_in_region { b"\x001\n" } else { b"\x000\n" });
        }
    }

    /// The last message of a stream that has sent all that was added.
    #[must_use]
    pub fn end(self) -> BulkCreateEnd {
        BulkCreateEnd { organization_count: self.count, sha256: hex::encode(self.digest.finalize()) }
    }
}

/// Counts and hashes the bytes of an upload, as they are sent.
#[derive(Debug, Clone, Default)]
pub struct UploadDigest {
    size: i64,
    digest: Sha256,
}

impl UploadDigest {
    /// Adds the next bytes, in the order of the stream.
    pub fn add(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.digest.update(bytes);
    }

    /// The last message of an upload that has sent all that was added.
    #[must_use]
    pub fn end(self) -> UploadEnd {
        UploadEnd { size_bytes: self.size, sha256: hex::encode(self.digest.finalize()) }
    }
}

/// The last message of an upload with these bytes as its file.
#[must_use]
pub fn upload_end(file: &[u8]) -> UploadEnd {
    let mut sent = UploadDigest::default();
    sent.add(file);
    sent.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organization(organization_id: i64, slug: &str, name: &str) -> OrganizationSlugRequest {
        OrganizationSlugRequest {
            organization_id,
            slug: slug.to_owned(),
            name: name.to_owned(),
            taken_in_region: false,
        }
    }

    fn end(requests: &[OrganizationSlugRequest]) -> BulkCreateEnd {
        let mut sent = OrganizationDigest::default();
        sent.add(requests);
        sent.end()
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let one = end(&[organization(7, "acme", "Acme Inc")]);
        let documented = "causeway.control.v1.BulkCreateEnd";
        let descriptor = crate::json::pool()
            .expect("the contract can be read")
            .get_message_by_name(documented)
            .expect("it is in the contract");
        let file = descriptor.parent_file();
        let comments: String = file
            .file_descriptor_proto()
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .map(|location| location.leading_comments())
            .collect();
        assert!(comments.contains(&one.sha256), "the comment names another digest than {}", one.sha256);
        assert_eq!(one.organization_count, 1);
        // The SHA-256 digest of no bytes.
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!((end(&[]).organization_count, end(&[]).sha256.as_str()), (0, nothing));
        assert_eq!(upload_end(b""), UploadEnd { size_bytes: 0, sha256: nothing.to_owned() });
    }

    #[test]
    fn the_digest_is_of_all_that_is_sent_in_its_order_and_of_no_batches() {
        let [one, two] = [organization(1, "a", "A"), organization(2, "b", "B")];
        let both = end(&[one.clone(), two.clone()]);
        let mut sent = OrganizationDigest::default();
        sent.add([&one]);
        sent.add([]);
        sent.add([&two]);
        assert_eq!(sent.end(), both);
        let taken = OrganizationSlugRequest { taken_in_region: true, ..two.clone() };
        for other in [
            vec![two.clone(), one.clone()],
            vec![one.clone(), organization(2, "b", "")],
            vec![one.clone(), organization(2, "", "b")],
            vec![one.clone(), organization(3, "b", "B")],
            vec![one.clone(), taken],
            vec![one],
        ] {
            assert_ne!(end(&other).sha256, both.sha256, "{other:?}");
        }
    }
}
