//! Arrays of PostgreSQL as lists: elements in their order, and beside them
//! the dimensions where a list alone does not tell them.

use super::ParquetError;
use super::plain::plain;
use super::types::Form;

/// Where an array as the server sends it says whether it may hold nulls, and
/// the id of its element type: nothing of either belongs to its value.
const NOT_VALUE: std::ops::Range<usize> = 4..12;
/// The most dimensions an array can have.
const MOST: i32 = 6;

/// An array as the server sends it, taken apart.
pub(super) struct Array<'a> {
    /// Length and lower bound of each dimension; none where it is empty.
    pub(super) dimensions: Vec<(i32, i32)>,
    /// Row by row.
    pub(super) elements: Vec<Option<&'a [u8]>>,
}

impl<'a> Array<'a> {
    /// `None` where the bytes are no array.
    pub(super) fn parse(mut bytes: &'a [u8]) -> Option<Array<'a>> {
        let rest = &mut bytes;
        let count = number(rest)?;
        take(rest, NOT_VALUE.len())?;
        if !(0..=MOST).contains(&count) {
            return None;
        }
        let dimensions = (0..count)
            .map(|_| Some((number(rest)?, number(rest)?)))
            .collect::<Option<Vec<_>>>()?;
        let mut elements = Vec::new();
        while !rest.is_empty() {
            elements.push(match usize::try_from(number(rest)?) {
                Ok(length) => Some(take(rest, length)?),
                Err(_) => None,
            });
        }
        let held = if dimensions.is_empty() {
            Some(0)
        } else {
            dimensions.iter().try_fold(1_usize, |all, (length, _)| {
                all.checked_mul(usize::try_from(*length).ok()?)
            })
        };
        (held == Some(elements.len())).then_some(Array {
            dimensions,
            elements,
        })
    }

    /// The dimensions as the server writes them, such as `[0:1][1:3]`; `None`
    /// for what a list is by itself: one dimension that begins at 1.
    pub(super) fn shape(&self) -> Option<String> {
        match *self.dimensions {
            [] | [(_, 1)] => None,
            ref dimensions => Some(
                dimensions
                    .iter()
                    .map(|(length, lower)| format!("[{lower}:{}]", lower + length - 1))
                    .collect(),
            ),
        }
    }

    /// As the server reads it; elements have this form.
    pub(super) fn literal(&self, form: Form) -> Option<String> {
        let mut out = String::new();
        if self.dimensions.is_empty() {
            out.push_str("{}");
            return Some(out);
        }
        if let Some(shape) = self.shape() {
            out.push_str(&shape);
            out.push('=');
        }
        // How many elements a brace of each depth holds.
        let mut held = Vec::new();
        let mut all = 1;
        for (length, _) in self.dimensions.iter().rev() {
            all *= usize::try_from(*length).ok()?;
            held.push(all);
        }
        let mut text = String::new();
        for (n, element) in self.elements.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            let begins = held.iter().filter(|held| n.is_multiple_of(**held));
            out.extend(begins.map(|_| '{'));
            match element {
                Some(bytes) => {
                    text.clear();
                    plain(form, bytes, &mut text)?;
                    out.push('"');
                    for c in text.chars() {
                        if matches!(c, '"' | '\\') {
                            out.push('\\');
                        }
                        out.push(c);
                    }
                    out.push('"');
                }
                None => out.push_str("NULL"),
            }
            let ends = held.iter().filter(|held| (n + 1).is_multiple_of(**held));
            out.extend(ends.map(|_| '}'));
        }
        Some(out)
    }
}

/// The array that a list and its dimensions tell, as [`parts`] has it.
pub(super) fn encode(
    shape: Option<&str>,
    elements: &[Option<Vec<u8>>],
) -> Result<Vec<u8>, ParquetError> {
    let damaged = || ParquetError::Value {
        column: "a list".to_owned(),
        message: "its dimensions do not fit its elements".to_owned(),
    };
    let count = i32::try_from(elements.len()).map_err(|_| damaged())?;
    let dimensions = match shape {
        Some(shape) => read_shape(shape).ok_or_else(damaged)?,
        None if count == 0 => Vec::new(),
        None => vec![(count, 1)],
    };
    let mut out = Vec::new();
    let depth = i32::try_from(dimensions.len()).map_err(|_| damaged())?;
    out.extend(depth.to_be_bytes());
    out.extend([0; NOT_VALUE.end - NOT_VALUE.start]);
    for (length, lower) in dimensions {
        out.extend(length.to_be_bytes());
        out.extend(lower.to_be_bytes());
    }
    for element in elements {
        match element {
            Some(bytes) => {
                let length = i32::try_from(bytes.len()).map_err(|_| damaged())?;
                out.extend(length.to_be_bytes());
                out.extend(bytes);
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    Array::parse(&out).ok_or_else(damaged)?;
    Ok(out)
}

/// What of an array as the server sends it belongs to its value.
pub(super) fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let before = bytes.get(..NOT_VALUE.start).unwrap_or(bytes);
    (before, bytes.get(NOT_VALUE.end..).unwrap_or_default())
}

fn read_shape(shape: &str) -> Option<Vec<(i32, i32)>> {
    shape
        .strip_prefix('[')?
        .strip_suffix(']')?
        .split("][")
        .map(|dimension| {
            let (lower, upper) = dimension.split_once(':')?;
            let (lower, upper): (i32, i32) = (lower.parse().ok()?, upper.parse().ok()?);
            Some((upper.checked_sub(lower)?.checked_add(1)?, lower))
        })
        .collect()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<i32> {
    take(rest, 4)?.try_into().ok().map(i32::from_be_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_any_shape() {
        let element = |text: &str| Some(text.as_bytes().to_vec());
        for (shape, elements, literal) in [
            (None, vec![], "{}"),
            (
                None,
                vec![element("a,b"), None, element("NULL"), element("\"\\")],
                r#"{"a,b",NULL,"NULL","\"\\"}"#,
            ),
            (Some("[0:0]"), vec![None], "[0:0]={NULL}"),
            (
                Some("[1:2][-1:0]"),
                vec![element("a"), element(""), element("c"), None],
                r#"[1:2][-1:0]={{"a",""},{"c",NULL}}"#,
            ),
            (
                Some("[1:1][1:2][1:1]"),
                vec![element("a"), element("b")],
                r#"[1:1][1:2][1:1]={{{"a"},{"b"}}}"#,
            ),
        ] {
            let bytes = encode(shape, &elements).unwrap();
            let array = Array::parse(&bytes).unwrap();
            assert_eq!(array.shape().as_deref(), shape);
            assert_eq!(array.literal(Form::Text).unwrap(), literal);
        }
        for shape in ["[1:3]", "[1:2][1:2]", "[2:1]", "1:2", "[1:2", "[a:b]", ""] {
            assert!(
                encode(Some(shape), &[element("a"), None]).is_err(),
                "{shape}"
            );
        }
        let bytes = encode(None, &[element("ab")]).unwrap();
        for cut in 0..bytes.len() {
            assert!(Array::parse(&bytes[..cut]).is_none(), "{cut}");
        }
    }
}
