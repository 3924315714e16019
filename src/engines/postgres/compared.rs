//! How a foreign key compares: the server casts either side to what the key's operator takes, and so does
//! whoever asks the same in words of their own. Without the casts the parser would choose another operator, or none.

/// SQL for a text: what is written behind a column of the type `column` for an operator that takes `operand` there
/// (both are SQL for type ids): nothing, or `::schema.type`, with the name that the catalog has for it, because
/// `character`, as people write it, is one character long. An operator for any enum, array or range takes no domain
/// over one.
pub fn cast(operand: &str, column: &str) -> String {
    format!(
        "CASE WHEN {operand} = {column} THEN '' ELSE coalesce((WITH RECURSIVE plain (oid, below) AS (
                SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = {column}
                UNION ALL SELECT t.oid, t.typbasetype FROM plain JOIN pg_catalog.pg_type t ON t.oid = plain.below)
            SELECT pg_catalog.format('::%I.%I', tn.nspname, wanted.typname)
            FROM plain JOIN pg_catalog.pg_type taken ON taken.oid = {operand}
                JOIN pg_catalog.pg_type wanted ON wanted.oid = CASE taken.typtype WHEN 'p' THEN plain.oid ELSE taken.oid END
                JOIN pg_catalog.pg_namespace tn ON tn.oid = wanted.typnamespace
            WHERE plain.below = 0 AND wanted.oid <> {column}), '') END"
    )
}

/// SQL: whether the first expression of the index `x` (`pg_index`) is nothing but the column with this number of the
/// type `column`, cast to the type `operand` as the server casts it for a foreign key. It is read as it is stored,
/// because having the server write it down waits for whoever holds the table.
pub fn first_is_cast(number: &str, column: &str, operand: &str) -> String {
    let variable = format!(r"'\{{VAR [^{{}}]*:varattno ' || {number} || ' [^{{}}]*\}}'");
    format!(
        r"(x.indexprs::text ~ ('^\(\{{RELABELTYPE :arg ' || {variable} || ' :resulttype ' || {operand} || ' ')
            OR EXISTS (SELECT FROM pg_catalog.pg_cast w WHERE w.castsource = {column} AND w.casttarget = {operand} AND w.castfunc <> 0
                AND x.indexprs::text ~ ('^\(\{{FUNCEXPR :funcid ' || w.castfunc || ' [^{{}}]*:args \(' || {variable})))"
    )
}

/// SQL for a text: what an index has to have so that the server finds by the operator `o` (`pg_operator`) what refers
/// by the column `a` (`pg_attribute`): the column, or what it is cast to where an index of the column's own type knows
/// nothing of the operator.
pub fn indexed() -> String {
    let cast = cast("o.oprright", "a.atttypid");
    format!(
        "CASE WHEN (SELECT taken.typtype = 'p' FROM pg_catalog.pg_type taken WHERE taken.oid = o.oprright) OR EXISTS (
                WITH RECURSIVE plain (oid, below) AS (
                    SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
                    UNION ALL SELECT t.oid, t.typbasetype FROM plain JOIN pg_catalog.pg_type t ON t.oid = plain.below)
                SELECT FROM plain JOIN pg_catalog.pg_opclass oc ON oc.opcdefault
                        AND oc.opcintype IN (plain.oid, CASE plain.oid WHEN 'pg_catalog.varchar'::pg_catalog.regtype THEN 'pg_catalog.text'::pg_catalog.regtype END)
                    JOIN pg_catalog.pg_am m ON m.oid = oc.opcmethod AND m.amname IN ('btree', 'gist')
                    JOIN pg_catalog.pg_amop f ON f.amopfamily = oc.opcfamily AND f.amopopr = o.oprcom AND f.amoppurpose = 's'
                WHERE plain.below = 0)
            THEN pg_catalog.quote_ident(a.attname) ELSE '(' || pg_catalog.quote_ident(a.attname) || {cast} || ')' END"
    )
}
