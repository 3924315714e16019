//! What a delete sets off: foreign keys and triggers.

use std::collections::{HashMap, HashSet};

use super::facts::Table;
use crate::engines::EngineError;
use crate::engines::postgres::catalog::{
    by_people, enforced, size_of, tree, with_ancestors, without_index,
};
use crate::engines::postgres::compared::indexed;
use crate::engines::postgres::definitions::FUNCTION;
use crate::engines::postgres::{RelationName, Server, Session, each};
use crate::plan::{Finding, Severity, Step};
use crate::values::unreadable;

/// A foreign key that a delete has to look at.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct ForeignKey {
    /// The table of the rule.
    pub(in crate::kinds::postgres) root: u32,
    /// Whose rows are pointed at in the first place: the table of the rule and its partitions, or some of those.
    /// In order.
    pub(in crate::kinds::postgres) members: Vec<u32>,
    /// Whose rows go first: the table of the rule, or the child of another cascade.
    via: u32,
    /// None where it was never analyzed.
    pub(super) parent_rows: Option<f64>,
    pub(in crate::kinds::postgres) child_oid: u32,
    pub(in crate::kinds::postgres) child: RelationName,
    pub(in crate::kinds::postgres) name: String,
    /// What happens to the children: `a`, `r`, `c`, `n`, `d` as in the catalog.
    pub(in crate::kinds::postgres) action: String,
    pub(super) columns: Vec<String>,
    /// What an index needs to have that serves it, as SQL.
    served_by: Vec<String>,
    /// Those of them that are set where `action` sets some: the constraint may name a part.
    pub(super) sets: Vec<String>,
    /// None where it was never analyzed.
    pub(super) child_rows: Option<f64>,
    pub(in crate::kinds::postgres) child_bytes: i64,
    /// Whether its last column is a PERIOD, which GiST looks up.
    over_period: bool,
    /// Whether the children are found by an index.
    pub(in crate::kinds::postgres) indexed: bool,
    /// 1 where it points at the table of the rule itself.
    pub(super) depth: i32,
    /// The child and all below it, `schema.table` as they are called in the catalog.
    family: Vec<String>,
}

/// A trigger that fires for each row, or statement; or a rule for DELETE.
#[derive(Clone, Debug)]
pub(in crate::kinds::postgres) struct Trigger {
    pub(in crate::kinds::postgres) table: u32,
    pub(in crate::kinds::postgres) name: String,
    /// None for a rule.
    pub(in crate::kinds::postgres) function: Option<String>,
    /// What is done, by its name, and a number for how it is defined.
    pub(in crate::kinds::postgres) definition: (String, i64),
}

/// Whether a foreign key points at any of these tables, or at what they are partitions of. Most tables have none,
/// and to plan the long question costs the server more than all else that a plan asks.
const POINTED_AT: &str = "SELECT EXISTS (SELECT FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS o (oid)
        CROSS JOIN LATERAL {with_ancestors} AS above
        JOIN pg_catalog.pg_constraint con ON con.confrelid = above.relid AND con.contype = 'f') AS pointed_at";

