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
    ($($test:tt)*) => {
        for_versions! { [pg14 = 14, pg15 = 15, pg16 = 16, pg17 = 17, pg18 = 18] $($test)* }
    };
}

/// The same with the oldest and the newest only: for what asks the server nothing that one version
/// answers in another way than its neighbours, such as rows that are copied, deleted and put back.
macro_rules! for_oldest_and_newest {
    ($($test:tt)*) => { for_versions! { [pg14 = 14, pg18 = 18] $($test)* } };
}

/// The test of each of these versions. A long test of what is the same in all of them has one of its own: one of those
/// between the oldest and the newest, where it can, so that they are met, too.
macro_rules! for_versions {
    ([$($version:ident = $number:literal),*] $(#[$attribute:meta])* async fn $name:ident($major:ident: u32) $body:block) => {
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "the body uses what the file around it uses")]
            use super::*;

            async fn body($major: u32) $body

            $(
                #[tokio::test]
                async fn $version() { crate::support::versions::in_time(body($number)).await }
            )*
        }
    };
}

/// A session that waits for a lock for ever must not keep the others from their turn.
pub(crate) async fn in_time(body: impl Future<Output = ()>) {
    let longest = std::time::Duration::from_secs(600);
    let over = tokio::time::timeout(longest, body).await;
    assert!(over.is_ok(), "not over after {longest:?}");
}
