//! Why a file cannot be written or read, in one line.

use crate::values::with_causes;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The address makes no sense.
    #[error(
        "`{url}` is no place for files: {why}; expected `file:///folder` or `s3://bucket/prefix`"
    )]
    Address {
        /// As written.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The disk refused.
    #[error("{path} cannot be {doing}")]
    Disk {
        /// Which file.
        path: String,
        /// `written`, `read` or `removed`.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// What lies there is not what is to be read.
    #[error("{path} cannot be read: {why}")]
    Odd {
        /// Which file.
        path: String,
        /// What it is instead.
        why: String,
    },
    /// The store refused, or could not be reached.
    #[error("{path} cannot be {doing}")]
    Store {
        /// Which file.
        path: String,
        /// `written`, `read` or `removed`.
        doing: &'static str,
        /// What the store says.
        #[source]
        source: Refusal,
    },
}

/// What a store answers, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    text: String,
    /// Whether there is no such file.
    missing: bool,
}

impl Refusal {
    pub(super) fn of(error: &object_store::Error) -> Refusal {
        Refusal {
            text: said(&with_causes(error)),
            missing: matches!(error, object_store::Error::NotFound { .. }),
        }
    }
}

/// What is between `<NAME>` and its end.
fn within(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once('<')?;
    Some(inner.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a store says, without its markup: the code and the sentence, and what helps.
fn said(whole: &str) -> String {
    let Some(code) = within(whole, "Code") else {
        let plain = whole.split('<').next().unwrap_or(whole);
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        return plain
            .trim_end_matches([':', ' '])
            .chars()
            .take(400)
            .collect();
    };
    let helps = match code.as_str() {
        "NoSuchBucket" => "; make the bucket, or correct its name",
        "AccessDenied" => "; the key needs the right to put, get, list and delete objects there",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            "; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => "; look at AWS_REGION",
        _ => "",
    };
    let sentence = within(whole, "Message").unwrap_or_default();
    let sentence: String = sentence.chars().take(200).collect();
    format!("the store answers {code}: {sentence}{helps}")
}

impl StorageError {
    /// Whether the place has answered, and the file is not there, or is not
    /// what was written; otherwise nothing is known of it.
    pub fn is_about_the_file(&self) -> bool {
        match self {
            StorageError::Odd { .. } => true,
            StorageError::Disk { source, .. } => is_no_file(source),
            StorageError::Store { source, .. } => source.missing,
            StorageError::Address { .. } => false,
        }
    }
}

pub(super) fn is_no_file(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_a_store_answers_is_one_line_without_markup() {
        let whole = "Object at location a not found: Server returned 404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code>\n<Message>The specified\n bucket does not exist</Message><BucketName>b</BucketName></Error>";
        assert_eq!(
            said(whole),
            "the store answers NoSuchBucket: The specified bucket does not exist; make the bucket, or correct its name"
        );
        let plain = "Generic S3 error: error sending request: <html>\n<body>Bad gateway</body>";
        assert_eq!(said(plain), "Generic S3 error: error sending request");
    }
}