/// Of every foreign key by which a rule's rows are pointed at, whatever table above them it names, and of those that
/// follow from it.
const FOREIGN_KEYS: &str = "WITH RECURSIVE of_rule AS MATERIALIZED (SELECT o.root, o.oid, above.relid
            FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.oid[])) AS o (root, oid)
                CROSS JOIN LATERAL {with_ancestors} AS above),
    fk AS (
        SELECT con.oid, con.conname, con.conrelid, con.confrelid, con.confdeltype, con.conkey,
            o.root, o.relid AS start, o.root AS via, 1 AS depth
        FROM (SELECT DISTINCT root, relid FROM of_rule) o JOIN pg_catalog.pg_constraint con ON con.confrelid = o.relid
        WHERE con.contype = 'f' AND con.conparentid = 0 AND {enforced}
        UNION SELECT next.oid, next.conname, next.conrelid, next.confrelid, next.confdeltype, next.conkey,
            fk.root, fk.start, fk.conrelid, fk.depth + 1
        -- Rows of a child are rows of what it is a partition of, and of its own partitions.
        FROM fk CROSS JOIN LATERAL (SELECT below.relid FROM {below} AS below UNION SELECT above.relid FROM {above} AS above) child
            JOIN pg_catalog.pg_constraint next ON next.confrelid = child.relid
        WHERE next.contype = 'f' AND next.conparentid = 0 AND {enforced_next} AND fk.confdeltype = 'c' AND fk.depth < 5
    )
    SELECT fk.root, ARRAY(SELECT DISTINCT r.oid FROM of_rule r WHERE r.root = fk.root AND r.relid = fk.start ORDER BY r.oid) AS members, fk.via, pg_catalog.to_jsonb(whole) ->> 'conperiod' = 'true' AS over_period, {rows_p} AS parent_rows, c.oid AS child_oid, n.nspname::text AS child_schema, c.relname::text AS child_name, fk.conname::text AS name, fk.confdeltype::text AS action,
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(fk.conkey) WITH ORDINALITY AS k(attnum, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = fk.conrelid AND a.attnum = k.attnum ORDER BY k.ord) AS columns,
        ARRAY(SELECT {indexed} FROM ROWS FROM (pg_catalog.unnest(whole.conkey), pg_catalog.unnest(whole.conpfeqop)) WITH ORDINALITY AS k (attnum, op, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = fk.conrelid AND a.attnum = k.attnum
            CROSS JOIN LATERAL (SELECT w.* FROM pg_catalog.pg_operator w WHERE w.oid = k.op OFFSET 0) AS o ORDER BY k.ord) AS served_by,
        {rows_c} AS child_rows, {bytes_c} AS child_bytes,
        NOT {without_index} AS indexed,
        fk.depth,
        ARRAY(SELECT mn.nspname::text || '.' || m.relname::text FROM {below} AS w
            CROSS JOIN LATERAL (SELECT r.* FROM pg_catalog.pg_class r WHERE r.oid = w.relid OFFSET 0) AS m
            JOIN pg_catalog.pg_namespace mn ON mn.oid = m.relnamespace) AS family,
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest({set_columns}) WITH ORDINALITY AS k(attnum, ord)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = fk.conrelid AND a.attnum = k.attnum ORDER BY k.ord) AS sets
    FROM fk JOIN pg_catalog.pg_constraint whole ON whole.oid = fk.oid
        JOIN pg_catalog.pg_class c ON c.oid = fk.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = fk.confrelid
    ORDER BY fk.root, fk.depth, fk.start, n.nspname, c.relname, fk.conname";

const TRIGGERS: &str = concat!(
    "SELECT t.tgrelid AS table_oid, t.tgname::text AS name, t.tgfoid::regproc::text AS function_name,
        pg_catalog.concat('trigger ', pg_catalog.quote_ident(t.tgname), ' of ', t.tgrelid::pg_catalog.regclass, ', which calls ',
            t.tgfoid::pg_catalog.regprocedure) AS definition_name,
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', {function}, t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid)), 0) AS definition
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    WHERE ((t.tgrelid = ANY ($1) AND t.tgtype & 8 <> 0) OR (t.tgrelid = ANY ($2) AND t.tgtype & 16 <> 0)) AND ",
    by_people!("t"),
    " AND t.tgenabled IN ('O', 'A')
    UNION ALL SELECT w.ev_class, w.rulename::text, NULL, pg_catalog.concat('rule ', pg_catalog.quote_ident(w.rulename), ' of ', w.ev_class::pg_catalog.regclass),
        pg_catalog.hashtextextended(pg_catalog.concat_ws('/', w.oid, w.ev_qual, w.ev_action), 0) FROM pg_catalog.pg_rewrite w
    WHERE ((w.ev_class = ANY ($1) AND w.ev_type = '4') OR (w.ev_class = ANY ($2) AND w.ev_type = '2')) AND w.ev_enabled IN ('O', 'A') ORDER BY table_oid, name"
);

