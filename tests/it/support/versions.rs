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

            #[tokio::test]
            async fn pg14() { body(14).await }
            #[tokio::test]
            async fn pg15() { body(15).await }
            #[tokio::test]
            async fn pg16() { body(16).await }
            #[tokio::test]
            async fn pg17() { body(17).await }
            #[tokio::test]
            async fn pg18() { body(18).await }
        }
    };
}
