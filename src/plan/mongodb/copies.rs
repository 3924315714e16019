//! What the history knows of copies that a batch is about to make. Their mark is in the database that
//! they come from, where others may write, too: it is believed as far as the history knows it.

use std::collections::{BTreeMap, HashMap};

use mongodb::bson::RawDocumentBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{shell_name, shell_text};
use crate::engines::mongodb::{CopyMark, Evidence, MARKS, namespace};
use crate::plan::{Finding, Memory, Severity};

/// How many marks are named where there may be many, and how much of each is shown.
const NAMED: usize = 3;
const SHOWN: usize = 60;

/// The mark of a batch, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The run that copies, as it is called on the server.
    owner: String,
    /// The session whose transaction deletes the originals, in hexadecimal digits.
    session: Option<String>,
    /// Where the originals are: database and collection.
    from: (String, String),
    /// The target that has the copies; none: the same.
    target: Option<String>,
    /// Where the copies are: database and collection.
    into: (String, String),
    /// The identity of that collection.
    uuid: String,
    /// Where it is told what becomes of the batch. Older versions have not written it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    /// What the hashes of the copies are made with: only who has it can name another document as one
    /// of them.
    secret: Uuid,
}

impl Sealed {
    /// Of a mark that is about to be written, with a secret of its own.
    pub(crate) fn of(mark: &CopyMark, secret: Uuid, evidence: Option<Evidence>) -> Sealed {
        Sealed {
            owner: mark.owner.clone(),
            session: mark.session.clone(),
            from: mark.from.clone(),
            target: mark.target.clone(),
            into: mark.into.clone(),
            uuid: mark.uuid.clone(),
            evidence,
            secret,
        }
    }

    /// Whether a mark says what was written, but for how far it has come and which copies are left.
    pub(crate) fn fits(&self, mark: &CopyMark) -> bool {
        *self == Sealed::of(mark, self.secret, self.evidence.clone())
    }

    /// The hash of a copy.
    pub(crate) fn hash(&self, document: &RawDocumentBuf) -> Vec<u8> {
        hash(self.secret, document)
    }

