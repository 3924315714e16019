//! How a child's columns are compared with its parent's: as the foreign key
//! between them does, or else as the parent's type says what equal means.
//! Which operator `=` would find depends on a search path, and on a cast from
//! citext to text that makes two names out of one.

use std::collections::{BTreeMap, HashMap};

use super::facts::Table;
use super::rule::{CHILD, Orphaned, PARENT, Rule};
use crate::engines::EngineError;
use crate::engines::postgres::trust::Guard;
use crate::engines::postgres::{Identifier, RelationName, Session};

/// What is known of the parent that a rule names.
#[derive(Clone, Debug, Default)]
pub(super) struct Parent {
    /// None where there is no such table.
    pub(super) oid: Option<u32>,
    /// One comparison for each column, with [`PARENT`] and [`CHILD`] for the
    /// tables; or why there is none.
    pub(super) equal: Vec<Result<String, String>>,
    /// The numbers of its columns, in the same order.
    pub(super) numbers: Vec<i16>,
    /// Whether it has a row at all; unknown where nobody could look.
    pub(super) any: Option<bool>,
}

/// For each pair of columns, in order: the types, and the best operator there
/// is, with what either side is cast to, where it is. A foreign key over the very same
/// columns comes first; then an operator for the two types as they are, out
/// of the family that the parent's type, or the child's, calls its default;
/// then one of those for which the other side is cast, as the server itself
/// would do for a foreign key, or where both are the same bytes.
const EQUAL: &str = "WITH RECURSIVE wanted AS (
        SELECT one.nth, (one.nth - 1) * pg_catalog.cardinality($4::text[]) + w.place AS place, p.oid AS parent,
            a.attname AS parent_column, a.atttypid AS parent_type, a.attcollation, f.attcollation AS child_collation,
            f.attname AS child_column, f.atttypid AS child_type, a.attnum AS parent_num, f.attnum AS child_num, one.child
        FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS one(child, schema, nth)
            JOIN pg_catalog.pg_namespace pn ON pn.nspname::text = one.schema JOIN pg_catalog.pg_class p ON p.relnamespace = pn.oid
            CROSS JOIN ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[])) WITH ORDINALITY AS w(child_name, parent_name, place)
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.oid AND a.attname::text = w.parent_name AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_catalog.pg_attribute f ON f.attrelid = one.child AND f.attname::text = w.child_name AND f.attnum > 0 AND NOT f.attisdropped
        WHERE p.relname::text = $3::text AND p.relkind IN ('r', 'p', 'm', 'v', 'f')
    ), base(place, side, oid, below) AS (
        SELECT w.place, s.side, t.oid, t.typbasetype FROM wanted w
            CROSS JOIN LATERAL (VALUES ('p', w.parent_type), ('c', w.child_type)) AS s(side, type)
            JOIN pg_catalog.pg_type t ON t.oid = s.type
        UNION ALL SELECT b.place, b.side, t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below
    ), typed AS (
        -- varchar, enums, arrays and ranges have the operators of what they pass for.
        SELECT w.*, p.oid AS p, c.oid AS c, p.passes AS p_passes, c.passes AS c_passes FROM wanted w
            LEFT JOIN passing p ON p.place = w.place AND p.side = 'p'
            LEFT JOIN passing c ON c.place = w.place AND c.side = 'c'
    ), passing AS (
        SELECT b.place, b.side, b.oid, CASE
                WHEN b.oid = 'varchar'::pg_catalog.regtype THEN 'text'::pg_catalog.regtype
                WHEN ty.typtype = 'e' THEN 'anyenum'::pg_catalog.regtype
                WHEN ty.typtype = 'r' THEN 'anyrange'::pg_catalog.regtype
                WHEN ty.typtype = 'm' THEN 'anymultirange'::pg_catalog.regtype
                WHEN ty.typtype = 'c' THEN 'record'::pg_catalog.regtype
                WHEN ty.typcategory = 'A' AND ty.typelem <> 0 THEN 'anyarray'::pg_catalog.regtype
                ELSE b.oid END AS passes
        FROM base b JOIN pg_catalog.pg_type ty ON ty.oid = b.oid WHERE b.below = 0
    ), family AS (
        SELECT t.place, s.side, oc.opcfamily, am.amname
        FROM typed t CROSS JOIN LATERAL (VALUES (0, t.p_passes), (1, t.c_passes)) AS s(side, type)
            JOIN pg_catalog.pg_opclass oc ON oc.opcdefault AND oc.opcintype = s.type
            JOIN pg_catalog.pg_am am ON am.oid = oc.opcmethod AND am.amname IN ('btree', 'hash')
    ), candidate AS (
        SELECT t.place, e.op, 0 AS worth, NULLIF(by.oprleft, t.p_passes) AS p_as, NULLIF(by.oprright, t.c_passes) AS c_as
        FROM typed t JOIN pg_catalog.pg_constraint k ON k.contype = 'f' AND k.conrelid = t.child AND k.confrelid = t.parent
            CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) AS e(child_num, parent_num, op)
            JOIN pg_catalog.pg_operator by ON by.oid = e.op
        WHERE e.child_num = t.child_num AND e.parent_num = t.parent_num
            AND pg_catalog.cardinality(k.conkey) = pg_catalog.cardinality($4::text[])
        UNION ALL
        SELECT t.place, o.amopopr, 1 + f.side + CASE f.amname WHEN 'btree' THEN 0 ELSE 2 END + CASE WHEN fits.p AND fits.c THEN 0 ELSE 4 END,
            CASE WHEN NOT fits.p THEN o.amoplefttype END, CASE WHEN NOT fits.c THEN o.amoprighttype END
        FROM typed t JOIN family f ON f.place = t.place
            JOIN pg_catalog.pg_amop o ON o.amopfamily = f.opcfamily AND o.amoppurpose = 's'
                AND o.amopstrategy = CASE f.amname WHEN 'btree' THEN 3 ELSE 1 END
            CROSS JOIN LATERAL (SELECT o.amoplefttype = t.p_passes AS p, o.amoprighttype = t.c_passes AS c) fits
        WHERE (fits.p OR fits.c)
            -- An enum, an array or a range equals only its like.
            AND (t.p = t.c OR (t.p_passes IN (t.p, 'text'::pg_catalog.regtype) AND t.c_passes IN (t.c, 'text'::pg_catalog.regtype)))
            AND (fits.p AND fits.c OR (o.amoplefttype = o.amoprighttype AND EXISTS (SELECT FROM pg_catalog.pg_cast x
                WHERE (x.castcontext = 'i' OR x.castmethod = 'b') AND x.casttarget = o.amoplefttype
                    AND x.castsource = CASE WHEN fits.p THEN t.c ELSE t.p END)))
    ), other AS (
        SELECT DISTINCT ON (t.place) t.place, o.amopopr AS op, CASE WHEN NOT fits.p THEN o.amoplefttype END AS p_as, CASE WHEN NOT fits.c THEN o.amoprighttype END AS c_as
        FROM typed t JOIN family f ON f.place = t.place AND f.amname = 'btree'
            JOIN pg_catalog.pg_amop o ON o.amopfamily = f.opcfamily AND o.amoppurpose = 's' AND o.amopstrategy = 3
                AND o.amoplefttype = o.amoprighttype AND o.amoplefttype >= 16384
            CROSS JOIN LATERAL (SELECT o.amoplefttype = t.p_passes AS p, o.amoprighttype = t.c_passes AS c) fits
        WHERE fits.p <> fits.c AND EXISTS (SELECT FROM pg_catalog.pg_cast x
            WHERE x.casttarget = o.amoplefttype AND x.castsource = CASE WHEN fits.p THEN t.c ELSE t.p END)
        ORDER BY t.place, f.side
    )
    SELECT t.parent, t.parent_column::text AS parent_column, t.child_column::text AS child_column,
        pg_catalog.format_type(t.parent_type, NULL) AS parent_type, pg_catalog.format_type(t.child_type, NULL) AS child_type,
        b.operator,
        -- An operator for any enum takes no domain over one.
        coalesce(b.p_as, CASE WHEN t.p_passes = 'anyenum'::pg_catalog.regtype AND t.parent_type <> t.p THEN (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname)
            FROM pg_catalog.pg_type x JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = t.p) END) AS parent_as,
        coalesce(b.c_as, CASE WHEN t.c_passes = 'anyenum'::pg_catalog.regtype AND t.child_type <> t.c THEN (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname)
            FROM pg_catalog.pg_type x JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = t.c) END) AS child_as,
        (SELECT pg_catalog.format('%I.%I', cn.nspname, co.collname) FROM pg_catalog.pg_collation co
            JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = t.attcollation) AS collation,
        -- Where one of the two takes for equal what the other does not, queries may go by either; but for a foreign key, which has its rule.
        (SELECT pg_catalog.format('%I.%I', cn.nspname, co.collname) FROM pg_catalog.pg_collation co
            JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = t.child_collation AND co.oid <> t.attcollation AND b.worth > 0
                AND EXISTS (SELECT FROM pg_catalog.pg_collation e WHERE e.oid IN (t.attcollation, t.child_collation) AND NOT e.collisdeterministic)) AS other_collation,
        -- A type that an extension or people brought may take for equal what those that it is cast to do not.
        (SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_catalog.pg_operator o
            JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = also.op) AS other_operator,
        (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname) FROM pg_catalog.pg_type x
            JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = also.p_as) AS other_parent_as,
        (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname) FROM pg_catalog.pg_type x
            JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = also.c_as) AS other_child_as,
        -- Of such a key (18 on) the last column is a period, and a child is none's where no periods of its parent cover its own.
        b.worth > 0 AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = t.parent AND k.contype IN ('p', 'u')
            AND pg_catalog.to_jsonb(k) ->> 'conperiod' = 'true' AND k.conkey[pg_catalog.array_upper(k.conkey, 1)] = t.parent_num) AS of_period,
        t.parent_num AS parent_number, t.nth
    FROM typed t LEFT JOIN LATERAL (
        -- By its name in the catalog: as people write it, `character` is one character long.
        SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) AS operator, c.worth, c.op,
            (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname) FROM pg_catalog.pg_type x
                JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = c.p_as) AS p_as,
            (SELECT pg_catalog.format('%I.%I', tn.nspname, x.typname) FROM pg_catalog.pg_type x
                JOIN pg_catalog.pg_namespace tn ON tn.oid = x.typnamespace WHERE x.oid = c.c_as) AS c_as
        FROM candidate c JOIN pg_catalog.pg_operator o ON o.oid = c.op JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE c.place = t.place ORDER BY c.worth, o.oid LIMIT 1) b ON true
        LEFT JOIN other also ON also.place = t.place AND also.op <> b.op AND b.worth > 4
    ORDER BY t.place";

