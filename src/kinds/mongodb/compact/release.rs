//! What servers of a release know of compaction.

use mongodb::bson::Document;

use crate::engines::mongodb::number;
use crate::values::Bytes;

/// Whether the server is told how much is worth it, and else takes 20 MB for that.
pub(super) fn takes_target(release: (u32, u32)) -> bool {
    release >= (7, 3)
}

/// Whether the server estimates what compaction would give back (`dryRun`).
pub(super) fn estimates(release: (u32, u32)) -> bool {
    release >= (8, 0)
}

/// Whether the server compacts all its files by itself, if it is told to (`autoCompact`).
pub(super) fn compacts_by_itself(release: (u32, u32)) -> bool {
    release >= (8, 0)
}

/// What is worth it, as the server takes it: whole megabytes, and one at least.
pub(super) fn target(release: (u32, u32), least: Bytes) -> Option<i64> {
    let megabytes = i64::try_from(least.get() >> 20).unwrap_or(i64::MAX);
    takes_target(release).then_some(megabytes.max(1))
}

/// What an estimate says, in bytes.
pub(super) fn estimate(answer: &Document) -> Option<i64> {
    // The first releases of 8.0 call it as they call what was done.
    let bytes = answer.get("estimatedBytesFreed");
    number(bytes.or_else(|| answer.get("bytesFreed")))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn newer_servers_are_asked_for_more() {
        for (release, told, more) in [
            ((4, 4), None, false),
            ((6, 0), None, false),
            ((7, 0), None, false),
            ((7, 3), Some(100), false),
            ((8, 0), Some(100), true),
            ((8, 2), Some(100), true),
        ] {
            assert_eq!(target(release, Bytes(100 << 20)), told, "{release:?}");
            assert_eq!(estimates(release), more, "{release:?}");
            assert_eq!(compacts_by_itself(release), more, "{release:?}");
        }
        assert_eq!(target((8, 0), Bytes(5)), Some(1));
    }

    #[test]
    fn answers_are_read_as_servers_give_them() {
        assert_eq!(estimate(&doc! { "estimatedBytesFreed": 5_i64 }), Some(5));
        assert_eq!(estimate(&doc! { "bytesFreed": 5 }), Some(5));
        assert_eq!(estimate(&doc! { "ok": 1 }), None);
    }
}
