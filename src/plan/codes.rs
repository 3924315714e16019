//! What every finding code and every status means: one list, from which `maint explain` and
//! `docs/codes.md` are made.

/// A word that reports, pages and JSON use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Code {
    /// As it is written.
    pub code: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Why that matters.
    pub matters: &'static str,
    /// What to do.
    pub todo: &'static str,
}

const fn code(
    code: &'static str,
    meaning: &'static str,
    matters: &'static str,
    todo: &'static str,
) -> Code {
    Code {
        code,
        meaning,
        matters,
        todo,
    }
}

/// The statuses of runs and steps.
pub const STATUSES: &[Code] = &[
    code(
        "running",
        "The run is at work, or its process died and nobody has looked since.",
        "Only one run of a task is at work on a target.",
        "`maint cancel RUN` asks it to stop. Where its process is dead the next run records it as interrupted.",
    ),
    code(
        "succeeded",
        "Every step was done, or there was nothing to do.",
        "Nothing is left of this run.",
        "Nothing.",
    ),
    code(
        "incomplete",
        "The window or the budget ended before the work did.",
        "What was left comes first next time; where that happens every night, it never gets done.",
        "Look at `maint show RUN`: widen the window or `limits.budget`, or run it once with `--now`.",
    ),
    code(
        "partial",
        "Some steps failed, the others were done.",
        "The objects of the failed steps are as they were.",
        "`maint show RUN` says why and what to do for each; the next run tries again.",
    ),
    code(
        "failed",
        "Nothing could be done, or every step failed.",
        "The work was not done.",
        "`maint show RUN` says why. `maint doctor` looks at rights, extensions and the connection.",
    ),
    code(
        "skipped",
        "It was not started or not needed: somebody else was at work, the window was closed, or the object was gone.",
        "Where nobody else did the work, it was not done.",
        "See who held it (`maint show RUN`); a lock that never ends is somebody's session to look at.",
    ),
    code(
        "cancelled",
        "Stopped by a signal or by `maint cancel`, and cleaned up.",
        "What was not done comes next time.",
        "Nothing, or `maint run TASK --now`.",
    ),
    code(
        "interrupted",
        "The process died in the middle: killed, out of memory, or the machine went down.",
        "The next run of the task clears away what it left.",
        "Look at the system's log for why; run the task again.",
    ),
    code(
        "deferred",
        "No time was left for this step.",
        "It comes first next time.",
        "See `incomplete`.",
    ),
    code(
        "missed",
        "A planned occurrence did not run and was not made up for.",
        "The work of that night was not done.",
        "See whether `maint serve` or the cluster's CronJobs run; `catch_up` makes up for short absences; `maint run TASK --now` does it now.",
    ),
];

