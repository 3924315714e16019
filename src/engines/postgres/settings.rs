//! What becomes of every setting that a role, a database or the server can
//! give a session: pinned, demanded, or left alone, each with the reason.
//!
//! `tests/it/settings.rs` fails where a server has a setting that is not
//! here, and where `docs/settings.md` does not name one that is pinned.

/// A setting that every session of ours gives a value.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    /// Its name.
    pub name: &'static str,
    /// The value, as SQL.
    pub value: &'static str,
    /// The first major version that has it.
    pub since: i32,
    /// Whether statements of the user's own get the role's and database's value instead.
    pub theirs: bool,
    /// What the value of a role or database would spoil.
    pub reason: &'static str,
}

const fn pin(name: &'static str, value: &'static str, reason: &'static str) -> Pin {
    Pin {
        name,
        value,
        since: 14,
        theirs: true,
        reason,
    }
}

const fn always(name: &'static str, value: &'static str, reason: &'static str) -> Pin {
    Pin {
        theirs: false,
        ..pin(name, value, reason)
    }
}

/// Pinned, in this order: first what could end the session before the rest is
/// said, then `search_path`, before anything is looked up.
pub const PINNED: &[Pin] = &[
    always(
        "statement_timeout",
        "0",
        "limits are maint's own: `limits.step_timeout`, the window and the budget",
    ),
    Pin {
        since: 17,
        ..always(
            "transaction_timeout",
            "0",
            "it ends the connection in the middle of a long rebuild",
        )
    },
    always(
        "idle_session_timeout",
        "0",
        "the session that holds the claim is idle while others work",
    ),
    always(
        "idle_in_transaction_session_timeout",
        "0",
        "batches stay in their transaction while files are written and proved",
    ),
    always(
        "search_path",
        "pg_catalog, pg_temp",
        "nobody may put a function, operator or type of theirs in front of the server's own",
    ),
    always(
        "lock_timeout",
        "'10s'",
        "nobody may queue behind a statement of ours for long; steps have their own",
    ),
    always(
        "client_connection_check_interval",
        "'2s'",
        "the server ends a statement whose client was killed, instead of building on for hours",
    ),
    always(
        "tcp_keepalives_idle",
        "60",
        "the server lets go of a session, and of its locks, whose machine is gone: two hours without",
    ),
    always("tcp_keepalives_interval", "10", "the same"),
    always("tcp_keepalives_count", "6", "the same"),
    always(
        "client_min_messages",
        "warning",
        "warnings are part of the record",
    ),
    always(
        "exit_on_error",
        "off",
        "a statement that fails would end the session with its locks",
    ),
    always(
        "default_transaction_read_only",
        "off",
        "maintenance writes; what only reads says so itself",
    ),
    pin(
        "default_transaction_isolation",
        "'read committed'",
        "batches choose their own; statements that cannot run in a snapshot would fail",
    ),
    pin(
        "default_transaction_deferrable",
        "off",
        "reading would wait for writers",
    ),
    pin(
        "plan_cache_mode",
        "force_custom_plan",
        "questions are prepared once and asked with other values; a plan for any value is a bad one for most",
    ),
    pin(
        "row_security",
        "on",
        "what must see all rows switches it off, so that the server refuses instead of hiding some",
    ),
    pin(
        "TimeZone",
        "'UTC'",
        "cut-offs and bounds are written in UTC",
    ),
    pin(
        "DateStyle",
        "'ISO, YMD'",
        "`01/02/2026` means two days; bounds and archived values are read back",
    ),
    pin(
        "IntervalStyle",
        "'postgres'",
        "archived intervals are read back",
    ),
    pin(
        "extra_float_digits",
        "1",
        "less rounds floating-point numbers and geometry wherever they travel as text",
    ),
    pin("bytea_output", "'hex'", "archived bytes are read back"),
    pin(
        "array_nulls",
        "on",
        "off reads NULL in an array as the word NULL",
    ),
    pin("xmlbinary", "'base64'", "archived values are read back"),
    pin(
        "xmloption",
        "'content'",
        "`document` refuses values that a column of type xml may hold",
    ),
    pin(
        "lc_monetary",
        "'C'",
        "values of type money travel as text from one database to another",
    ),
    pin(
        "standard_conforming_strings",
        "on",
        "off makes backslashes in literals mean something else",
    ),
    pin(
        "backslash_quote",
        "safe_encoding",
        "belongs to standard_conforming_strings",
    ),
    pin(
        "quote_all_identifiers",
        "off",
        "definitions that the server writes are compared with what they were",
    ),
    pin(
        "transform_null_equals",
        "off",
        "`x = NULL` in a condition would choose rows",
    ),
    pin(
        "gin_fuzzy_search_limit",
        "0",
        "a search in a GIN index would leave out rows at random, such as those to be kept",
    ),
    pin(
        "default_tablespace",
        "''",
        "new tables and partitions would land on a disk that nobody chose for them",
    ),
    pin(
        "temp_tablespaces",
        "''",
        "a role's choice for its own queries is no place for sorting an index",
    ),
    pin(
        "default_table_access_method",
        "heap",
        "a table that is made says itself what is not a heap",
    ),
    pin(
        "default_toast_compression",
        "pglz",
        "every build of the server can read it",
    ),
    pin(
        "synchronous_commit",
        "on",
        "what was copied elsewhere must be safe there before it is deleted here",
    ),
    pin(
        "jit",
        "off",
        "many short statements; compiling one costs more than running it",
    ),
];

