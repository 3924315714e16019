//! What servers say of errors, without anything that documents hold.

/// Codes of a server that is not, or no longer, one to write to, that shuts
/// down, or whose network fails: the same command may succeed in a moment.
pub(super) const PASSING: [i32; 14] = [
    6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436, 134,
];

/// Code: UserWritesBlocked.
pub(super) const BLOCKED: i32 = 371;

/// Code: DataCorruptionDetected.
pub(crate) const DAMAGED: i32 = 301;

/// What is said of it: documents are read along an index.
const INDEX_DAMAGED: &str = "an index of the collection is damaged: it has entries of documents that are not there, or differ. `validate` (kind: integrity) says which; where only indexes are damaged, dropping that one and making it anew mends it";

/// How JavaScript that throws what is no error is told of, before what it threw.
const THROWN: &str = "uncaught exception";

/// What is said of that.
const THREW: &str = "the JavaScript in it threw an error";

/// Longer than any message that helps, in characters.
const LONGEST: usize = 500;

/// Instead of what is left out.
const GONE: &str = "\u{2026}";

/// Codes that a server gives for one document of many though they are about the server, the
/// collection or our rights, besides those that pass by themselves: no other document would fare
/// better.
const OF_THE_SERVER: [i32; 34] = [
    // Our rights: Unauthorized, AuthenticationFailed, ReauthenticationRequired, UserWritesBlocked.
    13, 18, 391, BLOCKED,
    // It was ended, or its time was up: MaxTimeMSExpired, CursorKilled, Interrupted,
    // NetworkInterfaceExceededTimeLimit, TransactionExceededLifetimeLimitSeconds, ClientDisconnect.
    50, 237, 11601, 202, 290, 279,
    // Others are at work there: LockTimeout, LockBusy, WriteConflict, ConflictingOperationInProgress,
    // ObjectIsBusy, TemporarilyUnavailable.
    24, 46, 112, 117, 314, 365,
    // There is no room: FileStreamFailed, ExceededMemoryLimit, a quota, OutOfDiskSpace.
    39, 146, 12501, 14031,
    // Too few members confirm: WriteConcernFailed, UnknownReplWriteConcern,
    // UnsatisfiableWriteConcern.
    64, 79, 100,
    // The collection is not one to write to: NamespaceNotFound, InvalidNamespace,
    // CommandNotSupportedOnView, CollectionUUIDMismatch, databases whose names differ in case.
    26, 73, 166, 361, 13297,
    // A shard does not have it now: StaleEpoch, StaleDbVersion, StaleShardVersion,
    // CannotImplicitlyCreateCollection, ShardNotFound, MigrationConflict.
    150, 249, 63, 227, 70, 355,
];

/// Whether an error that a server gives for one document of many is about more than that document.
pub(crate) fn is_of_the_server(code: i32) -> bool {
    OF_THE_SERVER.contains(&code) || PASSING.contains(&code)
}

/// Codes whose message is about a server, its members or names, and repeats no document.
fn tells_names_only(code: i32) -> bool {
    is_of_the_server(code)
}

/// What a server says of a write that it refuses, without what was to be written. Its own words are
/// kept only where they are known to hold names and nothing else.
pub(super) fn of_a_write(code: i32, message: &str) -> String {
    let known = match code {
        // DuplicateKey: the name of the index, and then the values.
        11000 | 11001 | 12582 => return without_values(code, message),
        code if tells_names_only(code) => return without_values(code, message),
        66 => "the `_id` of a document does not change",
        121 => "the validator of the collection refuses a document",
        171 => "an index of the collection cannot hold two arrays of one document",
        10334 | 17419 | 17420 => "a document is too large",
        13027 | 16755 | 16804 => {
            "a geometric index of the collection cannot hold a document's value"
        }
        16766 => "a hashed index of the collection cannot hold an array",
        17261 | 17262 => "a text index of the collection does not know a document's language",
        17280 => "an entry is too long for an index of the collection",
        DAMAGED => INDEX_DAMAGED,
        _ => "the server refuses a document",
    };
    known.to_owned()
}

