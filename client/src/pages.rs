//! Lists come in pages; a person or a program that asks for a list wants all of it.

use causeway_proto::{control::v1 as control, region::v1 as region, relocation::v1 as relocation};

/// A page of a list.
pub trait Page: Default {
    /// Takes the token of the page after this one; it is empty on the last page.
    fn take_next(&mut self) -> String;
    /// Adds what is on `page`.
    fn append(&mut self, page: Self);
}

macro_rules! page {
    ($($type:ty: $items:ident;)*) => {$(
        impl Page for $type {
            fn take_next(&mut self) -> String {
                std::mem::take(&mut self.next_page_token)
            }

            fn append(&mut self, page: Self) {
                self.$items.extend(page.$items);
            }
        }
    )*};
}

page! {
    control::ListOrganizationsResponse: organizations;
    control::ListRegionsResponse: regions;
    control::ListSlugOperationsResponse: operations;
    control::ListSlugReservationsResponse: reservations;
    region::ListFindingsResponse: findings;
    region::ListImportsResponse: imports;
    region::ListMappedKeysResponse: keys;
    region::ListOrganizationsResponse: organizations;
    relocation::ListAuditEntriesResponse: entries;
}

/// All pages of a list as one. `fetch` gets the token of the page that is wanted.
///
/// # Errors
/// If a page cannot be had.
pub async fn collect_pages<P: Page, E, F>(mut fetch: impl FnMut(String) -> F) -> Result<P, E>
where
    F: Future<Output = Result<P, E>>,
{
    let mut all = P::default();
    let mut token = String::new();
    loop {
        let mut page = fetch(token).await?;
        token = page.take_next();
        all.append(page);
        if token.is_empty() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_become_one_list() {
        let mut asked = Vec::new();
        let all = collect_pages(|token: String| {
            asked.push(token.clone());
            let number: i64 = token.parse().unwrap_or(0);
            std::future::ready(Ok::<_, std::convert::Infallible>(region::ListOrganizationsResponse {
                organizations: vec![region::Organization { id: number, ..Default::default() }],
                next_page_token: if number < 2 { (number + 1).to_string() } else { String::new() },
            }))
        })
        .await
        .expect("every page is there");
        assert_eq!(asked, ["", "1", "2"]);
        assert_eq!(all.organizations.iter().map(|o| o.id).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(all.next_page_token.is_empty());
    }
}
