//! Publications: what they tell of, and where one of them has the server refuse a DELETE or an UPDATE.

use super::catalog::with_ancestors;
use super::{Server, Session, first};
use crate::engines::EngineError;

/// SQL: whether the publication `publication` (`pg_publication`) tells of what happens in the
/// table with this oid, by itself or as part of a table above it.
///
/// The server's own view answers the same, and opens every published table for it. Since 19 a
/// publication of all tables may leave some out, with all that is part of them.
pub fn published(server: &Server, publication: &str, oid: &str) -> String {
    let itself = with_ancestors(oid);
    let (listed, left_out) = match server.major() >= 19 {
        true => (
            " AND NOT r.prexcept",
            format!(
                " AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = {publication}.oid AND r.prexcept
                    AND r.prrelid IN {itself})"
            ),
        ),
        false => ("", String::new()),
    };
    let schemas = match server.major() >= 15 {
        true => format!(
            " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class m ON m.relnamespace = s.pnnspid
                WHERE s.pnpubid = {publication}.oid AND m.oid IN {itself})"
        ),
        false => String::new(),
    };
    format!(
        "(EXISTS (SELECT FROM pg_catalog.pg_class m WHERE m.oid = {oid} AND m.relkind IN ('r', 'p') AND m.relpersistence = 'p' AND m.oid >= 16384)
            AND ({publication}.puballtables{left_out}
                OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = {publication}.oid{listed}
                    AND r.prrelid IN {itself}){schemas}))"
    )
}

/// SQL: whether the publication `publication` (`pg_publication`) takes in every new table of the schema with this oid,
/// under its own name, whatever it leaves out of those that are there.
pub fn takes_in(server: &Server, publication: &str, schema: &str) -> String {
    let schemas = match server.major() >= 15 {
        true => format!(
            " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = {publication}.oid AND s.pnnspid = {schema})"
        ),
        false => String::new(),
    };
    format!("({publication}.puballtables{schemas})")
}

/// What is done to rows, where publications may have a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Rows are deleted.
    Delete,
    /// Rows are written anew.
    Update,
}

impl Published {
    /// The column of `pg_publication` that says whether it is told of.
    const fn column(self) -> &'static str {
        match self {
            Published::Delete => "pubdelete",
            Published::Update => "pubupdate",
        }
    }
}

/// The table whose row filter and columns hold for the table `c` in the publication `b`: with
/// `publish_via_partition_root` the topmost of those above it that are in the publication.
const SPEAKS_FOR: &str = "(CASE WHEN b.pubviaroot AND c.relispartition
            THEN coalesce((SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY a (relid, above)
                JOIN pg_catalog.pg_class m ON m.oid = a.relid
                WHERE EXISTS (SELECT FROM pg_catalog.pg_publication_rel l WHERE l.prpubid = b.oid AND l.prrelid = a.relid)
                    OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = b.oid AND s.pnnspid = m.relnamespace)
                ORDER BY a.above DESC LIMIT 1), c.oid)
            ELSE c.oid END)";

