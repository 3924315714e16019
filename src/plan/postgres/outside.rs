//! What is told of a partition that is out of its table, or half out, and does not go on its way.

use crate::plan::{Finding, Severity};

/// The finding about the partition `object`: its rows are missed by whoever asks the table.
pub fn out_of_its_table(object: String, message: String, suggestion: Option<String>) -> Finding {
    Finding {
        code: "partitions.outside".to_owned(),
        severity: Severity::Critical,
        object,
        message,
        suggestion,
    }
}
