//! Mail addresses, checked as far as they can be without sending.

use std::fmt;
use std::str::FromStr;

use super::text::{Invalid, written_as_text};

/// A mail address, with or without a name: `dba@example.com`, `maint <maint@example.com>`.
///
/// Checked for plausibility only: whether it exists, the mail server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress {
    name: Option<String>,
    address: String,
}

written_as_text!(
    MailAddress,
    ToString::to_string,
    "maint-mail-address",
    "A mail address, with or without a name in front.",
    ["dba@example.com", "maint <maint@example.com>"]
);

impl MailAddress {
    /// The name shown to people, where one was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The bare address: `dba@example.com`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for MailAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "`{text}` is not a mail address; expected `dba@example.com` or \
                 `Name <dba@example.com>`"
            ))
        };
        // A line break would let a name smuggle in further headers.
        if text.chars().any(char::is_control) {
            return Err(wrong());
        }
        let (name, address) = match text.trim().strip_suffix('>') {
            Some(rest) => {
                let (name, address) = rest.split_once('<').ok_or_else(wrong)?;
                (Some(name.trim().trim_matches('"')), address.trim())
            }
            None => (None, text.trim()),
        };
        let (local, domain) = address.rsplit_once('@').ok_or_else(wrong)?;
        let bad = |c: char| c.is_whitespace() || "<>,;:()\"".contains(c);
        let labels_fine = domain.split('.').all(|label| !label.is_empty());
        if local.is_empty() || address.contains(bad) || local.contains('@') || !labels_fine {
            return Err(wrong());
        }
        Ok(Self {
            name: name.filter(|name| !name.is_empty()).map(str::to_owned),
            address: address.to_owned(),
        })
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => f.write_str(&self.address),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn tells_name_from_address() {
        let mail: MailAddress = "maint <maint@example.com>".parse().unwrap();
        assert_eq!(
            (mail.name(), mail.address()),
            (Some("maint"), "maint@example.com")
        );
        let bare: MailAddress = "root@localhost".parse().unwrap();
        assert_eq!((bare.name(), bare.address()), (None, "root@localhost"));
        for text in [
            "",
            "dba",
            "@x.y",
            "a@",
            "a@b..c",
            "a b@c.d",
            "x <a@b.c",
            "a@b@c",
            "a@b.c\nBcc: d@e.f",
        ] {
            assert!(text.parse::<MailAddress>().is_err(), "{text}");
        }
    }
}