/// Reads how the parents of rules are compared with that differ in nothing but schemas; in their order.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub(super) async fn read(
    db: &Session,
    asked: &[(&mut Rule, &Table)],
    guard: Option<&Guard>,
) -> Result<Vec<Parent>, EngineError> {
    let doing = "reading how orphans are told";
    let mut parents = vec![Parent::default(); asked.len()];
    let orphaned = |(rule, _): &(&mut Rule, &Table)| rule.orphaned.clone();
    let all: Option<Vec<Orphaned>> = asked.iter().map(orphaned).collect();
    let Some((all, first)) = all.and_then(|all| Some((all.clone(), all.into_iter().next()?)))
    else {
        return Ok(parents);
    };
    let children: Vec<u32> = asked.iter().map(|(_, table)| table.oid).collect();
    let schemas: Vec<&str> = all.iter().map(|o| o.parent.schema.as_str()).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
        &children,
        &schemas,
        &first.parent.table,
        &first.columns,
        &first.parent_columns,
    ];
    for row in &db.query(doing, EQUAL, &params).await? {
        let nth = usize::try_from(row.named::<i64>("nth")? - 1).unwrap_or(usize::MAX);
        let (Some(parent), Some(orphaned)) = (parents.get_mut(nth), all.get(nth)) else {
            continue;
        };
        parent.oid = Some(row.named("parent")?);
        let text = |column: &str| row.named::<Option<String>>(column);
        let of = &orphaned.parent;
        let (Some(parent_column), Some(child_column)) =
            (text("parent_column")?, text("child_column")?)
        else {
            let missing = orphaned.parent_columns.get(parent.equal.len());
            let missing = missing.map(String::as_str).unwrap_or_default();
            parent
                .equal
                .push(Err(format!("{of} has no column `{missing}`")));
            continue;
        };
        let (parent_type, child_type) = (
            text("parent_type")?.unwrap_or_default(),
            text("child_type")?.unwrap_or_default(),
        );
        let Some(operator) = text("operator")? else {
            parent.equal.push(Err(format!(
                "nothing says when `{child_column}` ({child_type}) equals `{parent_column}` of {of} ({parent_type})"
            )));
            continue;
        };
        if row.named::<Option<bool>>("of_period")? == Some(true) {
            parent.equal.push(Err(format!(
                "`{parent_column}` of {of} is the period of a key WITHOUT OVERLAPS, and who has a parent is told by whether periods cover `{child_column}`, not by whether one equals it: declare the foreign key (NOT VALID will do)"
            )));
            continue;
        }
        parent.numbers.push(row.named("parent_number")?);
        let cast = |to: Option<String>| to.map(|to| format!("::{to}")).unwrap_or_default();
        let (parent_as, child_as) = (cast(text("parent_as")?), cast(text("child_as")?));
        let (of_parent, of_child) = (
            Identifier::new(parent_column),
            Identifier::new(child_column),
        );
        let equal = |parent_as: &str, operator: &str, child_as: &str, collation: Option<String>| {
            let collation = collation.map(|one| format!(" COLLATE {one}"));
            format!(
                "{PARENT}.{of_parent}{parent_as} {operator} {CHILD}.{of_child}{child_as}{}",
                collation.unwrap_or_default()
            )
        };
        // As the key of the parent tells its rows apart; an orphan is only who is one by the child's collation, and by
        // the type that is cast, too.
        let mut ways = vec![equal(&parent_as, &operator, &child_as, text("collation")?)];
        if let Some(other) = text("other_collation")? {
            ways.push(equal(&parent_as, &operator, &child_as, Some(other)));
        }
        if let Some(operator) = text("other_operator")? {
            let (parent_as, child_as) = (
                cast(text("other_parent_as")?),
                cast(text("other_child_as")?),
            );
            ways.push(equal(&parent_as, &operator, &child_as, None));
        }
        parent.equal.push(Ok(match ways.as_slice() {
            [one] => one.clone(),
            several => format!("({})", several.join(" OR ")),
        }));
    }
    let there = parents.iter().zip(&all).filter_map(|(parent, orphaned)| {
        let name = RelationName::new(&*orphaned.parent.schema, &*orphaned.parent.table);
        Some((parent.oid?, name.to_string()))
    });
    let there: BTreeMap<u32, String> = there.collect();
    let any = any(db, &there, guard).await?;
    for parent in &mut parents {
        parent.any = parent.oid.and_then(|oid| any.get(&oid).copied());
    }
    Ok(parents)
}

