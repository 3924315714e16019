//! Texts that must not be seen.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use super::redact::MASK;
use super::text::{Invalid, written_as_text};

/// A text that must not be seen: a URL with a password, a webhook's address.
///
/// `Debug`, `Display` and serde show `***`; only [`expose`](Self::expose) gives it away.
#[derive(Clone)]
pub struct Secret(SecretString);

written_as_text!(
    Secret,
    |_| MASK.to_owned(),
    "maint-secret",
    "A secret: written out, or `${VARIABLE}`, or `file:/path` to read it from a file.",
    ["${DATABASE_URL}", "file:/run/secrets/database-url"]
);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself: to connect with, never to show.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for Secret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }
}
