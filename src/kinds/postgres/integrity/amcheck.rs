//! Damage that only a look at every page finds: the extension amcheck.

use super::Level;
use super::facts::{Index, Relation, UniqueKeys};
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, Session};
use crate::plan::{Check, Finding, Param, Query, Severity};

/// What amcheck can do on this server, for this role.
#[derive(Clone, Debug, Default)]
pub(super) struct Amcheck {
    /// Its schema; none where it is not installed.
    schema: Option<Identifier>,
    version: String,
    /// The version that could be installed; none where there are no files of it.
    available: Option<String>,
    /// The extension's own functions in its own schema, with the types of their
    /// parameters. Others may have put functions beside them; a call with
    /// exactly these types can mean no other.
    functions: Vec<String>,
    /// Signatures the role may not call.
    forbidden: Vec<String>,
    /// The role may not even name them.
    schema_closed: bool,
    /// Functions of the extension that nobody can call, each with the one of somebody else's that is in the way.
    ambiguous: Vec<(String, String)>,
}

const VERIFY_HEAPAM: &str = "verify_heapam(regclass, boolean, boolean, text, bigint, bigint)";
const GIN: &str = "gin_index_check(regclass)";
const LIGHT: &str = "bt_index_check(regclass, boolean)";
const UNIQUE: &str = "bt_index_check(regclass, boolean, boolean)";
const PARENT: &str = "bt_index_parent_check(regclass, boolean, boolean)";

const AMCHECK: &str = "SELECT n.nspname::text AS schema, e.extversion AS version, a.default_version AS available,
        ARRAY(SELECT pg_catalog.format('%s(%s)', p.proname, pg_catalog.oidvectortypes(p.proargtypes)) FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.pronamespace = e.extnamespace
            WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
                AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass ORDER BY 1) AS functions,
        ARRAY(SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_proc p ON p.oid = d.objid
            WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
                AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                AND p.proname IN ('bt_index_check', 'bt_index_parent_check', 'verify_heapam', 'gin_index_check')
                AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
            ORDER BY 1) AS forbidden,
        NOT coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true) AS schema_closed
    FROM (SELECT) one
    LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'amcheck'
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = 'amcheck'";

/// Functions beside those of the extension that take the same arguments, and have defaults for more: the server then
/// calls neither, however the arguments are typed.
const AMBIGUOUS: &str = "SELECT pg_catalog.format('%s(%s)', p.proname, pg_catalog.oidvectortypes(p.proargtypes)), pg_catalog.min(other.oid::pg_catalog.regprocedure::text)
    FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
            AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.pronamespace = e.extnamespace
        JOIN pg_catalog.pg_proc other ON other.pronamespace = p.pronamespace AND other.proname = p.proname
            AND other.pronargs > p.pronargs AND other.pronargs - other.pronargdefaults <= p.pronargs
            AND (other.proargtypes::oid[])[0:p.pronargs - 1] = (p.proargtypes::oid[])[0:p.pronargs - 1]
    WHERE e.extname = 'amcheck'
    GROUP BY p.oid, p.proname, p.proargtypes ORDER BY 1, 2";

/// Looks what there is of it.
pub(super) async fn read(db: &Session) -> Result<Amcheck, EngineError> {
    let found = db.query("looking for amcheck", AMCHECK, &[]).await?;
    let Some(row) = found.first() else {
        return Ok(Amcheck::default());
    };
    let ambiguous = db.query("looking for amcheck", AMBIGUOUS, &[]).await?;
    let ambiguous = ambiguous.iter().map(|row| Ok((row.get(0)?, row.get(1)?)));
    Ok(Amcheck {
        ambiguous: ambiguous.collect::<Result<_, EngineError>>()?,
        schema: row.named::<Option<String>>("schema")?.map(Identifier::new),
        version: row.named::<Option<String>>("version")?.unwrap_or_default(),
        available: row.named("available")?,
        functions: row.named("functions")?,
        forbidden: row.named("forbidden")?,
        schema_closed: row.named("schema_closed")?,
    })
}