/// The codes of findings.
pub const FINDINGS: &[Code] = &[
    code(
        "amcheck.missing",
        "The extension amcheck is not installed in this database.",
        "Damaged tables and indexes cannot be found before a query fails on them.",
        "CREATE EXTENSION amcheck; and GRANT EXECUTE on its functions to the role.",
    ),
    code(
        "amcheck.outdated",
        "amcheck is older than the server.",
        "Newer checks are not made.",
        "ALTER EXTENSION amcheck UPDATE.",
    ),
    code(
        "archive.differs",
        "Documents to be archived are in the destination already, with another content, or it has a unique index that does not let them in.",
        "They stay where they are: neither of the two may be overwritten unseen.",
        "Compare the two by their `_id`, or the fields of the index, keep the right one, and run the task again.",
    ),
    code(
        "archive.files_missing",
        "Files that rows were archived to are not where they were written, or cannot be reached.",
        "Those rows are nowhere else; what is archived from now on may be lost the same way.",
        "Bring the files back, or give the role of maint access to their place, before the next run.",
    ),
    code(
        "archive.lost_there",
        "The database that rows were archived into does not have the last ones any more: its server was replaced, or set back.",
        "Rows may be lost: they had left the table that they came from.",
        "Look for them in a backup, or in the server that was replaced, before it is gone.",
    ),
    code(
        "archive.rule",
        "A rule to archive by cannot be followed on this collection.",
        "Nothing of it was archived.",
        "The finding says why; correct the rule in the task file.",
    ),
    code(
        "archive.types",
        "Some values have no place in the column of their field in the files of an archive.",
        "Who reads only that column does not find them; nothing is lost.",
        "Nothing; declare `columns` of the destination where another type is meant.",
    ),
    code(
        "archive.undone",
        "Rows that had been archived are in their table again: a failover or a restore has lost the end of what the server did.",
        "What was archived of them was removed, so that nothing is kept twice, and they are archived anew.",
        "See what else was written in that time; nothing remains to be done for the archive.",
    ),
    code(
        "archive.unseen",
        "After a failover, a restore or a move it cannot be seen whether the last archived rows are in their table again.",
        "Rows that are would be archived a second time.",
        "Compare them as the finding says; a primary key in the archived table makes it visible.",
    ),
    code(
        "cache.dirty",
        "Much of the cache is changed and not yet written.",
        "The disk does not keep up: operations begin to wait for it.",
        "Look for the load that writes so much, or give the server a faster disk; `max_dirty` sets the limit.",
    ),
    code(
        "cache.hit_ratio",
        "Fewer reads than usual are answered from shared memory.",
        "Queries wait for the disk.",
        "Look for new large scans in the slow statements; then at shared_buffers.",
    ),
    code(
        "checksum.failures",
        "The server has read pages whose checksum is wrong.",
        "The storage damages data.",
        "Look at disk and controller now; fail over, or restore the files named in the server's log.",
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
        "claim.stranger",
        "The lock by which runs of a task exclude each other is held by a session that is no run of maint's, as far as can be told.",
        "The task does not run until that session ends, which may be never; anybody in the database may take such a lock.",
        "Find out who it is: the finding names process, role and application, and has the statement that ends exactly that session. `maint doctor` says whether it is still there.",
    ),
    code(
        "cleanup.index",
        "No index begins with the field that a rule looks for documents by.",
        "Every document would be read, and for orphans once for every child; nothing was done.",
        "Create the index that the finding names.",
    ),
    code(
        "cleanup.row_security",
        "Row security hides rows from the role, or guards the table.",
        "Rows that nobody may see are not deleted, and what is hidden cannot be proved absent.",
        "Use the owner of the table, or a role with BYPASSRLS, where that is intended.",
    ),
    code(
        "cleanup.rule",
        "A rule of a cleanup or archive task cannot be carried out as it is written.",
        "Its rows stay.",
        "The message names the table or column; mend the task's file.",
    ),
    code(
        "cleanup.too_many",
        "More documents would go at once than `max_rows` allows.",
        "Nothing was done: so many at once are more often a mistake in the rule than a wish.",
        "Count them with the query of the finding; if they are to go, raise `max_rows`.",
    ),
    code(
        "cleanup.types",
        "Some documents tell no age in the field that a rule goes by, or point at their parent with a type that no parent has.",
        "They never become old, or never count as orphans, and so stay for ever.",
        "Correct the values or the name of the field, or add a rule of its own for them.",
    ),
    code(
        "clock.differs",
        "The clock of the server and that of the machine of maint disagree.",
        "Nobody can tell what is old enough to go; rules that go by age do nothing meanwhile.",
        "Set both clocks by NTP, then run the task again.",
    ),
    code(
        "collation.version",
        "The operating system sorts text differently from when indexes were built.",
        "Indexes over text may miss rows and let duplicates in.",
        "REINDEX the indexes named, then ALTER COLLATION … REFRESH VERSION.",
    ),
    code(
        "collection.damaged",
        "MongoDB's `validate` found damage in a collection or its index.",
        "Documents may be lost or not found, and reads may fail.",
        "Make a copy first, then resync the member from a healthy one, or restore from a backup.",
    ),
    code(
        "collection.duplicates",
        "Values that should occur once occur in more than one document.",
        "A unique index on them cannot be built, and code that expects one document finds any of them.",
        "Look at the documents, merge or remove the wrong ones, and create a unique index.",
    ),
    code(
        "collection.schema",
        "Documents do not meet the schema of their collection.",
        "They were written before the schema, or past it; updates of them may be refused.",
        "Find them with the query of the finding and correct them.",
    ),
    code(
        "collection.validate_warning",
        "MongoDB's `validate` has a warning about a collection.",
        "It is no damage yet; the finding has the server's words.",
        "Read the warning; `validate` on another member tells whether it is this one's alone.",
    ),
    code(
        "command.failed",
        "A program that `commands` of the task names failed, or did not end in time.",
        "`before`: nothing was done. `after`, `on_error`: what they are for was not done; the run is partial.",
        "The message has the end of what it said; run it by hand with the variables of docs/scheduler.md.",
    ),
    code(
        "command.ran",
        "A program that `commands` of the task names ended well.",
        "Nothing; the end of what it said is recorded.",
        "Nothing.",
    ),
    code(
        "connections.idle_in_transaction",
        "Sessions sit in open transactions without working.",
        "They hold locks and keep dead rows from being removed.",
        "Find the application; set idle_in_transaction_session_timeout.",
    ),
    code(
        "connections.many",
        "The connections are close to the server's limit.",
        "The next client is refused.",
        "Use a pooler, close idle sessions, or raise max_connections.",
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
        "database.empty",
        "The database of the target has no collection.",
        "MongoDB makes a database of every name it is asked for: nothing is looked after, and nobody would notice.",
        "Look at the spelling of the database in the target's `url`; where it is only not filled yet, leave its tasks out until it is.",
    ),
    code(
        "database.gone",
        "A database that was looked after under a target with `databases` is not on the server any more.",
        "Nothing runs in it from now on; what the history knows of it stays. Where nobody meant to drop it, this is how that is noticed.",
        "Nothing, if that was meant. The message says when it was last worked on; `maint archive list --target NAME` says what was archived from it.",
    ),
    code(
        "database.new",
        "A target with `databases` stands for a database that was not known before, or for all of them when it is looked at first.",
        "The tasks of the target run in it from now on.",
        "Nothing, or leave it out: `databases: [\"*\", \"!NAME\"]`.",
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
    ),
    code(
        "foreign.unreachable",
        "Statistics of a table as a whole were not gathered, because a table on another server below it cannot be read.",
        "The planner goes on with the old ones, or with none. Its other partitions are analyzed all the same.",
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
        "history.unreachable",
        "The history did not answer when the run began.",
        "The run decided without what earlier runs had learned; its records are kept in a file until they can be written.",
        "Find out why the history is away; the records go in with the next run that reaches it.",
    ),
    code(
        "index.bloat",
        "Much of an index is empty space.",
        "It takes disk and memory, and scans read more.",
        "`maint run reindex --now`, or REINDEX INDEX CONCURRENTLY.",
    ),
    code(
        "index.differs",
        "An index is missing, or another one, on some members of the replica set.",
        "After a failover the same queries behave differently.",
        "Build the index anew on the members that the finding names.",
    ),
    code(
        "include.nothing",
        "A pattern in `include` meets no object.",
        "What was meant is not looked after; where no pattern meets anything, the run has failed.",
        "Correct the spelling (upper and lower case count), or take the pattern out.",
    ),
    code(
        "index.duplicate",
        "Two indexes are the same.",
        "Both are kept up to date with each write, and one would do.",
        "Drop the one named, when you have seen that nothing refers to it by name.",
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
        "index.overlapping",
        "An index begins with the same columns as another.",
        "It may not be needed.",
        "Compare their use; drop the shorter one where it serves nothing else.",
    ),
    code(
        "index.unused",
        "Nothing has used the index since statistics began.",
        "Each write keeps it up to date.",
        "See whether replicas use it; then drop it.",
    ),
    code(
        "integrity.coverage",
        "Not everything could be looked at within the time.",
        "Damage in the rest is not found.",
        "Give the task more time: a longer window or budget.",
    ),
    code(
        "integrity.no_replica",
        "Heavy checks were meant for a replica, and there is none.",
        "They ran on the primary, or not at all.",
        "Set `replicas` of the target.",
    ),
    code(
        "integrity.no_secondary",
        "There is no secondary to validate a collection on.",
        "A full validation locks a collection, so only the milder one in the background is made.",
        "Add a secondary, or accept the milder check.",
    ),
    code(
        "integrity.not_again",
        "Objects were found in order a short while ago, and are not looked at again.",
        "Damage since then is not found by this run.",
        "`--set recheck_after=0s` looks again.",
    ),
    code(
        "integrity.rule",
        "A check names a collection that does not exist.",
        "That check was not made.",
        "Correct the name in the task file, or remove the check.",
    ),
    code(
        "member.down",
        "A member of the replica set is down, or does not follow.",
        "What it does not hold, only the others do; one more of them away may be too many to have a primary.",
        "Look at `rs.status()` and the log of that member.",
    ),
    code(
        "name.unreadable",
        "A name has bytes that are not valid UTF-8, as a database with the encoding SQL_ASCII lets in.",
        "No statement of maint's can name it, so it is left alone; everything else is done.",
        "Rename it: in psql with `\\encoding SQL_ASCII` and a terminal that speaks the encoding of the name, ALTER … RENAME TO ….",
    ),
    code(
        "operation.long",
        "An operation runs for longer than `max_operation`.",
        "It holds resources, and may keep others waiting.",
        "Look at it with the command of the finding; `db.killOp` ends it.",
    ),
    code(
        "operation.slow",
        "Operations of one shape take longer on average than `max_operation_mean`, says the profiler.",
        "Somebody waits.",
        "Look at the recorded ones with the command of the finding; `explain(\"executionStats\")` says which index would help.",
    ),
    code(
        "oplog.short",
        "The oplog reaches back for less time than `min_oplog`.",
        "A member that is away for longer has to copy everything anew.",
        "Enlarge it with `replSetResizeOplog`.",
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
    ),
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
        "partitions.no_schema",
        "The schema for new partitions does not exist.",
        "None are made.",
        "CREATE SCHEMA, or mend the task.",
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
        "partitions.tablespace",
        "New partitions are not in the tablespace of their siblings.",
        "The role of maint may create nothing there; the disk meant for other data fills up.",
        "Run the GRANT of the finding; move the new partitions with ALTER TABLE ... SET TABLESPACE.",
    ),
    code(
        "partitions.time_zone",
        "The existing partitions begin at midnight in another time zone than the task's.",
        "New ones would overlap or leave gaps, so nothing is created.",
        "Say with `time_zone` which is meant.",
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
    ),
    code(
        "plan.applied",
        "The run carried out a plan that was saved and reviewed.",
        "It did what was approved, and nothing besides.",
        "Nothing.",
    ),
    code(
        "privilege.missing",
        "The role may not do or see something that the task needs.",
        "What it cannot see is not judged, and is not fine.",
        "The suggestion is the GRANT; `maint doctor` lists all of them.",
    ),
    code(
        "query.refused",
        "A query of yours was not asked.",
        "What it was to find out is not known.",
        "The finding says why; correct the query, or grant what it needs.",
    ),
    code(
        "query.rows",
        "A query of yours returned rows.",
        "It was written to return none where all is well.",
        "Look at the rows.",
    ),
    code(
        "reference.orphaned",
        "References of documents point at documents that do not exist.",
        "Code that follows them finds nothing.",
        "Remove or correct the documents; a rule `orphaned` of the kind cleanup removes them regularly.",
    ),
    code(
        "refresh.nothing",
        "An aggregation gave no document where its result had some, or where there is none at all.",
        "Readers see nothing, or what was true before. It is made again each time until it gives something.",
        "Run the suggested aggregation; look at its `$match`, and at the documents of its source.",
    ),
    code(
        "refresh.source",
        "The collection that another one is made from does not exist, or the result would get in its way.",
        "What is made from it cannot be renewed, and shows old data.",
        "Correct the name in the task file, bring the source back, or let the result go elsewhere.",
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
    ),
    code(
        "replication.lag",
        "A replica is behind.",
        "It answers with old data, and a failover loses the rest.",
        "Look at its load, its disk and the network.",
    ),
    code(
        "replication.slot",
        "A slot holds back write-ahead log, or is inactive.",
        "The disk of the primary fills up.",
        "Start its consumer again, or drop the slot.",
    ),
    code(
        "role.untrusted_code",
        "Code of somebody whom nobody has declared trusted would run with our rights.",
        "Its owner could become whoever we are.",
        "List the owner in `trust_owners`, or use a role with fewer rights; see docs/security.md.",
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
    ),
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
    ),
    code(
        "setting.unsafe",
        "A setting that guards the data, or the work on it, is switched off on the server.",
        "It holds for every database of the server; the message says what may be lost.",
        "Switch it on, unless the server holds nothing that matters: the finding has the statement.",
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
    ),
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
        "throttle.aborted",
        "A limit that ends a run (`throttle.abort_…`, or `replica_gone: abort`) was passed.",
        "What was at work was cancelled; it comes again with the next run.",
        "See what the server had to do at that time; another window, or another limit.",
    ),
    code(
        "time.left_over",
        "The run's time was up before everything was done; the message names what is left.",
        "It comes first next time; where that happens every night, some of it never gets done.",
        "A wider window or a larger `limits.budget`; `maint plan TASK` says how long each step takes.",
    ),
    code(
        "time.never_fits",
        "A step takes longer than a whole run has, judged by how long it took before or was at work until its time was up.",
        "It is not tried any more, so that the others have their time.",
        "A wider window or a larger `limits.budget`, or once by hand: `maint run TASK --now --set limits.budget=…`.",
    ),
    code(
        "transaction.long",
        "A transaction is open for long.",
        "Dead rows cannot be removed, concurrent builds wait.",
        "Find its session; end it if nobody needs it.",
    ),
    code(
        "ttl.conflict",
        "An index is in the way of the TTL index that the task wants.",
        "Documents do not expire.",
        "Drop the index and make it anew with the commands of the finding, when queries can do without it.",
    ),
    code(
        "ttl.monitor_off",
        "The TTL monitor of the server is off.",
        "Nothing expires, in any collection.",
        "db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})",
    ),
    code(
        "ttl.partial",
        "The TTL index is hidden, or covers only a part of the documents.",
        "The documents outside of it never expire.",
        "Nothing, if that is meant; otherwise make an index over all of them.",
    ),
    code(
        "ttl.stalled",
        "Documents that should have expired long ago are still there.",
        "The collection grows, and holds what should be gone.",
        "Look at `db.serverStatus().metrics.ttl`, at long index builds and at the load.",
    ),
    code(
        "ttl.wrong_type",
        "Documents have no date in the field of the TTL index.",
        "They never expire.",
        "Find them with the query of the finding and write dates.",
    ),
    code(
        "vacuum.held_back",
        "Dead rows cannot be removed because something still may see them.",
        "VACUUM works and frees nothing.",
        "End the old transaction, drop the slot, or roll back the prepared transaction named.",
    ),
    code(
        "view.no_unique_index",
        "A materialized view has no unique index that CONCURRENTLY needs.",
        "Readers wait while it is refreshed.",
        "CREATE UNIQUE INDEX on columns that identify its rows.",
    ),
    code(
        "view.stale",
        "A materialized view is older than it may be.",
        "Readers see old numbers.",
        "`maint run refresh --now`; see why it was not refreshed.",
    ),
];

/// The one of this name.
pub fn explained(name: &str) -> Option<&'static Code> {
    all().find(|one| one.code == name)
}

/// All of them: statuses, then findings, each by name.
pub fn all() -> impl Iterator<Item = &'static Code> {
    STATUSES.iter().chain(FINDINGS)
}
