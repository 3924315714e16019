//! Measures indexes page by page with the extension pgstattuple.

use super::super::common::Unmeasured;
use super::facts::IndexFacts;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Session, first};

/// Its schema, where both functions there with exactly these parameters are the extension's own.
const EXTENSION: &str = "SELECT n.nspname::text FROM pg_catalog.pg_extension e
    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pgstattuple' AND 2 = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.pronamespace = e.extnamespace
        WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.proname IN ('pgstatindex', 'pgstattuple')
            AND pg_catalog.oidvectortypes(p.proargtypes) = 'regclass')";

/// Leaf pages hold `avg_leaf_density` percent of what fits; a build fills
/// them to the fill factor and leaves no dead pages.
const BTREE: &str = "SELECT (s.leaf_pages * s.avg_leaf_density / $2::float8
        + s.internal_pages * least(1, s.leaf_pages * s.avg_leaf_density / $2::float8 / greatest(s.leaf_pages + s.deleted_pages, 1))
        + 1) * 8192.0
    FROM {schema}.pgstatindex($1::oid::regclass) s";

/// Buckets come in steps of a quarter, hence the 1.25.
const HASH: &str = "SELECT (s.tuple_len + 4 * s.tuple_count) / ($2::float8 / 100) * 1.25
    FROM {schema}.pgstattuple($1::oid::regclass) s";

/// Splits leave GiST pages about 65 % full in practice.
const GIST: &str = "SELECT (s.tuple_len + 4 * s.tuple_count) / (least($2::float8, 65) / 100)
    FROM {schema}.pgstattuple($1::oid::regclass) s";

/// Whether pgstattuple can be used, and if not, why.
pub(super) async fn measure(
    db: &Session,
    indexes: &mut [&mut IndexFacts],
) -> Result<Option<Unmeasured>, EngineError> {
    let found = db.query("looking for pgstattuple", EXTENSION, &[]).await?;
    let Some(schema) = first::<String>(&found, 0)?.map(Identifier::new) else {
        return Ok(Some(Unmeasured::NotInstalled));
    };
    for index in indexes {
        let sql = match index.access_method.as_str() {
            "btree" => BTREE,
            "hash" => HASH,
            "gist" => GIST,
            _ => continue,
        };
        let sql = sql.replace("{schema}", &schema.to_string());
        let doing = format!("measuring {}", index.name());
        match db
            .query(&doing, &sql, &[&index.oid, &index.fillfactor])
            .await
        {
            Ok(rows) => {
                index.measured_ideal_bytes = first(&rows, 0)?.flatten();
            }
            Err(error) if error.sqlstate() == Some("42501") => {
                return Ok(Some(Unmeasured::Forbidden));
            }
            // Vanished, or being dropped: the executor would find out too.
            Err(error) if error.sqlstate().is_some() => {
                tracing::debug!(index = index.name(), %error, "could not be measured");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
