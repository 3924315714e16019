//! Hides known secrets in what others say: a server may repeat what it was sent, in any of the
//! forms it was sent in.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::redact;
use super::redact::MASK;

/// What is too short to be a secret, and would mask half of any text.
const SHORT: usize = 3;
/// How much of a text that was cut may be a secret of somebody else, that only its end would tell.
const FOREIGN: usize = 256;

/// What must not be shown of what a server says: it may repeat what it was sent.
#[derive(Clone, Default)]
pub struct Masks {
    /// The longest first: one may be a piece of another.
    words: Vec<String>,
}

impl Masks {
    /// Of these secrets, as they are and as HTTP and SMTP write them.
    pub fn of(secrets: impl IntoIterator<Item = String>) -> Masks {
        let mut words = Vec::new();
        for secret in secrets {
            if secret.len() <= SHORT {
                continue;
            }
            // Without what fills up the last group: it says nothing.
            let encoded = STANDARD_NO_PAD.encode(&secret);
            // In JSON a slash may be written so.
            words.push(encoded.replace('/', "\\/"));
            words.push(encoded);
            words.push(URL_SAFE_NO_PAD.encode(&secret));
            words.push(secret);
        }
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        words.dedup();
        Masks { words }
    }

    /// The text without them, and without whatever else looks like a secret.
    pub fn over(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for word in &self.words {
            shown = shown.replace(word, MASK);
        }
        redact(&shown)
    }

    /// The same of a text that was cut at its end: half a secret is one, too.
    pub fn over_cut(&self, text: &str) -> String {
        let mut shown = self.over(text);
        let longest = self.words.first().map_or(0, String::len).max(FOREIGN);
        let end = shown.floor_char_boundary(shown.len().saturating_sub(longest));
        shown.truncate(end);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_remains() {
        let masks = Masks::of(["u:P?W>S3CRET/x".to_owned(), "key".to_owned()]);
        for (text, shown) in [
            ("it is u:P?W>S3CRET/x, the key", "it is ***, the key"),
            ("got dTpQP1c+UzNDUkVUL3g=", "got ***="),
            ("got dTpQP1c-UzNDUkVUL3g", "got ***"),
            ("password=u:P?W", "password=***"),
        ] {
            assert_eq!(masks.over(text), shown);
        }
    }

    #[test]
    fn half_a_secret_does_not_remain_at_the_end() {
        let masks = Masks::of(["geheimer-weg".to_owned()]);
        for end in 1..12 {
            let text = format!("{}{}", "ü".repeat(300), &"geheimer-weg"[..end]);
            let shown = masks.over_cut(&text);
            assert!(shown.starts_with('ü') && shown.ends_with('ü'), "{shown}");
        }
        assert_eq!(masks.over_cut("short"), "");
    }
}
