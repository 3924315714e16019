//! What the codes of findings that only MongoDB has mean.

use crate::plan::code::{Code, Keeps, code};

/// By name.
pub(in crate::plan) const FINDINGS: &[Code] = &[
    code(
        "archive.differs",
        "Documents to be archived are in the destination already, with another content, or it has a unique index that does not let them in, or their `_id` is not valid UTF-8.",
        "They stay where they are: neither of the two may be overwritten unseen.",
        "Compare the two by their `_id`, or the fields of the index, keep the right one, and run the task again.",
    ),
    code(
        "archive.expires",
        "A TTL index lets documents expire before the rule of an archive takes them.",
        "By the time of the archive nothing is left to keep: the runs succeed, and nothing is archived.",
        "Let them expire later than the rule takes them, or archive them earlier, or drop the TTL index: the suggestion ends it.",
    ),
    code(
        "archive.only_copy",
        "A batch was broken off, nothing says that its documents were archived, and they are not in their collection: what was written for it is all there is of them.",
        "It stays, and nothing is lost. The mark of the batch was removed, the history was put back from a backup, or somebody has deleted the documents meanwhile.",
        "Look whether they were meant to go. In files they count as archived, and can be restored; those that are in the collection still are archived again.",
    ),
    code(
        "archive.replaced",
        "A collection is another one than the documents of its archives came from: it was dropped, and made or put back by the same name.",
        "Put back from a backup, it has documents again that are archived already, and they are archived once more.",
        "Look whether it was put back. Until this finding is gone, nothing of the new one has been archived; a restore brings back one of each that are the same, and refuses where they differ.",
    ),
    code(
        "archive.rule",
        "A rule to archive by cannot be followed on this collection.",
        "Nothing of it was archived.",
        "The finding says why; correct the rule in the task file.",
    )
    .keeps(Keeps::FromAll),
    code(
        "archive.types",
        "Some values have no place in the column of their field in the files of an archive.",
        "Who reads only that column does not find them; nothing is lost.",
        "Nothing; declare `columns` of the destination where another type is meant.",
    ),
    code(
        "archive.under_way",
        "Documents that a rule takes are copies that another archive has put there, in a batch that has not come to its end.",
        "Their originals are where they came from still: taken now, they would be archived twice. They stay until that batch has gone, or was taken back.",
        "Nothing, where that archive is at work: the next run takes them. Else let it run once more: it takes its copies back. Where marks in `maint.archives` are not maint's, remove them.",
    ),
    code(
        "archive.unknown_mark",
        "`maint.archives` tells of batches that were broken off between copying documents and deleting them, and the history does not know these marks as they are.",
        "Whoever may write to the database can write such a mark: no copy is taken back for it, and the documents that it names are not archived.",
        "If the history was lost or put back, or an older version or another installation wrote them, look for documents that are in both places, and then remove the marks. Else ask who did.",
    ),
    code(
        "backup.old",
        "No backup cursor was seen open within `max_backup_age`.",
        "Backups by the server's own means may not be made: what is lost then stays lost.",
        "Look at what makes the backups. One that is open between two snapshots only is not seen: take snapshots more often, or at its time.",
    ),
    code(
        "cache.dirty",
        "Much of the cache is changed and not yet written.",
        "The disk does not keep up: operations begin to wait for it.",
        "Look for the load that writes so much, or give the server a faster disk; `max_dirty` sets the limit.",
    ),
    code(
        "cleanup.index",
        "No index begins with the field that a rule looks for documents by.",
        "Every document would be read, and for orphans once for every child; nothing was done.",
        "Create the index that the finding names.",
    )
    .keeps(Keeps::FromAll),
    code(
        "cleanup.too_many",
        "More documents would go at once than `max_rows` allows.",
        "Nothing was done: so many at once are more often a mistake in the rule than a wish.",
        "Count them with the query of the finding; if they are to go, raise `max_rows`.",
    )
    .keeps(Keeps::FromAll),
    code(
        "cleanup.types",
        "Some documents tell no age in the field that a rule goes by, be it for a date that stands for never, or point at their parent with a type, or a form of it, that no parent has.",
        "They never become old, or never count as orphans, and so stay for ever.",
        "Correct the values or the name of the field, or add a rule of its own for them.",
    ),
    code(
        "cleanup.unreadable",
        "Documents were to go and stay, as nobody can ask for them: their `_id` is text that is not valid UTF-8, or holds a list whose places are not numbered 0, 1, 2, ….",
        "A faulty client has written them. All others are dealt with; these stay for ever.",
        "Give them another `_id`, or make an index that begins with the field of the rule: along one they go.",
    ),
    code(
        "collection.damaged",
        "MongoDB's `validate` found damage in a collection or its index.",
        "Documents may be lost or not found, and reads may fail.",
        "Copy the data folder first. Where only an index is damaged, drop it and make it anew; else resync the member from one that has the collection whole, or restore from a backup. Never empty the only server that has it.",
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
        "collection.vanished",
        "A collection was renamed, dropped or replaced while a task worked on it.",
        "What had been done until then is counted; what is left has not been looked at.",
        "The finding says what has become of it. Where it has another name now, correct the name in the task file; a new one of the same name is worked on by the next run.",
    ),
    code(
        "flow.lagged",
        "Flow control slows writes down, because a majority of the members is behind the primary.",
        "Every write of every user waits longer than it has to.",
        "Look at the lag of the members and at what keeps them busy.",
    ),
    code(
        "index.differs",
        "An index is missing, or another one, on some members of the replica set.",
        "After a failover the same queries behave differently.",
        "Build the index anew on the members that the finding names.",
    ),
    code(
        "integrity.no_secondary",
        "There is no secondary to validate a collection on.",
        "A full validation locks a collection, so only the milder one in the background is made.",
        "Add a secondary, or accept the milder check.",
    ),
    code(
        "integrity.rule",
        "A check names a collection that does not exist, or a field that no document has.",
        "That check was not made, or says nothing.",
        "Correct the name in the task file, or remove the check.",
    )
    .keeps(Keeps::FromAll),
    code(
        "member.down",
        "A member of the replica set is down, or does not follow.",
        "What it does not hold, only the others do; one more of them away may be too many to have a primary.",
        "Look at `rs.status()` and the log of that member.",
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
        "reference.orphaned",
        "References of documents point at documents that do not exist.",
        "Code that follows them finds nothing.",
        "Remove or correct the documents; a rule `orphaned` of the kind cleanup removes them regularly.",
    ),
    code(
        "refresh.cut_off",
        "An aggregation that adds to what its result holds was cut off, and nothing tells how much of it is there.",
        "It is not made again: what is there already would be counted twice. Until somebody has looked, the result lacks what came since.",
        "Look at the result, put it back or complete it, and say which with the command of the finding; or empty it, and all of it is made anew.",
    )
    .keeps(Keeps::FromAll),
    code(
        "refresh.nothing",
        "An aggregation gave no document where its result had some, or where there is none at all.",
        "Readers see nothing, or what was true before. It is made again each time until it gives something.",
        "Run the suggested aggregation; look at its `$match`, and at the documents of its source.",
    ),
    code(
        "refresh.replaced",
        "Where an aggregation ends in `$out`, another collection is found than the one that it has made.",
        "Another task, another database or another installation may put its result there, too: each replaces what the other has made, and all succeed.",
        "Look whose `$out` goes there, and give each a place of its own.",
    ),
    code(
        "refresh.source",
        "The collection that another one is made from does not exist, or the result would get in its way.",
        "What is made from it cannot be renewed, and shows old data.",
        "Correct the name in the task file, bring the source back, or let the result go elsewhere.",
    )
    .keeps(Keeps::FromAll),
    code(
        "tickets.exhausted",
        "All tickets to read or to write were taken when the snapshot looked.",
        "Operations wait for others to end, however short they are themselves.",
        "Look for operations that run for long, a disk that does not keep up, and too many connections at work.",
    ),
    code(
        "ttl.conflict",
        "An index is in the way of the TTL index that the task wants.",
        "Documents do not expire.",
        "Give the commands of the finding: one beside it where it is unique; else dropped and made anew with all that it has, when queries can do without it.",
    )
    .keeps(Keeps::FromAll),
    code(
        "ttl.monitor_off",
        "The TTL monitor of the server is off.",
        "Nothing expires, in any collection.",
        "db.adminCommand({setParameter: 1, ttlMonitorEnabled: true})",
    )
    .keeps(Keeps::FromAll),
    code(
        "ttl.partial",
        "The TTL index covers only a part of the documents, though `ttl` says that all expire; or it is hidden (as information).",
        "Documents outside of a partial one never expire, and the run has not succeeded. A hidden one lets documents expire, and no query uses it.",
        "Make an index over all of them with the command of the finding, or leave the entry out of `ttl` where the others are to stay. Show a hidden one again (collMod with `hidden: false`), unless that is meant.",
    ),
    code(
        "ttl.stalled",
        "Documents that should have expired long ago are still there.",
        "The collection grows, and holds what should be gone.",
        "Look at `db.serverStatus().metrics.ttl`, at long index builds and at the load.",
    ),
    code(
        "ttl.wrong_type",
        "Documents have no date in the field of the TTL index, or one that stands for never.",
        "They never expire; or all would at once, and no index is made or changed.",
        "Find them with the query of the finding and write dates.",
    ),
];
