/// Runs one test body against every PostgreSQL major version, each as a test
/// of its own: `rebuilds_bloat::pg14` to `rebuilds_bloat::pg18`.
///
/// ```ignore
/// for_each_version! {
///     /// What must be true.
///     async fn rebuilds_bloat(major: u32) {
///         let db = fresh_database(major).await;
///         …
///     }
/// }
/// ```
macro_rules! for_each_version {
    ($(#[$attribute:meta])* async fn $name:ident($major:ident: u32) $body:block) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "the body uses what the file around it uses")]
            use super::*;

            async fn body($major: u32) $body

            /// A session that waits for a lock for ever must not keep the others from their turn.
            async fn in_time(major: u32) {
                let longest = std::time::Duration::from_secs(600);
                let over = tokio::time::timeout(longest, body(major)).await;
                assert!(over.is_ok(), "not over after {longest:?}");
            }

            #[tokio::test]
            async fn pg14() { in_time(14).await }
            #[tokio::test]
            async fn pg15() { in_time(15).await }
            #[tokio::test]
            async fn pg16() { in_time(16).await }
            #[tokio::test]
            async fn pg17() { in_time(17).await }
            #[tokio::test]
            async fn pg18() { in_time(18).await }
        }
    };
}