/// Settings that only a superuser may change. Where a session begins with
/// another value and cannot change it, it is refused: name, value, why.
pub const DEMANDED: &[(&str, &str, &str)] = &[
    (
        "session_replication_role",
        "origin",
        "foreign keys and triggers do not fire in a session that replays another server's changes",
    ),
    (
        "zero_damaged_pages",
        "off",
        "reading a damaged page would delete what is on it",
    ),
    (
        "ignore_checksum_failure",
        "off",
        "damaged pages would be read, and archived, as if they were sound",
    ),
];

/// Left as role, database and server have them: names, a space between each, and why.
pub const LEFT: &[(&str, &str)] = &[
    (
        "application_name client_encoding",
        "said when the connection is opened, which counts for more than what roles and databases have",
    ),
    (
        "constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction \
         default_statistics_target effective_cache_size enable_async_append enable_bitmapscan \
         enable_distinct_reordering enable_gathermerge enable_group_by_reordering enable_hashagg enable_hashjoin \
         enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material enable_memoize \
         enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning \
         enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate \
         enable_self_join_elimination enable_seqscan enable_sort enable_tidscan from_collapse_limit geqo geqo_effort \
         geqo_generations geqo_pool_size geqo_seed geqo_selection_bias geqo_threshold jit_above_cost \
         jit_inline_above_cost jit_optimize_above_cost join_collapse_limit min_parallel_index_scan_size \
         min_parallel_table_scan_size parallel_setup_cost parallel_tuple_cost random_page_cost \
         recursive_worktable_factor seq_page_cost synchronize_seqscans \
         jit_expressions jit_tuple_deforming enable_eager_aggregate min_eager_agg_group_size",
        "they change how quickly an answer comes, never which",
    ),
    (
        "backend_flush_after commit_delay commit_siblings deadlock_timeout effective_io_concurrency file_copy_method \
         gin_pending_list_limit hash_mem_multiplier io_combine_limit logical_decoding_work_mem maintenance_io_concurrency \
         maintenance_work_mem max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather \
         max_stack_depth parallel_leader_participation temp_buffers temp_file_limit vacuum_buffer_usage_limit \
         vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss \
         wal_compression wal_init_zero wal_recycle wal_sender_timeout wal_skip_threshold work_mem \
         wal_receiver_timeout wal_sender_shutdown_timeout \
         tcp_user_timeout",
        "how much memory, how many workers and how much of the disk maintenance may take is for the administrator \
         to say, and this is where they say it",
    ),
    (
        "vacuum_failsafe_age vacuum_freeze_min_age vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate \
         vacuum_multixact_failsafe_age vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate",
        "when rows are frozen, and whether tables are truncated, is the administrator's choice; what a task wants \
         otherwise it says in its statement",
    ),
    (
        "compute_query_id debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten \
         debug_print_raw_parse log_connections log_disconnections log_duration log_error_verbosity log_executor_stats \
         log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement log_min_error_statement \
         log_min_messages log_parameter_max_length log_parameter_max_length_on_error log_parser_stats \
         log_planner_stats log_replication_commands log_statement log_statement_sample_rate log_statement_stats \
         log_temp_files log_transaction_sample_rate stats_fetch_consistency track_activities track_cost_delay_timing \
         track_counts track_functions track_io_timing track_wal_io_timing update_process_title backtrace_functions \
         timing_clock_source trace_notify trace_sort trace_locks trace_userlocks trace_lwlocks",
        "what the server writes into its log and counts about us",
    ),
    (
        "lc_messages",
        "errors are judged by their SQLSTATE; their words are only shown",
    ),
    (
        "lc_numeric lc_time default_text_search_config timezone_abbreviations icu_validation_level",
        "they are the database's own language: `to_char` and searches in conditions mean what they mean there",
    ),
    (
        "check_function_bodies createrole_self_grant dynamic_library_path escape_string_warning extension_control_path \
         lo_compat_privileges local_preload_libraries md5_password_warnings password_encryption scram_iterations \
         output_plugin_libraries session_preload_libraries session_authorization role event_triggers",
        "they concern making functions, roles and extensions, which maint does not, or who we are, which the role says",
    ),
    (
        "restrict_nonsystem_relation_kind transaction_deferrable transaction_isolation transaction_read_only \
         seed is_superuser",
        "they belong to one transaction or statement, or make the server refuse, which is seen",
    ),
    (
        "allow_in_place_tablespaces allow_system_table_mods debug_copy_parse_plan_trees debug_discard_caches \
         debug_logical_replication_streaming debug_parallel_query debug_raw_expression_coverage_test \
         debug_write_read_parse_plan_trees force_parallel_mode ignore_invalid_pages ignore_system_indexes \
         jit_debugging_support jit_dump_bitcode jit_profiling_support logical_decoding_mode optimize_bounded_sort \
         post_auth_delay pre_auth_delay wal_consistency_checking wal_debug send_abort_for_crash send_abort_for_kill",
        "tools of those who develop the server; none changes an answer",
    ),
];