/// A message of the server without what documents hold: it names the values of keys that are there
/// twice, texts that are no numbers or dates, values of another type, and whole documents.
pub(super) fn without_values(code: i32, message: &str) -> String {
    let cut = |at: &str| message.split(at).next().unwrap_or(message).trim_end();
    let text = match code {
        DAMAGED => INDEX_DAMAGED.to_owned(),
        _ if met_in_documents(code, message) => of_documents(code, message),
        // ConversionFailure
        241 => quoted_away(message),
        16755 => cut(": {").to_owned(),
        _ if message.contains(" dup key:") => {
            duplicate(message).unwrap_or_else(|| cut(" dup key:").to_owned())
        }
        // IndexOptionsConflict, IndexKeySpecsConflict: what is in braces is how indexes are made.
        85 | 86 => message.to_owned(),
        // Before it the whole query is told, as a tree of many lines.
        _ => match message.split_once("planner returned error :: caused by :: ") {
            Some((_, why)) => format!("the query cannot be planned: {}", braces_away(why)),
            None => braces_away(message),
        },
    };
    let text = values_away(&text).replace(['\n', '\r', '\t'], " ");
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}{GONE}", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// Which unique index has a value already, of those that an error of this kind names.
fn duplicate(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("duplicate key error collection: ")?;
    let (whole, _) = rest.split_once(" dup key:")?;
    let (collection, index) = whole.split_once(" index: ")?;
    let index = index.split(" collation: ").next()?;
    Some(format!(
        "the unique index `{index}` of {collection} has a value already that another document would have"
    ))
}

/// Whether an error came up over the documents that were read, and not over how the command is
/// written: what it says then is made of their values.
fn met_in_documents(code: i32, message: &str) -> bool {
    let of_values = matches!(code, 139 | 10334 | 40228 | 40485 | 40523 | 5_439_014);
    let words = ["xecutor error", "time unit", THROWN];
    let met = words.iter().any(|word| message.contains(word));
    of_values || (met && !tells_names_only(code) && !message.contains(" dup key:"))
}

/// What is left of such an error: up to the first colon servers say what is wrong, and with which
/// operator; behind it stands what was met.
fn of_documents(code: i32, message: &str) -> String {
    let known = match code {
        139 => THREW,
        _ if message.contains(THROWN) => THREW,
        10334 => "a document would be larger than the 16 MB that one may have",
        40228 => "what is to be a document in `newRoot` is none",
        40485 => "a time zone is none that the server knows",
        _ => {
            let own = message.rsplit(" :: caused by :: ").next();
            let own = own.unwrap_or_default();
            let said = own.split([':', '{', '[', '"']).next().unwrap_or_default();
            let said = quoted_away(said);
            let said: String = said
                .split_whitespace()
                .map(|word| match word.contains(|c: char| c.is_ascii_digit()) {
                    true => GONE,
                    false => word,
                })
                .collect::<Vec<_>>()
                .join(" ");
            return format!("over one of the documents: {said}");
        }
    };
    format!("over one of the documents: {known}")
}

/// Everything from the first quotation mark to the last is left out.
fn quoted_away(message: &str) -> String {
    let mark = |c: char| c == '\'' || c == '"';
    match (message.find(mark), message.rfind(mark)) {
        (Some(first), Some(last)) if first < last => format!(
            "{}'{GONE}'{}",
            message.get(..first).unwrap_or_default(),
            message.get(last + 1..).unwrap_or_default()
        ),
        _ => message.to_owned(),
    }
}

/// Everything from the first brace to the last is left out: a text within may have braces of its own.
fn braces_away(message: &str) -> String {
    let Some(first) = message.find('{') else {
        return message.to_owned();
    };
    let rest = match message.rfind('}') {
        Some(last) if first < last => message.get(last + 1..).unwrap_or_default(),
        // What was cut off has no end.
        _ => "",
    };
    let before = message.get(..first).unwrap_or_default();
    format!("{before}{{{GONE}}}{rest}")
}

