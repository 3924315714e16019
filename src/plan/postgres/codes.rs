//! What the codes of findings that only PostgreSQL has mean.

use crate::plan::code::{Code, Keeps, code};

/// By name.
pub(in crate::plan) const FINDINGS: &[Code] = &[
    code(
        "amcheck.ambiguous",
        "A function of somebody's beside one of amcheck takes the same arguments, with defaults for more: the server calls neither.",
        "Damage that this function of amcheck would find is not found.",
        "CREATE SCHEMA amcheck; ALTER EXTENSION amcheck SET SCHEMA amcheck; or give the other function another schema.",
    ),
    code(
        "amcheck.missing",
        "The extension amcheck is not installed in this database.",
        "Damaged tables and indexes cannot be found before a query fails on them.",
        "CREATE EXTENSION amcheck; and GRANT EXECUTE on its functions to the role.",
    )
    .keeps(Keeps::FromSome),
    code(
        "amcheck.outdated",
        "amcheck is older than the server.",
        "Newer checks are not made.",
        "ALTER EXTENSION amcheck UPDATE.",
    ),
    code(
        "archive.lost_there",
        "The database that rows were archived into does not have the last ones any more: its server, the database or the table there was replaced, set back, or the server started anew and perhaps set back.",
        "Rows may be lost: they had left the table that they came from.",
        "Look for them in a backup, or in the server that was replaced, before it is gone.",
    ),
    code(
        "archive.other_name",
        "Rows of this table were archived under a target name that is not configured any more, from this database or one that it is a copy of.",
        "Those archives are left alone: batches that were interrupted wait, and rows that are in the table again are archived again.",
        "If it is the same database, say so: `maint archive adopt OLD --target NEW`. If it is a copy, do nothing.",
    ),
    code(
        "archive.unclear",
        "The server, the database or the table was replaced or set back since rows of this table were archived, and whether the last of them are in it again, changed since, cannot be told: it has no key, or gives the same keys to other rows.",
        "Rows that are there again with other values are archived once more, beside what was archived of them.",
        "Compare the newest archive with the table, and give the table a primary key.",
    ),
    code(
        "archive.undone",
        "Rows that had been archived are in their table again: a failover or a restore of the server, the database or the table has lost that they had left.",
        "What was archived of them was removed, so that nothing is kept twice, and they are archived anew.",
        "See what else was written in that time; nothing remains to be done for the archive.",
    ),
    code(
        "autovacuum.behind",
        "Many more rows are dead than autovacuum begins at.",
        "It comes too late, or is too slow for what changes: the table grows, and scans read dead rows.",
        "The suggestion: fewer pauses for this table, or more workers.",
    ),
    code(
        "autovacuum.disabled",
        "Autovacuum is switched off for a table.",
        "Its dead rows stay, its statistics age, and freezing is left to the forced vacuum before wraparound.",
        "Switch it on again, or see that a vacuum task covers the table.",
    ),
    code(
        "autovacuum.rare",
        "A tenth of a table or more is dead, and autovacuum waits for more.",
        "Its default begins at a fifth of the rows: of a large table that is much, and the file never shrinks by itself.",
        "Let it begin earlier for this table, as the suggestion says.",
    ),
    code(
        "cache.hit_ratio",
        "Fewer reads than usual are answered from shared memory.",
        "Queries wait for the disk.",
        "Look for new large scans in the slow statements; then at shared_buffers.",
    ),
    code(
        "changes.uncounted",
        "Roles or sessions whose `track_counts` is off change tables, and nobody counts what.",
        "Neither autovacuum nor `analyze` nor `vacuum` can tell when such a table needs work: it bloats, and plans are made from old statistics, while all seems well.",
        "Take the setting back, as the suggestion says, or run ANALYZE and VACUUM behind what is loaded that way (`kind: sql`).",
    ),
    code(
        "checksum.failures",
        "The server has read pages whose checksum is wrong.",
        "The storage damages data.",
        "Look at disk and controller now; fail over, or restore the files named in the server's log.",
    ),
    code(
        "cleanup.row_security",
        "Row security hides rows from the role, or guards the table.",
        "Rows that nobody may see are not deleted, and what is hidden cannot be proved absent.",
        "Use the owner of the table, or a role with BYPASSRLS, where that is intended.",
    )
    .keeps(Keeps::FromAll),
    code(
        "collation.version",
        "The operating system sorts text differently from when indexes were built.",
        "Indexes over text may miss rows and let duplicates in.",
        "REINDEX the indexes named, then ALTER COLLATION … REFRESH VERSION.",
    ),
    code(
        "connections.idle_in_transaction",
        "Sessions sit in open transactions without working.",
        "They hold locks and keep dead rows from being removed.",
        "Find the application; set idle_in_transaction_session_timeout.",
    ),
    code(
        "constraint.not_looked_at",
        "A constraint of which no row was looked at: it is NOT ENFORCED, an exclusion, or a key WITHOUT OVERLAPS.",
        "Whether rows break it is not known.",
        "Ask for such rows with one of `queries`; have the server enforce what is NOT ENFORCED.",
    ),
    code(
        "constraint.not_valid",
        "A constraint was added NOT VALID and never validated.",
        "Old rows may break it, and the planner does not use it.",
        "ALTER TABLE … VALIDATE CONSTRAINT …",
    ),
    code(
        "constraint.violated",
        "Rows break a constraint.",
        "Data is not what the application was promised.",
        "Look at the rows with the query in the message; correct them, then validate.",
    ),
    code(
        "corruption.data",
        "amcheck or the server found damage in a table.",
        "Rows may be unreadable or wrong.",
        "Stop writing to it; take a copy of the files; restore from a backup or a replica.",
    ),
    code(
        "corruption.file",
        "A file of a relation cannot be read.",
        "Everything that needs it fails.",
        "Look at the storage; restore the file from a backup or fail over.",
    ),
    code(
        "corruption.index",
        "An index does not agree with its table, or is damaged.",
        "Queries through it may miss rows.",
        "REINDEX INDEX CONCURRENTLY, after finding out why: storage, collation, a server bug.",
    ),
    code(
        "disk.growth",
        "The database grows faster than before.",
        "The disk will be full earlier than planned.",
        "See which tables grow (`maint report`); set a retention for them.",
    ),
    code(
        "extension.missing",
        "An extension that the task needs is not installed.",
        "What it is for is not done.",
        "The suggestion is the CREATE EXTENSION.",
    )
    .keeps(Keeps::FromSome),
    code(
        "foreign.unreachable",
        "Statistics of a table as a whole were not gathered, or rows were not checked, because a table on another server below it cannot be read.",
        "The planner goes on with the old statistics, or with none, and nothing is known of those rows. What this server has of the table is dealt with all the same.",
        "See why that server, or that file, cannot be reached; or detach the foreign partition.",
    ),
    code(
        "foreign_key.orphans",
        "Rows refer to parents that do not exist.",
        "A foreign key does not hold: it was switched off, or is damaged.",
        "Look at the rows; delete or mend them; then see how they came in.",
    ),
    code(
        "foreign_key.unindexed",
        "No index helps to find the rows that refer to a parent.",
        "Each deleted parent reads the whole table.",
        "The suggestion is the CREATE INDEX CONCURRENTLY.",
    ),
    code(
        "freeze.age",
        "Transaction ids have not been frozen for long.",
        "At two thousand million the server stops taking writes.",
        "VACUUM (FREEZE) the table; see what holds the horizon: old transactions, slots, prepared transactions.",
    ),
    code(
        "index.bloat",
        "Much of an index is empty space.",
        "It takes disk and memory, and scans read more.",
        "`maint run reindex --now`, or REINDEX INDEX CONCURRENTLY.",
    ),
    code(
        "index.duplicate_keys",
        "A unique index holds a key twice.",
        "The index is damaged, usually by a changed collation.",
        "Remove one of the rows, then REINDEX; see `collation.version`.",
    ),
    code(
        "index.invalid",
        "An index was not built to its end.",
        "It costs writes and serves no query.",
        "`maint run reindex --now` removes leftovers it can prove; else DROP INDEX CONCURRENTLY.",
    ),
    code(
        "index.missing_foreign_key",
        "A foreign key has no index.",
        "Deleting a parent reads the whole table.",
        "The suggestion is the CREATE INDEX CONCURRENTLY.",
    ),
    code(
        "integrity.no_replica",
        "Heavy checks were meant for a replica, and there is none.",
        "They ran on the primary, or not at all.",
        "Set `replicas` of the target.",
    ),
    code(
        "integrity.not_again",
        "Objects were found in order a short while ago, and are not looked at again.",
        "Damage since then is not found by this run.",
        "`--set recheck_after=0s` looks again.",
    ),
    code(
        "partitions.besides",
        "The newest partition has triggers, rules, checks, foreign keys, defaults or statistics of its own that the table itself has not.",
        "A new partition is made without them: its rows are not checked or written down as those of its siblings are.",
        "Give them to the table itself, where they are meant for all; else run the statements of the suggestion for the new partition.",
    ),
    code(
        "partitions.catch_all",
        "A partition takes every value from somewhere in the periods asked for to the end, or for ever so long.",
        "No partition is ever made for them, and none of its rows is ever retired.",
        "Detach it, let the task make the partitions, and move its rows into the table. A DEFAULT partition takes what no other does.",
    ),
    code(
        "partitions.default_in_the_way",
        "Rows in the default partition belong into one that is to be made.",
        "The partition cannot be made.",
        "`move_default: true`, or move them by hand.",
    )
    .keeps(Keeps::FromAll),
    code(
        "partitions.default_large",
        "The default partition is too large to move rows out of without being noticed.",
        "New partitions cannot be attached quickly.",
        "Move its rows in a quiet hour.",
    ),
    code(
        "partitions.default_rows",
        "Rows are in the default partition.",
        "They are in no month, and are never pruned.",
        "Find out why; move them.",
    ),
    code(
        "partitions.depended_on",
        "Something depends on a partition that is to be dropped: a view, a foreign key, a function with its row type.",
        "The server would refuse to drop it. It is not detached before that, so its rows stay in the table.",
        "Drop what depends on it, or keep the partition: `maint show RUN` names them.",
    ),
    code(
        "partitions.doubted",
        "A partition is over by its bounds, and has rows whose key tells no age: UUIDs of another version than 7, or times before 1980, such as -infinity, 0001-01-01, 1970-01-01 and zero.",
        "Nobody can tell how old those are: it stays, with all its rows, until they are gone from it.",
        "The suggestion shows them: move them elsewhere, or delete them.",
    ),
    code(
        "partitions.forgotten",
        "What was detached waits to be dropped or archived, and its table is called something else by now.",
        "Nobody goes on with it: it keeps its space, and its rows are in no table.",
        "List the table under its new name in a task of the kind that detached it, or drop it by hand.",
    ),
    code(
        "partitions.gap",
        "Between two partitions there is a range without one.",
        "Rows of that range fail or go into the default partition.",
        "`maint run partitions --now` makes it where it can.",
    ),
    code(
        "partitions.name_taken",
        "A partition is to be kept in another schema, and there is something of its name, or of the name of an index of it, already.",
        "It cannot be moved, and is not detached: its rows stay in the table.",
        "Rename or move one of the two; the message names what is in the way.",
    ),
    code(
        "partitions.no_schema",
        "The schema for new partitions does not exist.",
        "None are made.",
        "CREATE SCHEMA, or mend the task.",
    )
    .keeps(Keeps::FromAll),
    code(
        "partitions.outside",
        "A partition was detached, or begun to be, and does not go on its way: today's rule keeps it, it could not be dropped, or somebody holds its detachment up.",
        "Its rows are not in the table: whoever asks that does not find them.",
        "Where it waited for somebody, the message names who that was: end that (`ROLLBACK PREPARED`, an open transaction), and the next run finishes it. The suggestion attaches it again; then it is judged like any other. Where its rows are not wanted, drop it by hand.",
    ),
    code(
        "partitions.pending",
        "Somebody began to detach a partition concurrently, and did not finish.",
        "Its rows are not seen through the table, and no other partition can be detached concurrently.",
        "The suggestion finishes it; attach it again where its rows are wanted.",
    ),
    code(
        "partitions.publication",
        "A new partition could not be added to a publication.",
        "Its rows are not replicated.",
        "The suggestion, as the owner of the publication.",
    ),
    code(
        "partitions.referenced",
        "A foreign key points at the table.",
        "A partition cannot be detached without checking all who refer to it.",
        "Drop the key, or keep the partitions.",
    ),
    code(
        "partitions.subscribers",
        "New partitions of a table that is followed by logical replication.",
        "The first row of a partition that a subscriber does not have stops its subscription, and with it the replication of all tables; where it has the table and has not been told, it takes none of its rows and says nothing.",
        "Before rows come, make a table of that name at each subscriber, and run ALTER SUBSCRIPTION … REFRESH PUBLICATION there. A publication with `publish_via_partition_root` needs none of that.",
    ),
    code(
        "partitions.table_ends",
        "Partitions are asked for beyond the bounds of the table, which is a part of another itself.",
        "They are not made: no row would come into them.",
        "Make a table beside it for that time, partitioned as it is, and name it in `tables`.",
    ),
    code(
        "partitions.tablespace",
        "New partitions are not in the tablespace of their siblings.",
        "The role of maint may create nothing there; the disk meant for other data fills up.",
        "Run the GRANT of the finding; move the new partitions with ALTER TABLE ... SET TABLESPACE.",
    ),
    code(
        "partitions.time_zone",
        "The existing partitions begin at midnight in another time zone than the task's; or not at midnight, where the column has no time zone.",
        "New ones would overlap or leave gaps, so nothing is created.",
        "Say with `time_zone` which is meant; without a time zone, make one partition that ends at midnight.",
    )
    .keeps(Keeps::FromAll),
    code(
        "partitions.type_ends",
        "Partitions are asked for beyond the last number of the key's type.",
        "Rows cannot be later than that, whatever partitions there are: an `integer` that counts seconds ends in 2038.",
        "The message says when that is. A key of partitions cannot be altered: a new table with a `bigint` key, and the rows moved to it.",
    ),
    code(
        "partitions.unknown_mark",
        "The comment of a table says that maint detached it, and the history does not know of that.",
        "It is neither dropped nor archived: whoever owns a table can write such a comment.",
        "Attach it again, drop it by hand, or take the comment away. After a change of the history, or of a version that did not remember yet, this is how you find what was still to go.",
    ),
    code(
        "partitions.unsuitable",
        "The table is not partitioned in a way that this kind understands.",
        "Nothing is made or pruned.",
        "The message says what is understood.",
    )
    .keeps(Keeps::FromAll),
    code(
        "publication.new_table",
        "A table that is to be made would be published at once (FOR ALL TABLES, or TABLES IN SCHEMA).",
        "It is not made: subscribers without it would stop at its first row, with all other tables.",
        "Make it by hand, here and at the subscribers, and have them run `ALTER SUBSCRIPTION … REFRESH PUBLICATION`; or name a table of another database.",
    ),
    code(
        "publication.refuses",
        "A publication has the server refuse to delete any row of a table.",
        "None of its rows go, though they meet the rule: subscribers could not be told which row went.",
        "Give the table a primary key or a replica identity (`ALTER TABLE … REPLICA IDENTITY FULL`, which does for a row filter too), or publish no deletes.",
    )
    .keeps(Keeps::FromAll),
    code(
        "query.refused",
        "A query of yours was not asked.",
        "What it was to find out is not known.",
        "The finding says why; correct the query, or grant what it needs.",
    )
    .keeps(Keeps::FromAll),
    code(
        "query.rows",
        "A query of yours returned rows.",
        "It was written to return none where all is well.",
        "Look at the rows.",
    ),
    code(
        "replica.held_back",
        "A replica is far behind the primary: its replay is paused, delayed or slow.",
        "What is found there is so of an earlier state, and nothing was checked there.",
        "Let it go on (`pg_wal_replay_resume()`, `recovery_min_apply_delay`), or take it out of `replicas` of the target.",
    ),
    code(
        "replica.not_a_standby",
        "What is configured as a replica is none.",
        "Its lag means nothing, and checks meant for it load a primary.",
        "Mend `replicas` of the target.",
    ),
    code(
        "replica.unreachable",
        "A replica could not be looked at.",
        "Its lag is not known.",
        "See whether it runs; its URL is in `replicas`.",
    )
    .keeps(Keeps::FromAll),
    code(
        "replication.slot",
        "A slot holds back write-ahead log, or is inactive.",
        "The disk of the primary fills up.",
        "Start its consumer again, or drop the slot.",
    ),
    code(
        "role.login_trigger",
        "A login trigger calls code of somebody whom nobody has declared trusted.",
        "It runs with our rights in every session, before anything can be asked: its owner may become whoever we are.",
        "As a superuser, give the function an owner who is trusted, or disable the trigger; look at what it did.",
    ),
    code(
        "role.untrusted_code",
        "Code of somebody whom nobody has declared trusted would run with our rights.",
        "Its owner could become whoever we are.",
        "List the owner in `trust_owners`, or use a role with fewer rights; see docs/security.md.",
    )
    .keeps(Keeps::FromAll),
    code(
        "rows.doubted",
        "A column of times holds some before 1980, such as -infinity, 0001-01-01 or 1970-01-01, or zero and less where they are numbers.",
        "Standing for never, or written in another unit, they would pass for old. They stay, and the others go.",
        "The suggestion shows them; give them no value where there is no time, or write numbers anew in the unit that `epoch` says. A rule with a `where` for them and without `column` takes them.",
    ),
    code(
        "rows.foreign",
        "A part of the table is a foreign table, and may hold rows that meet the rule.",
        "They stay: only what this server holds is deleted or archived.",
        "Give the server that holds them a task of its own, or detach the foreign table.",
    ),
    code(
        "rows.locked",
        "Rows meet the rule, and somebody has locked them for longer than `lock_timeout` and its retries.",
        "The other rows went. A forgotten prepared transaction keeps its locks for ever, over restarts too.",
        "End who holds them: the finding names them where they were seen. The next run takes the rows.",
    ),
    code(
        "rows.referenced",
        "Rows meet the rule and stay, because rows that stay point at them.",
        "They are looked at again in every run and never go.",
        "Archive or delete the rows that point at them first, with a rule of their own.",
    ),
    code(
        "rows.refused",
        "Rows meet the rule and refused to go.",
        "A trigger or a constraint keeps them; they are tried again in every run.",
        "Find out why; where they are to stay, say so with `keep`.",
    ),
    code(
        "rows.too_large",
        "A row is too large for the files of an archive.",
        "It stays in its table, and the step failed.",
        "Archive into a table of the same database, which takes rows of any size.",
    ),
    code(
        "rows.too_many",
        "More rows meet the rule than `max_rows` or `max_share` allows.",
        "Nothing of the table was touched: so many are more often a mistake in the rule than a wish.",
        "Look at the rows; if they are to go, raise the limit that the finding names.",
    )
    .keeps(Keeps::FromAll),
    code(
        "rows.unguarded",
        "Foreign keys point at a table, and their triggers are switched off there.",
        "Rows would go that others point at, without an error: nothing of the table is touched. A load with `--disable-triggers` that was cut off leaves a table so.",
        "The suggestion switches them on again; look beforehand whether rows point at nothing already.",
    )
    .keeps(Keeps::FromAll),
    code(
        "sequence.near_end",
        "A sequence or an integer key is close to its last value.",
        "Inserts will fail.",
        "Change column and sequence to bigint in time.",
    ),
    code(
        "server.reindex_corrupts",
        "Concurrent builds of this minor version damage indexes.",
        "Rebuilding would do harm, so nothing is rebuilt.",
        "Upgrade to 14.4 or newer.",
    )
    .keeps(Keeps::FromAll),
    code(
        "setting.unsafe",
        "A setting that guards the data, or the work on it, is switched off on the server.",
        "It holds for every database of the server; the message says what may be lost.",
        "Switch it on, unless the server holds nothing that matters: the finding has the statement.",
    ),
    code(
        "statement.failed_after",
        "The server reported an error after it had done, and committed, what was asked: as a rule an event trigger that fails.",
        "The work is done, and the step has succeeded; the same error comes with the next step.",
        "Let the event trigger pass for maint's role: the message names it.",
    ),
    code(
        "statement.in_part",
        "A statement that commits on its way (CALL, DO) did not come to its end.",
        "A part of its work may be done; it is not begun again by the same run.",
        "`maint show RUN` says what ended it. Look at what it has done before it runs again.",
    ),
    code(
        "statement.left",
        "A statement of `kind: sql` left an invalid index or a half-detached partition, or met one.",
        "An invalid index costs writes and serves no query; IF NOT EXISTS passes it by.",
        "The suggestion removes it, or finishes it.",
    ),
    code(
        "statement.slow",
        "A statement takes long.",
        "Somebody waits.",
        "EXPLAIN (ANALYZE, BUFFERS) it.",
    ),
    code(
        "statement.slower",
        "A statement takes much longer than before.",
        "A plan has changed, or the data has.",
        "Compare plans; see whether statistics are fresh.",
    ),
    code(
        "statements.missing",
        "pg_stat_statements is not there.",
        "Slow statements cannot be told.",
        "Add it to shared_preload_libraries, restart, CREATE EXTENSION pg_stat_statements.",
    )
    .keeps(Keeps::FromSome),
    code(
        "table.bloat",
        "Much of a table is empty space.",
        "Scans read more, and the disk holds it.",
        "A task of `kind: repack`; where the finding names TOAST, REPACK (CONCURRENTLY) of PostgreSQL 19, or VACUUM FULL in a maintenance window.",
    ),
    code(
        "table.dead_rows",
        "Many dead rows wait for VACUUM.",
        "Scans read them, and indexes keep them.",
        "`maint run vacuum --now`; see what holds the horizon.",
    ),
    code(
        "table.held",
        "Somebody had a table for themselves (ACCESS EXCLUSIVE) while it was to be looked at.",
        "What is said of it was left out; all other tables were done.",
        "The message names who it was. Where it happens every time, let one of the two run at another hour.",
    ),
    code(
        "transaction.long",
        "A transaction is open for long.",
        "Dead rows cannot be removed, concurrent builds wait.",
        "Find its session; end it if nobody needs it.",
    ),
    code(
        "vacuum.held_back",
        "Dead rows cannot be removed, or old ids not frozen, because something still may see them.",
        "VACUUM works and frees nothing; in the long run the server runs out of transaction ids.",
        "End the old transaction, drop the slot, or roll back the prepared transaction named.",
    ),
    code(
        "vacuum.uncleaned",
        "The dead rows that the server counts are what VACUUM leaves of such where `vacuum_index_cleanup` is off.",
        "Another VACUUM removes nothing of it; indexes keep their entries, and grow.",
        "VACUUM (INDEX_CLEANUP ON) now and then, or ALTER TABLE … RESET (vacuum_index_cleanup).",
    ),
    code(
        "view.no_unique_index",
        "A materialized view has no unique index that CONCURRENTLY needs.",
        "Readers wait while it is refreshed.",
        "CREATE UNIQUE INDEX on columns that identify its rows.",
    ),
];
