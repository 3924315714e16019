//! The ports behind an S3-compatible store, for who lets others through to them.

use std::collections::BTreeSet;

use crate::engines::Ports;

/// Where the variables of a store say that it listens, as [`super::Storage::open`] takes them.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
/// Where the stores of Amazon do.
const DEFAULT_PORT: u16 = 443;

/// The TCP ports behind an address of files; `env` looks up variables. None for a folder.
pub fn ports(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Ports {
    let mut numbers = BTreeSet::new();
    if !url.starts_with("s3://") {
        return Ports {
            numbers,
            guess: None,
        };
    }
    let mut guess = Some("AWS_ENDPOINT_URL is not set here".to_owned());
    for name in ENDPOINTS {
        let Some(value) = env(name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let parsed = url::Url::parse(&value).ok();
        match parsed.and_then(|url| url.port_or_known_default()) {
            Some(port) => {
                numbers.insert(port);
                guess = None;
            }
            None if numbers.is_empty() => guess = Some(format!("{name} is no URL here")),
            None => {}
        }
    }
    if numbers.is_empty() {
        numbers.insert(DEFAULT_PORT);
    }
    Ports { numbers, guess }
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn the_endpoint_says_the_port() {
        for (endpoint, expected, guessed) in [
            ("http://minio:9000", vec![9000], false),
            ("http://minio", vec![80], false),
            ("https://minio/", vec![443], false),
            ("minio", vec![443], true),
            ("", vec![443], true),
        ] {
            let env = |name: &str| (name == "AWS_ENDPOINT_URL").then(|| endpoint.to_owned());
            let found = ports("s3://bucket/prefix", &env);
            assert!(found.numbers.into_iter().eq(expected), "{endpoint}");
            assert_eq!(found.guess.is_some(), guessed, "{endpoint}");
            let folder = ports("file:///var/lib/maint/a", &env);
            assert!(folder.numbers.is_empty() && folder.guess.is_none());
        }
    }
}