impl Amcheck {
    /// Why pages cannot be looked at, and what that costs; none where they can.
    pub(super) fn missing(&self, role: &str) -> Option<Finding> {
        let finding = |code: &str, severity, message: String, suggestion| Finding {
            code: code.to_owned(),
            severity,
            object: "amcheck".to_owned(),
            message,
            suggestion,
        };
        let cost = "damaged pages of tables and indexes go unnoticed until a query stumbles over them, or silently returns too little";
        if self.schema.is_none() {
            let (how, suggestion) = match self.available {
                Some(_) => (
                    "is not installed in this database",
                    Some("CREATE EXTENSION amcheck".to_owned()),
                ),
                None => (
                    "is not available on this server; its package is usually called postgresql-contrib",
                    None,
                ),
            };
            return Some(finding(
                "amcheck.missing",
                Severity::Info,
                format!("amcheck {how}: {cost}"),
                suggestion,
            ));
        }
        if !self.is_there(VERIFY_HEAPAM) {
            return Some(finding(
                "amcheck.outdated",
                Severity::Info,
                format!("amcheck {} cannot look at tables: {cost}", self.version),
                Some("ALTER EXTENSION amcheck UPDATE".to_owned()),
            ));
        }
        let role = Identifier::new(role);
        let mut grants = Vec::new();
        if let Some(schema) = self.schema.as_ref().filter(|_| self.schema_closed) {
            grants.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
        }
        if !self.forbidden.is_empty() {
            let all = self.forbidden.join(", ");
            grants.push(format!("GRANT EXECUTE ON FUNCTION {all} TO {role}"));
        }
        (!grants.is_empty()).then(|| {
            finding(
                "privilege.missing",
                Severity::Warning,
                format!("{role} may not call all functions of amcheck: {cost}"),
                Some(grants.join("; ")),
            )
        })
    }

    /// What cannot be called, of what is called at that level, and whose function is in the way.
    pub(super) fn in_the_way(&self, level: Level, parent: bool) -> Vec<Finding> {
        let called = |own: &str| match own {
            VERIFY_HEAPAM | LIGHT | GIN => true,
            UNIQUE => level == Level::Full,
            PARENT => parent,
            _ => false,
        };
        let schema = self.schema.as_ref().map(ToString::to_string);
        let schema = schema.unwrap_or_default();
        let ambiguous = self.ambiguous.iter().filter(|(own, _)| called(own));
        let found = ambiguous.map(|(own, other)| Finding {
            code: "amcheck.ambiguous".to_owned(),
            severity: Severity::Warning,
            object: other.clone(),
            message: format!(
                "what {own} of amcheck would find is not looked for: {other} is in the same schema {schema}, takes the same arguments, and has defaults for the others, so the server does not know which of the two is meant. Give one of them a schema of its own"
            ),
            suggestion: Some("CREATE SCHEMA amcheck; ALTER EXTENSION amcheck SET SCHEMA amcheck".to_owned()),
        });
        found.collect()
    }

    /// Whether pages can be looked at.
    pub(super) fn usable(&self) -> bool {
        self.schema.is_some() && !self.schema_closed && self.is_there(VERIFY_HEAPAM)
    }

    /// Whether those of tables can be.
    pub(super) fn reads_tables(&self) -> bool {
        self.may("verify_heapam") && self.has(VERIFY_HEAPAM)
    }

    /// Whether the role may call all functions of this name.
    pub(super) fn may(&self, function: &str) -> bool {
        !self.forbidden.iter().any(|signature| {
            signature
                .split('(')
                .next()
                .is_some_and(|name| name.rsplit('.').next() == Some(function))
        })
    }

    fn is_there(&self, signature: &str) -> bool {
        self.functions.iter().any(|own| own == signature)
    }

    /// Whether the extension has it, and it can be called.
    fn has(&self, signature: &str) -> bool {
        self.is_there(signature) && !self.ambiguous.iter().any(|(own, _)| own == signature)
    }

    fn call(&self, function: &str, arguments: &str) -> String {
        let schema = self
            .schema
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{schema}.{function}({arguments})")
    }