/// SQL: why the server refuses to delete, or to update, any row of the table `c` (`pg_class`, no
/// partitioned one): a text for each publication that has it refuse, none where none does.
///
/// It has to tell the row from others to the subscriber: by the columns of a primary key or of the index
/// that REPLICA IDENTITY names, or by all of them. Since 15 a row filter may read no others, and a list
/// of columns has to have all of them; since 18 none of them may be a generated one that is not published
/// (`CheckCmdReplicaIdentity` in `execReplication.c`, `RelationBuildPublicationDesc` in `relcache.c`).
pub fn refusals(server: &Server, what: Published) -> String {
    let shown = |columns: &str| {
        format!("pg_catalog.string_agg(pg_catalog.quote_ident({columns}), ', ' ORDER BY {columns})")
    };
    let mut causes = vec![
        "CASE WHEN c.relreplident <> 'f' AND k.missing THEN 'nothing tells its rows apart: it has no primary key and no replica identity' END"
            .to_owned(),
    ];
    let mut reading = String::new();
    if server.major() >= 15 {
        reading = format!(
            " LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = b.oid AND NOT b.puballtables AND r.prrelid = {SPEAKS_FOR}"
        );
        // Columns of the table that speaks are those of this one by their names.
        causes.push(format!(
            "CASE WHEN c.relreplident <> 'f' THEN (SELECT 'its row filter reads ' || {} || ', which the replica identity does not have' FROM
                (SELECT DISTINCT a.attname FROM pg_catalog.regexp_matches(r.prqual::pg_catalog.text, ':varattno ([0-9]+)', 'g') AS m (numbers)
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = m.numbers[1]::pg_catalog.int2
                    WHERE NOT a.attname = ANY (k.names)) AS f HAVING pg_catalog.count(*) > 0) END",
            shown("f.attname")
        ));
        causes.push(
            "CASE WHEN r.prattrs IS NOT NULL AND c.relreplident = 'f' THEN 'it lists columns, and the replica identity is FULL' END"
                .to_owned(),
        );
        causes.push(format!(
            "CASE WHEN r.prattrs IS NOT NULL AND c.relreplident <> 'f' THEN (SELECT 'its columns lack ' || {} || ' of the replica identity' FROM
                pg_catalog.unnest(k.names) AS i (name) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs) AND a.attname = i.name) HAVING pg_catalog.count(*) > 0) END",
            shown("i.name")
        ));
    }
    if server.major() >= 18 {
        causes.push(format!(
            "CASE WHEN r.prattrs IS NULL THEN (SELECT 'the replica identity has the generated ' || {} || ', which is not published' FROM
                pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND (c.relreplident = 'f' OR a.attname = ANY (k.names))
                    AND (a.attgenerated = 'v' OR a.attgenerated = 's' AND b.pubgencols <> 's') HAVING pg_catalog.count(*) > 0) END",
            shown("a.attname")
        ));
    }
    format!(
        "ARRAY(SELECT 'publication ' || pg_catalog.quote_ident(b.pubname) || ' tells of it, and ' || why.text
            FROM (SELECT c.oid, i.names IS NULL AS missing, coalesce(i.names, '{{}}') AS names FROM (SELECT
                    (SELECT ARRAY(SELECT a.attname FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS n (n)
                        JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[n.n])
                    FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indisunique AND x.indimmediate
                        AND CASE c.relreplident WHEN 'd' THEN x.indisprimary WHEN 'i' THEN x.indisreplident ELSE false END LIMIT 1) AS names) AS i) AS k
                CROSS JOIN pg_catalog.pg_publication b{reading}
                CROSS JOIN LATERAL (SELECT coalesce({}) AS text) AS why
            WHERE c.relkind = 'r' AND b.{} AND {} AND why.text IS NOT NULL ORDER BY 1)",
        causes.join(", "),
        what.column(),
        published(server, "b", "c.oid"),
    )
}

/// Why a new table in this schema would do harm: publications take it in by themselves, and subscribers that have no
/// such table end their replication of all tables with its first row. None where no publication does.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn taking_in(
    db: &Session,
    schema: &str,
    table: &str,
) -> Result<Option<String>, EngineError> {
    let new = takes_in(
        &db.server,
        "p",
        "(SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = $1::text)",
    );
    let sql = format!(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p.pubname), ', ' ORDER BY p.pubname)
        FROM pg_catalog.pg_publication p WHERE p.pubinsert AND $1::text IS NOT NULL AND {new}"
    );
    let doing = "reading which publications take in new tables";
    let found = db.query(doing, &sql, &[&schema]).await?;
    let names: Option<String> = first(&found, 0)?.flatten();
    Ok(names.map(|names| {
        format!(
            "{table} is not made: the publication {names} takes in every new table there, and whoever subscribes to it and has no such table stops at its first row, with all other tables. Make it by hand, here and at the subscribers, and have them run ALTER SUBSCRIPTION … REFRESH PUBLICATION; or name a table of another database"
        )
    }))
}