/// Reads the foreign keys that deletes in these tables, and in their
/// partitions, have to look at.
pub(in crate::kinds::postgres) async fn foreign_keys(
    db: &Session,
    tables: impl Iterator<Item = &Table>,
) -> Result<Vec<ForeignKey>, EngineError> {
    // Somebody may point at a single partition.
    let pairs: HashSet<(u32, u32)> = tables
        .flat_map(|t| {
            let members = t.members.iter().map(|m| (t.oid, m.oid));
            members.chain(std::iter::once((t.oid, t.oid)))
        })
        .collect();
    let (roots, oids): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
    let doing = "looking whether foreign keys point here";
    let sql = POINTED_AT.replace("{with_ancestors}", &with_ancestors("o.oid"));
    let pointed_at = db.query(doing, &sql, &[&oids]).await?;
    if !each(&pointed_at, |row| row.named("pointed_at"))?.contains(&true) {
        return Ok(Vec::new());
    }
    // A partitioned table has what its partitions have. One look into the catalog's index for each, whatever the
    // planner knows of the catalog.
    let over_leaves = |alias: &str, what: &str| {
        format!(
            "(SELECT {what} FROM (SELECT {alias}.oid AS relid WHERE {alias}.relkind <> 'p'
                    UNION ALL SELECT w.relid FROM {} AS w WHERE {alias}.relkind = 'p') AS w
                CROSS JOIN LATERAL (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid = w.relid OFFSET 0) AS l)",
            tree(&format!("{alias}.oid"))
        )
    };
    let bytes = size_of("l");
    let rows = format!(
        "CASE WHEN pg_catalog.bool_or(l.relkind <> 'p' AND l.reltuples < 0 AND {bytes} > 0) THEN NULL
            ELSE coalesce(pg_catalog.sum(greatest(CASE WHEN l.relkind = 'p' THEN 0 ELSE l.reltuples END, 0)::float8), 0) END"
    );
    let sql = FOREIGN_KEYS
        .replace("{rows_p}", &over_leaves("p", &rows))
        .replace("{enforced}", &enforced(&db.server, "con"))
        .replace("{enforced_next}", &enforced(&db.server, "next"))
        .replace("{with_ancestors}", &with_ancestors("o.oid"))
        .replace("{above}", &with_ancestors("fk.conrelid"))
        .replace("{below}", &tree("fk.conrelid"))
        .replace("{without_index}", &without_index("whole"))
        .replace("{indexed}", &indexed())
        .replace("{set_columns}", set_columns(&db.server))
        .replace("{rows_c}", &over_leaves("c", &rows))
        .replace(
            "{bytes_c}",
            &over_leaves("c", &format!("coalesce(pg_catalog.sum({bytes}), 0)::int8")),
        );
    let rows = db
        .query("reading foreign keys", &sql, &[&roots, &oids])
        .await?;
    each(&rows, |row| {
        Ok(ForeignKey {
            root: row.named("root")?,
            members: row.named("members")?,
            via: row.named("via")?,
            over_period: row.named::<Option<bool>>("over_period")? == Some(true),
            parent_rows: row.named("parent_rows")?,
            child_oid: row.named("child_oid")?,
            child: row.relation("child_schema", "child_name")?,
            name: row.named("name")?,
            action: row.named("action")?,
            columns: row.named("columns")?,
            served_by: row.named("served_by")?,
            child_rows: row.named("child_rows")?,
            child_bytes: row.named("child_bytes")?,
            indexed: row.named("indexed")?,
            depth: row.named("depth")?,
            sets: row.named("sets")?,
            family: row.named("family")?,
        })
    })
}

/// The columns that a foreign key sets where it sets some; before PostgreSQL 15, all of them.
fn set_columns(server: &Server) -> &'static str {
    match server.major() >= 15 {
        true => {
            "coalesce((SELECT s.confdelsetcols FROM pg_catalog.pg_constraint s WHERE s.oid = fk.oid), fk.conkey)"
        }
        false => "fk.conkey",
    }
}

/// What becomes of the children of `victims` rows of `root`, and of theirs.
fn texts(all: &[ForeignKey], (root, member): (u32, u32), victims: f64) -> Vec<String> {
    // Rows expected to go, by table, where that can be known; parents come before their children.
    let mut going: HashMap<u32, Option<f64>> = HashMap::from([(root, Some(victims))]);
    let mut texts = Vec::new();
    for fk in all.iter().filter(|fk| fk.concerns(root, member)) {
        let each = fk.child_rows.zip(fk.parent_rows);
        let each = each.map(|(child, parent)| if parent > 0.0 { child / parent } else { 0.0 });
        let parents = match fk.depth {
            1 => Some(victims),
            _ => going.get(&fk.via).copied().unwrap_or(Some(0.0)),
        };
        let children = parents.zip(each).map(|(parents, each)| parents * each);
        if fk.action == "c" && fk.child_oid != root {
            let sum = going.entry(fk.child_oid).or_insert(Some(0.0));
            *sum = sum.zip(children).map(|(sum, more)| sum + more);
        }
        texts.push(fk.text(children));
    }
    texts
}

/// For the plan: what becomes of the children of `victims` rows of `member`, a part of `root`, and
/// which triggers fire. A saved plan is held to what is set off, whatever the numbers.
pub(in crate::kinds::postgres) fn announce(
    step: &mut Step,
    (foreign_keys, triggers): (&[ForeignKey], &[Trigger]),
    (root, member): (u32, u32),
    victims: f64,
) {
    step.details
        .extend(texts(foreign_keys, (root, member), victims));
    // Nobody has to name them.
    let told = |text: String| unreadable::escaped(&text).into_owned();
    let of_root = foreign_keys.iter().filter(|fk| fk.concerns(root, member));
    let changed = of_root.filter_map(ForeignKey::sets_off);
    step.body.sets_off.extend(changed.map(told));
    let below = foreign_keys.iter().filter(|fk| fk.concerns(root, member));
    let below: Vec<&ForeignKey> = below
        .filter(|fk| fk.action == "c" || fk.changes())
        .collect();
    for trigger in triggers {
        let child = below.iter().find(|fk| fk.child_oid == trigger.table);
        let of = match child {
            _ if trigger.table == member => String::new(),
            Some(fk) => format!(" of {}", fk.child),
            None => continue,
        };
        let fires = match &trigger.function {
            Some(function) => format!("fires the trigger {}{of} ({function})", trigger.name),
            None => format!("follows the rule {}{of}", trigger.name),
        };
        step.details.push(fires.clone());
        step.body.sets_off.push(told(fires));
        let (name, definition) = &trigger.definition;
        *step = step
            .clone()
            .relying_on_definition(*definition, unreadable::escaped(name));
    }
}

