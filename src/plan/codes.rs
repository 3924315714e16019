//! What every finding code and every status means: from these lists `maint explain` and
//! `docs/codes.md` are made. What only one engine finds stands in its own folder.

use super::code::code;
pub use super::code::{Code, Keeps};
use super::{mongodb, postgres};

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
        "The window or the budget ended before the work did, or something else kept some of it out: sessions that had waited long enough, an old transaction, a condition of `throttle`.",
        "What was left comes first next time; where that happens every night, it never gets done.",
        "`maint show RUN` says for each step what kept it (`kept_by`), and the findings `time.left_over` and `kept_out.…` what helps: a wider window or `limits.budget` only where it was time.",
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
        "The step was left for another run: no time was left, or sessions of others, an old transaction, a condition of `throttle` or a limit kept it out. Its error says which, and `kept_by` in JSON.",
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

/// The codes of findings that every engine has, or none.
const FINDINGS: &[Code] = &[
    code(
        "archive.files_missing",
        "Files that rows or documents were archived to are not where they were written, or cannot be reached.",
        "Those are nowhere else; what is archived from now on may be lost the same way.",
        "Bring the files back, or give the role of maint access to their place, before the next run.",
    ),
    code(
        "archive.left_over",
        "Files of a batch that was taken back, whose rows or documents are where they were, cannot be removed from where they lie; or those of a batch whose end nobody saw cannot be read, so that nobody knows whether they are needed.",
        "The batch failed, or its server lost it, and the place of the files refuses or does not answer. Nothing waits for them; each run tries again.",
        "Allow maint to delete there (for a bucket `s3:DeleteObject`), or remove them by hand; where the place is gone, the suggestion has it told no more.",
    ),
    code(
        "archive.unknown_files",
        "The place of the archive has batches of this table or collection that the history does not know: it was lost, or set back to before them, or they are another installation's; or nobody could look.",
        "Runs do not see whether their rows or documents come back to where they were, and a restore by the history does not bring them.",
        "If the history was lost or set back, `maint archive adopt --files URL --target NAME`. Else archive to a place of its own.",
    ),
    code(
        "claim.left_over",
        "The lock by which runs of a task exclude each other is held in the name of a run that is over, and could not be taken from it.",
        "The task does not run until that ends: in PostgreSQL when the server notices that nobody is behind the session, which behind a proxy may be never; in MongoDB when nobody writes the claim again.",
        "Have the role that the finding names, or a superuser, carry out the statement in the finding: it ends exactly that session or claim. Sessions of maint's own role, and claims that nobody renews, are ended without asking.",
    )
    .keeps(Keeps::FromAll),
    code(
        "claim.stranger",
        "The lock by which runs of a task exclude each other is held by a session, or in MongoDB a claim, that is no run of maint's, as far as can be told.",
        "The task does not run until that ends, which may be never; anybody in the database may take such a lock, or write such a claim.",
        "Find out who it is: the finding names what is known of the holder, and has the statement that ends exactly that. `maint doctor` says whether it is still there.",
    )
    .keeps(Keeps::FromAll),
    code(
        "cleanup.rule",
        "A rule of a cleanup or archive task cannot be carried out as it is written.",
        "Its rows or documents stay.",
        "The message names the table or column, the collection or field; mend the task's file.",
    )
    .keeps(Keeps::FromAll),
    code(
        "clock.differs",
        "The clock of the server and that of the machine of maint disagree.",
        "Nobody can tell what is old enough to go; rules that go by age do nothing meanwhile.",
        "Set both clocks by NTP, then run the task again.",
    )
    .keeps(Keeps::FromAll),
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
        "connections.many",
        "The connections are close to the server's limit.",
        "The next client is refused.",
        "Use a pooler, close idle sessions, or raise max_connections.",
    ),
    code(
        "database.closed",
        "A database that is looked after under a target with `databases` takes no connections.",
        "Nothing is done in it, and what failed there last is still waited for.",
        "Let it take connections again, or leave it out: `databases: [\"*\", \"!NAME\"]`.",
    ),
    code(
        "database.empty",
        "The database of the target has nothing to look after: no table, or no collection.",
        "Every task there has nothing to do, and nobody would notice that the `url` means another database than was thought. MongoDB even makes a database of every name it is asked for.",
        "Look at the name of the database in the target's `url`; where it is only not filled yet, leave its tasks out until it is.",
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
        "exclude.nothing",
        "A pattern in `exclude`, or one with a `!` in `schemas`, meets nothing.",
        "What it was to spare is worked on, if it is called otherwise. A pattern for some names (`tmp_*`) is told as an `info`: what it is for may be there only now and then.",
        "Correct the spelling (upper and lower case count), or take the pattern out.",
    ),
    code(
        "history.unreachable",
        "The history did not answer when the run began.",
        "The run decided without what earlier runs had learned; its records are kept in a file until they can be written.",
        "Find out why the history is away; the records go in with the next run that reaches it.",
    ),
    code(
        "include.nothing",
        "A pattern in `include` or `schemas` meets nothing.",
        "What was meant is not looked after; where no pattern meets anything, the run has failed.",
        "Correct the spelling (upper and lower case count), or take the pattern out.",
    )
    .keeps(Keeps::FromAll),
    code(
        "index.duplicate",
        "Two indexes are the same.",
        "Both are kept up to date with each write, and one would do.",
        "Drop the one named, when you have seen that nothing refers to it by name.",
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
        "kept_out.limit",
        "More was there than had been counted, and `max_rows` or `max_share` let no more go.",
        "The rest is left for the next run. From the third time in a row on it is a warning: it does not keep up.",
        "See whether as much is meant to go; a larger `max_rows` or `max_share`, or more frequent runs.",
    ),
    code(
        "kept_out.server",
        "A server of the target was not ready for a step until the time was up, or had no room for it; the message says why.",
        "The step is left for the next run. From the third time in a row on it is a warning: by itself it will not get done.",
        "See to the server that the message names, or to another window.",
    ),
    code(
        "kept_out.sessions",
        "Sessions of others kept a step out: they had waited for it as long as `limits.max_block` allows, so it stepped back, or they never let go of what it needs.",
        "The step is left for the next run. From the third time in a row on it is a warning: by itself it will not get done.",
        "A quieter hour (`window`), or once by hand with a larger `limits.max_block`; `maint show RUN` names who waited, or was in the way.",
    ),
    code(
        "kept_out.throttle",
        "A condition of `throttle` held until the time of the run was up, or ended the run.",
        "What it kept out is left for the next run. From the third time in a row on it is a warning: by itself it will not get done.",
        "See what keeps the server busy at that time; another window, or another limit below `throttle`.",
    ),
    code(
        "kept_out.transaction",
        "A step was not begun, or given up, because of a transaction that is open for long, or because it would have held back, or held back itself, old transaction ids.",
        "The step is left for the next run. From the third time in a row on it is a warning: by itself it will not get done.",
        "End the transaction that the message names, once you know what it is for; or a larger `limits.max_transaction_age`, `limits.transaction_wait` or `limits.max_xid_age`.",
    ),
    code(
        "name.unreadable",
        "A name has bytes that are not valid UTF-8, as a database with the encoding SQL_ASCII lets in.",
        "No statement of maint's can name it, so it is left alone; everything else is done.",
        "Rename it: in psql with `\\encoding SQL_ASCII` and a terminal that speaks the encoding of the name, ALTER … RENAME TO ….",
    )
    .keeps(Keeps::FromAll),
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
    )
    .keeps(Keeps::FromAll),
    code(
        "replication.lag",
        "A replica is behind.",
        "It answers with old data, and a failover loses the rest.",
        "Look at its load, its disk and the network.",
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
        "It comes first next time. As a warning: the same was cut off in three runs in a row, or nothing was begun in them.",
        "A wider window or a larger `limits.budget`; `maint plan TASK` says how long each step takes.",
    ),
    code(
        "time.never_fits",
        "A step takes longer than a whole run has, judged by how long it took before or was at work until its time was up.",
        "It is not tried any more, so that the others have their time.",
        "A wider window or a larger `limits.budget`, or once by hand: `maint run TASK --now --set limits.budget=…`.",
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
    STATUSES
        .iter()
        .chain(unsorted())
        .find(|one| one.code == name)
}

/// The codes of findings, by name.
pub fn findings() -> Vec<&'static Code> {
    let mut all: Vec<&Code> = unsorted().collect();
    all.sort_by_key(|one| one.code);
    all
}

/// All of them: statuses, then findings, each by name.
pub fn all() -> impl Iterator<Item = &'static Code> {
    STATUSES.iter().chain(findings())
}

/// What a finding of this code keeps a task from.
pub fn keeps(finding: &str) -> Option<Keeps> {
    unsorted().find(|one| one.code == finding)?.keeps
}

fn unsorted() -> impl Iterator<Item = &'static Code> {
    FINDINGS
        .iter()
        .chain(postgres::codes::FINDINGS)
        .chain(mongodb::codes::FINDINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_by_name_and_no_code_is_in_two() {
        for list in [
            FINDINGS,
            postgres::codes::FINDINGS,
            mongodb::codes::FINDINGS,
        ] {
            let names: Vec<&str> = list.iter().map(|one| one.code).collect();
            assert!(names.is_sorted(), "{names:?}");
        }
        let mut all: Vec<&str> = all().map(|one| one.code).collect();
        let before = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
