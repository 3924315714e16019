//! Names that no collection, or no database, of ours can have.

/// Where claims are kept, in the target's own database: whoever may work there may claim.
pub const CLAIMS: &str = "maint.claims";
/// The longest namespace that a server takes, in bytes.
pub const LONGEST_NAMESPACE: usize = 255;
/// The longest name of a database, in bytes.
const LONGEST_DATABASE: usize = 63;

/// What is wrong with the name of a collection, if anything.
pub fn misnamed(collection: &str) -> Option<&'static str> {
    if collection.is_empty() || collection.contains('\0') {
        Some("is no name of a collection")
    } else if collection.starts_with("system.") {
        Some("belongs to the server")
    } else if collection.starts_with("maint.") {
        Some("belongs to maint, which keeps its claims and the marks of archives in such")
    } else if collection.starts_with('.') {
        Some("begins with a dot, and no name of a collection does")
    } else if collection.contains('$') {
        Some("has a `$`, and no name of a collection has one")
    } else {
        None
    }
}

/// What is wrong with the name of a database, if anything.
pub fn misnamed_database(database: &str) -> Option<&'static str> {
    if database.is_empty() {
        Some("is no name of a database")
    } else if matches!(database, "admin" | "config" | "local") {
        Some("belongs to the server")
    } else if database.contains(['/', '\\', '.', ' ', '"', '$', '\0']) {
        Some("has a character that no name of a database has: none of `/\\. \"$` is allowed")
    } else if database.len() > LONGEST_DATABASE {
        Some("is longer than the 63 bytes of a database's name")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_servers_refuse_are_known() {
        for name in ["", "a\0b", "system.buckets.x", ".a", "a$b", "maint.claims"] {
            assert!(misnamed(name).is_some(), "{name}");
        }
        for name in [
            "a",
            "a.b",
            "a b",
            "systems",
            "maint",
            "maintenance.log",
            "ünï/\\*\"'",
            "a.",
        ] {
            assert_eq!(misnamed(name), None, "{name}");
        }
        let long = "x".repeat(64);
        for name in ["", "local", "a.b", "a b", "a$", &long] {
            assert!(misnamed_database(name).is_some(), "{name}");
        }
        for name in ["a", "a-b", "ünï", "locals"] {
            assert_eq!(misnamed_database(name), None, "{name}");
        }
    }
}
