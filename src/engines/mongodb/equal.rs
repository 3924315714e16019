//! Which values MongoDB holds to be equal, as far as that can be told here.

use mongodb::bson::Bson;

/// Equal texts for values that are equal. Values that are equal may have different ones all the
/// same, such as 5 and a decimal 5: what is not found by it, the server has to be asked for.
pub(crate) fn key(value: &Bson) -> String {
    match value {
        Bson::Int32(n) => format!("n{}", f64::from(*n)),
        #[expect(clippy::cast_precision_loss, reason = "checked: exact ones only")]
        Bson::Int64(n) if n.unsigned_abs() <= 1 << 53 => format!("n{}", *n as f64),
        Bson::Double(n) => format!("n{n}"),
        other => format!("{other:?}"),
    }
}
