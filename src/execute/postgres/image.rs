//! How rows that move within a database are compared. What the server would send is made in half the
//! time of a text, and says as much.

use tokio_postgres::types::ToSql;

use super::Job;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Row, each};
use crate::plan::{Image, Walk};

/// For each column the server's own function that sends its values: where its type is the same in both
/// tables, and other values come in other bytes. That is known of the types that the server itself
/// brings, and of their arrays. Text is sent in the encoding of the client, which is to be that of
/// the database: nothing is converted then, and nothing refused.
const AS_SENT: &str = "SELECT pg_catalog.current_setting('server_encoding') = 'UTF8'
            AND pg_catalog.current_setting('client_encoding') = 'UTF8' AS encoding,
        (SELECT p.proname::text FROM pg_catalog.pg_attribute h
                JOIN pg_catalog.pg_attribute i ON i.attname = h.attname AND i.atttypid = h.atttypid
                    AND i.attrelid = pg_catalog.to_regclass($2::text)
                JOIN pg_catalog.pg_type t ON t.oid = h.atttypid AND t.typtype = 'b' AND t.oid < 16384
                -- As it is declared: one that takes another type, which this one can be cast to, does not take this.
                JOIN pg_catalog.pg_proc p ON p.oid = t.typsend AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
                    AND p.proargtypes[0] IN (t.oid, 'anyarray'::pg_catalog.regtype)
                LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
            WHERE h.attrelid = $1::oid AND h.attname = (pg_catalog.parse_ident(c.name))[1]::name
                AND h.attnum > 0 AND i.attnum > 0
                AND (t.typelem = 0 OR t.typcategory <> 'A'
                    OR (e.typtype = 'b' AND e.oid < 16384 AND e.typsend <> 0))) AS sender
    FROM pg_catalog.unnest($3::text[]) WITH ORDINALITY AS c (name, nth) ORDER BY c.nth";

/// How the rows of a walk are compared with what they have become in another table.
pub(super) async fn of(
    walk: &Walk,
    into: &str,
    columns: &[String],
    job: Job<'_>,
) -> Result<Image, EngineError> {
    let params: [&(dyn ToSql + Sync); 3] = [&walk.oid, &into, &columns];
    let doing = "looking how rows can be compared";
    let rows = job.session.query(doing, AS_SENT, &params).await?;
    let read = |row: &Row| Ok((row.named("encoding")?, row.named("sender")?));
    let all: Vec<(bool, Option<String>)> = each(&rows, read)?;
    if !all.iter().all(|(encoding, _)| *encoding) {
        return Ok(Image::Text);
    }
    let called = |name: String| format!("pg_catalog.{}", Identifier::new(name));
    let senders = all.into_iter().map(|(_, sender)| sender.map(called));
    Ok(Image::Sent(senders.collect()))
}