/// Settings that must be the same after code of others has run in a session: those that are pinned
/// or demanded, and who we are, which comes first. Limits are set for each statement anew.
pub(super) fn held() -> Vec<&'static str> {
    let limits = ["statement_timeout", "lock_timeout"];
    let pinned = PINNED.iter().map(|pin| pin.name);
    ["session_authorization", "role", "client_encoding"]
        .into_iter()
        .chain(pinned.filter(|name| !limits.contains(name)))
        .chain(DEMANDED.iter().map(|(name, ..)| *name))
        .collect()
}

/// One message that pins everything a server of this major version knows.
pub(super) fn pins(major: i32) -> String {
    let known = PINNED.iter().filter(|pin| pin.since <= major);
    let set: Vec<String> = known
        .map(|pin| format!("SET {} = {}", pin.name, pin.value))
        .collect();
    set.join("; ")
}

/// One message that gives statements of the user's own what role and database have.
pub(super) fn theirs(major: i32) -> String {
    let theirs = PINNED.iter().filter(|pin| pin.theirs && pin.since <= major);
    let reset: Vec<String> = theirs.map(|pin| format!("RESET {}", pin.name)).collect();
    reset.join("; ")
}

/// Ours even while a statement of ours stores what expressions of the user's make. Names that are
/// quoted without need: `REFRESH MATERIALIZED VIEW CONCURRENTLY` writes names of its own with
/// them, and fails. And what is remembered as done has to outlive a crash.
const NOT_FOR_VALUES: &[&str] = &["quote_all_identifiers", "synchronous_commit"];

/// One message that gives those statements what role and database have.
pub(super) fn for_values(major: i32) -> String {
    let pinned = PINNED
        .iter()
        .filter(|pin| pin.theirs && pin.since <= major && !NOT_FOR_VALUES.contains(&pin.name));
    let reset: Vec<String> = pinned.map(|pin| format!("RESET {}", pin.name)).collect();
    reset.join("; ")
}

/// `17` of `17.2 (Debian …)`, `18` of `18beta1`.
pub(super) fn major_of(version: &str) -> Option<i32> {
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version.get(..digits.unwrap_or(version.len()))?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_pinned_where_the_server_knows_it() {
        assert!(!pins(16).contains("transaction_timeout"));
        assert!(pins(17).contains("SET transaction_timeout = 0"));
        assert!(pins(14).contains("SET search_path = pg_catalog, pg_temp"));
        assert!(!for_values(18).contains("quote_all") && for_values(18).contains("RESET TimeZone"));
        assert!(!theirs(18).contains("search_path") && theirs(18).contains("RESET TimeZone"));
    }

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (text, major) in [
            ("17.2 (Debian 17.2-1)", Some(17)),
            ("18beta1", Some(18)),
            ("14", Some(14)),
            ("odd", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }
}
