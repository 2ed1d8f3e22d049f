//! Digests of rows, by which two databases are compared without sending the rows.

/// The expressions `count` and `digest` of a query: how many rows it finds, and the sum of a hash of these columns of each,
/// which does not depend on their order. Equal rows give equal sums in every database. Only PostgreSQL.
#[must_use]
pub fn digest_of(columns: &[&str]) -> String {
    let row = columns.join(", '/', ");
    format!(
        "count(*) AS count, CAST(COALESCE(sum(CAST(CAST('x' || left(md5(concat({row})), 16) AS bit(64)) AS bigint)), 0) \
         AS text) AS digest"
    )
}