    /// Looks at an index; none where nothing can look at such indexes.
    pub(super) fn index(&self, index: &Index, level: Level, parent: bool) -> Option<Check> {
        if index.partitioned || !index.valid {
            return None;
        }
        let full = level == Level::Full;
        let call = match index.method.as_str() {
            "btree" if parent && !self.may("bt_index_parent_check") => return None,
            "btree" if parent && self.has(PARENT) => self.call(
                "bt_index_parent_check",
                &format!("$1::oid::pg_catalog.regclass, {full}::boolean, {full}::boolean"),
            ),
            "btree" if !self.may("bt_index_check") => return None,
            "btree" if full && index.unique && self.has(UNIQUE) => self.call(
                "bt_index_check",
                "$1::oid::pg_catalog.regclass, true::boolean, true::boolean",
            ),
            "btree" if self.has(LIGHT) => self.call(
                "bt_index_check",
                &format!("$1::oid::pg_catalog.regclass, {full}::boolean"),
            ),
            "gin" if self.has(GIN) && self.may("gin_index_check") => {
                self.call("gin_index_check", "$1::oid::pg_catalog.regclass")
            }
            _ => return None,
        };
        let mut check = Check::new();
        // First, because a complaint of amcheck ends the questions.
        if full
            && index.readable
            && let Some(unique) = &index.unique_keys
        {
            // The index itself must not answer: it is the one under suspicion.
            check = check
                .asking(Query::new(
                    "SELECT pg_catalog.set_config('enable_indexscan', 'off', true), pg_catalog.set_config('enable_indexonlyscan', 'off', true), pg_catalog.set_config('enable_bitmapscan', 'off', true)",
                    [],
                ))
                .counting(
                    Query::new(unique.count(&index.table), []),
                    vec![twice(index, unique)],
                );
        }
        let look = Query::new(format!("SELECT {call}"), [Param::Oid(index.oid)]);
        let repair = format!("REINDEX INDEX CONCURRENTLY {}", index.name);
        Some(check.asking(look).repaired_by(repair))
    }

    /// Looks at every page of a table.
    pub(super) fn table(&self, table: &Relation, level: Level) -> Check {
        let call = self.call(
            "verify_heapam",
            &format!(
                "$1::oid::pg_catalog.regclass, false::boolean, {}::boolean, 'none'::text, NULL::bigint, NULL::bigint",
                level == Level::Full
            ),
        );
        // One finding however much is wrong: a broken page has hundreds of complaints.
        let sql = format!(
            "SELECT 'corruption.table', 'critical', $2::text, pg_catalog.format('%s is damaged on %s of its pages: block %s, %s',
                $2::text, count(DISTINCT v.blkno), (pg_catalog.array_agg(v.blkno ORDER BY v.blkno, v.offnum))[1],
                (pg_catalog.array_agg(v.msg ORDER BY v.blkno, v.offnum))[1]), NULL::text
            FROM {call} v HAVING count(*) > 0"
        );
        Check::new().listing(Query::new(
            sql,
            [Param::Oid(table.oid), Param::Text(table.name.to_string())],
        ))
    }

    /// Looks at the tables and B-trees of the system catalogs.
    pub(super) fn catalogs(&self) -> Vec<(&'static str, Check)> {
        let indexes = format!(
            "SELECT {} FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am am ON am.oid = c.relam
             WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relkind = 'i' AND am.amname = 'btree'",
            self.call("bt_index_check", "c.oid::pg_catalog.regclass, false::boolean")
        );
        let tables = format!(
            "SELECT 'corruption.table', 'critical', c.oid::pg_catalog.regclass::text, pg_catalog.format('%s is damaged on %s of its pages: block %s, %s',
                c.oid::pg_catalog.regclass, count(DISTINCT v.blkno), (pg_catalog.array_agg(v.blkno ORDER BY v.blkno, v.offnum))[1],
                (pg_catalog.array_agg(v.msg ORDER BY v.blkno, v.offnum))[1]), NULL::text
             FROM pg_catalog.pg_class c CROSS JOIN LATERAL {} v
             WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relkind = 'r' GROUP BY c.oid",
            self.call("verify_heapam", "c.oid::pg_catalog.regclass, false::boolean, false::boolean, 'none'::text, NULL::bigint, NULL::bigint")
        );
        let mut checks = Vec::new();
        if self.may("bt_index_check") && self.has(LIGHT) {
            let check = Check::new().asking(Query::new(indexes, []));
            checks.push(("indexes of pg_catalog", check));
        }
        if self.reads_tables() {
            let check = Check::new().listing(Query::new(tables, []));
            checks.push(("tables of pg_catalog", check));
        }
        checks
    }
}

fn twice(index: &Index, unique: &UniqueKeys) -> Finding {
    Finding {
        code: "index.duplicate_keys".to_owned(),
        severity: Severity::Critical,
        object: index.name.to_string(),
        message: format!(
            "{{n}} keys of the unique index {} are in {} more than once: the index is damaged, or its sort order has changed. It cannot be rebuilt before all but one row of each are gone",
            index.name, index.table
        ),
        suggestion: Some(unique.list(&index.table)),
    }
}
