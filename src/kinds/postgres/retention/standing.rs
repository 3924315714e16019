//! What a plan rests on that somebody may change before a step comes to it, in numbers that the server
//! works out again then: a number that differs ends the step.

use crate::engines::postgres::Server;
use crate::engines::postgres::catalog::with_ancestors;

/// The columns of a table: what they are called, and of which type they are.
const COLUMNS: &str = "pg_catalog.hashtextextended(coalesce((SELECT pg_catalog.string_agg(pg_catalog.concat_ws('/', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, a.attisdropped), ' ' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0), ''), 0)";

/// What a partition holds, and what would have a say if its rows were deleted instead of dropped: bounds,
/// triggers, rules, row security, publications. Foreign keys have theirs when it is detached.
const LEAVING: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws('/',
        (SELECT pg_catalog.pg_get_expr(c.relpartbound, 0) FROM pg_catalog.pg_class c WHERE c.oid = {oid}),
        (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', c.oid, c.relrowsecurity, c.relforcerowsecurity), ' ' ORDER BY c.oid)
            FROM pg_catalog.pg_class c WHERE c.oid IN {own}),
        't', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', t.oid, t.tgenabled, t.tgtype, t.tgargs, t.tgqual, f.prosrc, f.proconfig), ' ' ORDER BY t.oid)
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid WHERE t.tgrelid IN {own} AND t.tgtype & 8 <> 0),
        'r', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', r.oid, r.ev_enabled, r.ev_qual, r.ev_action), ' ' ORDER BY r.oid)
            FROM pg_catalog.pg_rewrite r WHERE r.ev_class IN {own} AND r.ev_type = '4'),
        'p', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(':', p.oid, p.polcmd, p.polqual), ' ' ORDER BY p.oid)
            FROM pg_catalog.pg_policy p WHERE p.polrelid IN {own}),
        'b', (SELECT pg_catalog.string_agg(b.oid::text, ' ' ORDER BY b.oid) FROM pg_catalog.pg_publication b
            WHERE b.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel l WHERE l.prpubid = b.oid AND l.prrelid IN {own}){schemas})), 0)";

/// A number for the columns of the table with this id.
pub(super) fn columns(oid: &str) -> String {
    COLUMNS.replace("{oid}", oid)
}

/// A number for all that decides whether a partition with this id may be dropped for its rows.
pub(super) fn leaving(oid: &str, server: &Server) -> String {
    let schemas = match server.major() >= 15 {
        true => {
            " OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class m ON m.relnamespace = s.pnnspid
                WHERE s.pnpubid = b.oid AND m.oid IN {own})"
        }
        false => "",
    };
    let sql = LEAVING.replace("{schemas}", schemas);
    sql.replace("{own}", &with_ancestors(oid))
        .replace("{oid}", oid)
}