/// Reads the triggers and rules that deletes in these tables set off, and those of tables whose rows go or change
/// along.
pub(in crate::kinds::postgres) async fn triggers(
    db: &Session,
    tables: &[u32],
    foreign_keys: &[ForeignKey],
) -> Result<Vec<Trigger>, EngineError> {
    let below = foreign_keys.iter().filter(|fk| fk.action == "c");
    let mut tables = tables.to_vec();
    tables.extend(below.map(|fk| fk.child_oid));
    let changed = foreign_keys.iter().filter(|fk| fk.changes());
    let changed: Vec<u32> = changed.map(|fk| fk.child_oid).collect();
    let sql = TRIGGERS.replace("{function}", FUNCTION);
    let doing = "reading triggers";
    let rows = db.query(doing, &sql, &[&tables, &changed]).await?;
    each(&rows, |row| {
        Ok(Trigger {
            table: row.named("table_oid")?,
            name: row.named("name")?,
            function: row.named("function_name")?,
            definition: (row.named("definition_name")?, row.named("definition")?),
        })
    })
}

impl ForeignKey {
    /// Whether it points at rows of `member`, a part of `root`.
    pub(in crate::kinds::postgres) fn concerns(&self, root: u32, member: u32) -> bool {
        self.root == root && self.members.binary_search(&member).is_ok()
    }

    /// The tables, `schema.table`, whose rows go or change along with those of this one.
    pub(in crate::kinds::postgres) fn along(all: &[ForeignKey], root: u32) -> HashSet<String> {
        let of_root = all.iter().filter(|fk| fk.root == root);
        let along = of_root.filter(|fk| fk.action == "c" || fk.changes());
        along.flat_map(|fk| fk.family.iter().cloned()).collect()
    }

    /// Whether rows that point at what goes are changed: set to null, or to a default.
    fn changes(&self) -> bool {
        matches!(self.action.as_str(), "n" | "d")
    }

    /// What it changes elsewhere; nothing where it only refuses.
    pub(in crate::kinds::postgres) fn sets_off(&self) -> Option<String> {
        let (columns, sets) = (self.columns.join(", "), self.sets.join(", "));
        let what = match self.action.as_str() {
            "c" => "deletes rows of".to_owned(),
            "n" => format!("sets {sets} to null in"),
            "d" => format!("sets {sets} to its default in"),
            _ => return None,
        };
        Some(format!(
            "{what} {} ({columns}), by {}",
            self.child, self.name
        ))
    }

    fn text(&self, children: Option<f64>) -> String {
        let (columns, sets) = (self.columns.join(", "), self.sets.join(", "));
        let about = match children {
            Some(children) => format!("about {}", super::super::common::of_rows(children)),
            None => "rows (how many is not known before an ANALYZE)".to_owned(),
        };
        let what = match self.action.as_str() {
            "c" => format!("deletes {about} of"),
            "n" => format!("sets {sets} to null in {about} of"),
            "d" => format!("sets {sets} to its default in {about} of"),
            _ => "fails where there is a child in".to_owned(),
        };
        let index = if self.indexed {
            ""
        } else {
            ", reading all of it for each row: no index"
        };
        let turn = if self.depth > 1 { "in turn " } else { "" };
        format!("{turn}{what} {} ({columns}){index}", self.child)
    }

    /// What to do about the missing index.
    pub(in crate::kinds::postgres) fn finding(&self) -> Finding {
        Finding {
            code: "foreign_key.unindexed".to_owned(),
            severity: Severity::Warning,
            object: self.child.to_string(),
            message: format!(
                "no index supports the foreign key {}: for each deleted parent the server reads all {} of {}",
                self.name,
                super::size(self.child_bytes),
                self.child
            ),
            suggestion: Some(format!(
                "CREATE INDEX CONCURRENTLY ON {}{} ({})",
                self.child,
                if self.over_period { " USING gist" } else { "" },
                self.served_by.join(", ")
            )),
        }
    }
}