/// Where a pipeline, or what computes in it, names the value that it met, it is left out, and what
/// comes behind it.
fn values_away(message: &str) -> String {
    let met = [
        " with value ",
        " with value: ",
        "found value: ",
        "found value ",
        ", but is -",
        ", but is 0",
    ];
    let ends = met.iter().filter_map(|word| {
        let at = message.find(word)?;
        let kept = word.trim_end_matches(['-', '0']).trim_end();
        Some(at + kept.len())
    });
    match ends.min() {
        Some(end) => format!("{} {GONE}", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_holds_what_documents_hold() {
        for (code, message, told) in [
            (
                11000,
                "E11000 duplicate key error collection: shop.m index: n_1 dup key: { n: \"a secret\" }",
                "the unique index `n_1` of shop.m has a value already that another document would have",
            ),
            (
                241,
                "Failed to parse number 'a 'secret' word' in $convert with no onError value: Bad digit",
                "Failed to parse number '…' in $convert with no onError value: Bad digit",
            ),
            (
                16755,
                "Can't extract geo keys: { _id: 1, at: \"a secret\" } can't project",
                "Can't extract geo keys",
            ),
            (
                9,
                "Field 'x' of text index contains an array in document: { _id: 1, s: \"a } secret\" }",
                "Field 'x' of text index contains an array in document: {…}",
            ),
            (9, "it was at { _id: 1, s: \"a sec", "it was at {…}"),
            (
                40489,
                "$dateFromString requires that 'dateString' be a string, found: int with value 4711",
                "$dateFromString requires that 'dateString' be a string, found: int with value …",
            ),
            (
                28766,
                "$ln's argument must be a positive number, but is -4711",
                "$ln's argument must be a positive number, but is …",
            ),
            (
                86,
                "Requested index: { key: { a: 1 } }",
                "Requested index: { key: { a: 1 } }",
            ),
            (2, "unknown operator: $foo", "unknown operator: $foo"),
            (
                291,
                "error processing query: ns=shop.p batchSize=101Tree: $and\n    at $lt \"a secret\"\n    GEONEAR  field=loc\nSort: {}\nProj: {}\n planner returned error :: caused by :: unable to find index for $geoNear query",
                "the query cannot be planned: unable to find index for $geoNear query",
            ),
            (2, "one\n\ttwo", "one  two"),
            (
                10334,
                "PlanExecutor error during aggregation :: caused by :: BSONObj size: 17000000 (0x1036640) is invalid. Size must be between 0 and 16793600(16MB) First element: _id: \"a secret\"",
                "over one of the documents: a document would be larger than the 16 MB that one may have",
            ),
            (
                40485,
                "unrecognized time zone identifier: \"a secret\"",
                "over one of the documents: a time zone is none that the server knows",
            ),
            (
                9,
                "PlanExecutor error during aggregation :: caused by :: unknown time unit value: secret",
                "over one of the documents: unknown time unit value",
            ),
            (
                16554,
                "PlanExecutor error during aggregation :: caused by :: $add only supports numeric or date types, not string",
                "over one of the documents: $add only supports numeric or date types, not string",
            ),
            (
                40515,
                "Executor error during find command :: caused by :: 'year' must evaluate to an integer, found secret 4711 of 'x'",
                "over one of the documents: '…'",
            ),
            (
                139,
                "Error: a secret :\n@:1:9",
                "over one of the documents: the JavaScript in it threw an error",
            ),
        ] {
            assert_eq!(without_values(code, message), told);
        }
        assert_eq!(without_values(2, &"ü".repeat(900)).chars().count(), 501);
    }

    #[test]
    fn of_a_write_only_words_that_are_known_to_hold_names_are_told() {
        for (code, message, told) in [
            (
                11000,
                "E11000 duplicate key error collection: shop.m index: n_1 dup key: { n: \"a secret\" }",
                "the unique index `n_1` of shop.m has a value already that another document would have",
            ),
            (
                171,
                "cannot index parallel arrays [secret] [z]",
                "an index of the collection cannot hold two arrays of one document",
            ),
            (4711, "a secret", "the server refuses a document"),
            (10107, "not master", "not master"),
        ] {
            assert_eq!(of_a_write(code, message), told);
        }
    }

    #[test]
    fn an_error_is_about_the_document_unless_it_is_about_the_server() {
        for code in [171, 16766, 17261, 17262, 13027, 16804, 201, 121, 11000, 1] {
            assert!(!is_of_the_server(code), "{code}");
        }
        for code in [13, 91, 10107, 11600, 11601, 50, 64, 14031, 371, 26] {
            assert!(is_of_the_server(code), "{code}");
        }
    }
}