    /// What is remembered of the mark with this id.
    pub(crate) fn memory(&self, id: &str) -> Memory {
        Memory {
            key: remembered_as(id),
            value: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// The run that copies, as it is called on the server.
    pub(crate) fn owner(&self) -> &String {
        &self.owner
    }

    /// Where it is told what became of the batch.
    pub(crate) fn evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref()
    }

    /// Where the copies are.
    pub(crate) fn place(&self) -> String {
        namespace(&self.into.0, &self.into.1)
    }

    /// What the history knows of all marks, by their ids.
    pub(crate) fn all(memories: &HashMap<String, Value>) -> BTreeMap<String, Sealed> {
        let one = |(key, value): (&String, &Value)| {
            let id = key.strip_prefix(REMEMBERED)?;
            Some((id.to_owned(), Sealed::deserialize(value).ok()?))
        };
        memories.iter().filter_map(one).collect()
    }

    /// What the history knows of a mark; none where it does not know it as it is.
    pub(crate) fn known(mark: &CopyMark, memories: &HashMap<String, Value>) -> Option<Sealed> {
        let known = memories.get(&remembered_as(&mark.id))?;
        let known = Sealed::deserialize(known).ok()?;
        known.fits(mark).then_some(known)
    }
}

/// The hash of a copy, made with a secret.
pub(crate) fn hash(secret: Uuid, document: &RawDocumentBuf) -> Vec<u8> {
    let own = Sha256::digest(document.as_bytes());
    let mut hash = Sha256::new();
    hash.update(secret.as_bytes());
    hash.update(own);
    hash.finalize().to_vec()
}

/// What forgets the mark with this id.
pub(crate) fn forgotten(id: &str) -> Memory {
    Memory {
        key: remembered_as(id),
        value: Value::Null,
    }
}

/// How what is remembered of a mark begins.
const REMEMBERED: &str = "copies ";

fn remembered_as(id: &str) -> String {
    format!("{REMEMBERED}{id}")
}

/// What a person should know of marks that the history does not; `database` has them. There may be more,
/// and so many are larger than any of maint's.
pub(crate) fn unknown(
    marks: &[&CopyMark],
    (more, large): (bool, i64),
    database: &str,
) -> Option<Finding> {
    if marks.is_empty() && large == 0 {
        return None;
    }
    let short = |text: String| match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    };
    let place = |of: &(String, String)| short(namespace(&of.0, &of.1));
    let said = marks.iter().take(NAMED).map(|mark| {
        let elsewhere = mark.target.clone().map(&short);
        let elsewhere = elsewhere.map(|target| format!(" of target {target}"));
        format!(
            "from {} into {}{}",
            place(&mark.from),
            place(&mark.into),
            elsewhere.unwrap_or_default()
        )
    });
    let mut said = said.collect::<Vec<_>>();
    if large > 0 {
        said.push(format!("{large} larger than any of maint's"));
    }
    let mut said = said.join(", ");
    if let Some(more @ 1..) = marks.len().checked_sub(NAMED) {
        said.push_str(&format!(" and {more} more"));
    }
    let shell = shell_name(database, MARKS);
    let count = i64::try_from(marks.len())
        .unwrap_or(i64::MAX)
        .saturating_add(large);
    Some(Finding {
        code: "archive.unknown_mark".to_owned(),
        severity: Severity::Warning,
        object: namespace(database, MARKS),
        message: format!(
            "{}{} of batches that were broken off between copying and deleting documents ({said}), which the history does not know as they are: nothing is taken back for them, and documents that they name are not archived. Whoever may write to {database} can write such marks. If the history was lost or put back, or they are another installation's or an older version's, look for documents that are in both places; then remove the marks",
            if more { "at least " } else { "" },
            crate::values::several_do(count, "mark", ("tells", "tell")),
        ),
        suggestion: Some(match marks.first() {
            Some(first) => format!("{shell}.deleteOne({{_id: {}}})", shell_text(&first.id)),
            None => {
                format!("{shell}.find({{state: {{$in: [\"copying\", \"left\"]}}}}, {{state: 1}})")
            }
        }),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn a_mark_is_known_as_it_was_written_only() {
        let mark = CopyMark {
            id: "m".to_owned(),
            owner: "maint 1".to_owned(),
            session: Some("00".to_owned()),
            from: ("app".to_owned(), "events".to_owned()),
            target: None,
            into: ("old".to_owned(), "events".to_owned()),
            uuid: "u".to_owned(),
            made: true,
            copies: Vec::new(),
        };
        let sealed = Sealed::of(&mark, Uuid::new_v4(), None);
        let memory = sealed.memory("m");
        let memories = HashMap::from([(memory.key, memory.value)]);
        assert_eq!(Sealed::known(&mark, &memories), Some(sealed.clone()));
        assert_eq!(Sealed::all(&memories).get("m"), Some(&sealed));
        let others = [
            CopyMark {
                id: "n".to_owned(),
                ..mark.clone()
            },
            CopyMark {
                owner: "maint 2".to_owned(),
                ..mark.clone()
            },
            CopyMark {
                session: None,
                ..mark.clone()
            },
            CopyMark {
                from: ("app".to_owned(), "users".to_owned()),
                ..mark.clone()
            },
            CopyMark {
                target: Some("cold".to_owned()),
                ..mark.clone()
            },
            CopyMark {
                into: ("hr".to_owned(), "events".to_owned()),
                ..mark.clone()
            },
            CopyMark {
                uuid: "v".to_owned(),
                ..mark.clone()
            },
        ];
        for other in &others {
            assert_eq!(Sealed::known(other, &memories), None, "{other:?}");
        }
        let document = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
        let other = Sealed::of(&mark, Uuid::new_v4(), None);
        assert_ne!(sealed.hash(&document), other.hash(&document));
        let told = unknown(&others.iter().collect::<Vec<_>>(), (false, 0), "app").unwrap();
        assert!(told.message.contains("and 4 more"), "{told:?}");
        let told = unknown(&[], (true, 2), "app").unwrap();
        assert!(
            told.message.starts_with("at least 2 marks tell"),
            "{told:?}"
        );
        assert_eq!(unknown(&[], (false, 0), "app"), None);
    }
}