/// Which of these tables have a row; those are missing that nobody may look at, or somebody holds.
async fn any(
    db: &Session,
    tables: &BTreeMap<u32, String>,
    guard: Option<&Guard>,
) -> Result<HashMap<u32, bool>, EngineError> {
    let begin = "BEGIN READ ONLY; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '20s'; SET LOCAL row_security = off";
    let doing = "looking whether the parent has rows";
    let all: Vec<(u32, &str)> = tables.iter().map(|(oid, name)| (*oid, &**name)).collect();
    let mut known = HashMap::new();
    let mut waiting: Vec<&[(u32, &str)]> = vec![&all];
    while let Some(some) = waiting.pop() {
        if some.is_empty() {
            continue;
        }
        db.execute(doing, begin).await?;
        let arms: Vec<String> = some
            .iter()
            .map(|(oid, table)| format!("SELECT {oid}::oid, EXISTS (SELECT FROM {table})"))
            .collect();
        let answer = match guard {
            Some(guard) => guard.take(db).await,
            None => Ok(()),
        };
        let answer = match answer {
            Ok(()) => db.query(doing, &arms.join(" UNION ALL "), &[]).await,
            Err(EngineError::UntrustedCode { .. } | EngineError::NotVisible { .. }) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        };
        db.execute(doing, "ROLLBACK").await?;
        match answer {
            Ok(rows) => {
                for row in rows {
                    known.insert(row.get(0)?, row.get(1)?);
                }
            }
            // One of them is held, or hidden.
            Err(error) if error.sqlstate().is_some() => {
                let (one, others) = some.split_at(some.len() / 2);
                if some.len() > 1 {
                    waiting.extend([one, others]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}
