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
    /// How many elements all dimensions hold.
    pub(super) count: usize,
    /// The elements as the server sends them; [`Array::parse`] has walked them once.
    held: &'a [u8],
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
        let held = *rest;
        let mut count = 0;
        while !rest.is_empty() {
            element(rest)?;
            count += 1;
        }
        (holds(&dimensions) == Some(count)).then_some(Array {
            dimensions,
            count,
            held,
        })
    }

    /// The elements, row by row. They are not gathered: a large array has millions.
    pub(super) fn elements(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut rest = self.held;
        std::iter::from_fn(move || element(&mut rest))
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

    /// As the server writes it, and reads it; elements have this form.
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
        for (n, element) in self.elements().enumerate() {
            if n > 0 {
                out.push(',');
            }
            let begins = held.iter().filter(|held| n.is_multiple_of(**held));
            out.extend(begins.map(|_| '{'));
            match element {
                Some(bytes) => {
                    text.clear();
                    plain(form, bytes, &mut text)?;
                    quoted(&text, &mut out);
                }
                None => out.push_str("NULL"),
            }
            let ends = held.iter().filter(|held| (n + 1).is_multiple_of(**held));
            out.extend(ends.map(|_| '}'));
        }
        Some(out)
    }
}

/// An element as the server writes it: in quotes only where it could be taken for something else
/// (`array_out` in `arrayfuncs.c`), so that the text of an array is what it was.
fn quoted(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t'..='\r');
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// The array that a list and its dimensions tell, as [`parts`] has it. `append` writes
/// an element, and says whether it is there; about `bytes` are expected of all of them.
pub(super) fn encode(
    shape: Option<&str>,
    count: usize,
    bytes: usize,
    mut append: impl FnMut(usize, &mut Vec<u8>) -> bool,
) -> Result<Vec<u8>, ParquetError> {
    let damaged = || ParquetError::Value {
        column: "a list".to_owned(),
        message: "its dimensions do not fit its elements".to_owned(),
    };
    let dimensions = match shape {
        Some(shape) => read_shape(shape).ok_or_else(damaged)?,
        None if count == 0 => Vec::new(),
        None => vec![(i32::try_from(count).map_err(|_| damaged())?, 1)],
    };
    let depth = i32::try_from(dimensions.len()).map_err(|_| damaged())?;
    if depth > MOST || holds(&dimensions) != Some(count) {
        return Err(damaged());
    }
    let before = NOT_VALUE.end + dimensions.len() * 8;
    let mut out = Vec::with_capacity(before + count.saturating_mul(4).saturating_add(bytes));
    out.extend(depth.to_be_bytes());
    out.extend([0; NOT_VALUE.end - NOT_VALUE.start]);
    for (length, lower) in dimensions {
        out.extend(length.to_be_bytes());
        out.extend(lower.to_be_bytes());
    }
    for n in 0..count {
        let at = out.len();
        out.extend((-1_i32).to_be_bytes());
        let begins = out.len();
        if append(n, &mut out) {
            let length = i32::try_from(out.len() - begins).map_err(|_| damaged())?;
            let place = out.get_mut(at..begins).ok_or_else(damaged)?;
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
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

/// How many elements dimensions hold.
fn holds(dimensions: &[(i32, i32)]) -> Option<usize> {
    if dimensions.is_empty() {
        return Some(0);
    }
    dimensions.iter().try_fold(1_usize, |all, (length, _)| {
        all.checked_mul(usize::try_from(*length).ok()?)
    })
}

/// The next element; `None` where none is left, or it is cut off.
fn element<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    Some(match usize::try_from(number(rest)?) {
        Ok(length) => Some(take(rest, length)?),
        Err(_) => None,
    })
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

    fn encoded(shape: Option<&str>, elements: &[Option<Vec<u8>>]) -> Result<Vec<u8>, ParquetError> {
        encode(shape, elements.len(), 0, |n, out| {
            if let Some(element) = &elements[n] {
                out.extend(element);
            }
            elements[n].is_some()
        })
    }

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
                r#"[1:2][-1:0]={{a,""},{c,NULL}}"#,
            ),
            (
                Some("[1:1][1:2][1:1]"),
                vec![element("a"), element("b")],
                r#"[1:1][1:2][1:1]={{{a},{b}}}"#,
            ),
        ] {
            let bytes = encoded(shape, &elements).unwrap();
            let array = Array::parse(&bytes).unwrap();
            let back: Vec<_> = array.elements().map(|e| e.map(<[u8]>::to_vec)).collect();
            assert_eq!((array.count, back), (elements.len(), elements));
            assert_eq!(array.shape().as_deref(), shape);
            assert_eq!(array.literal(Form::Text).unwrap(), literal);
        }
        for shape in [
            "[1:3]",
            "[1:2][1:2]",
            "[2:1]",
            "1:2",
            "[1:2",
            "[a:b]",
            "",
            "[1:1][1:1][1:1][1:1][1:1][1:1][1:2]",
        ] {
            assert!(
                encoded(Some(shape), &[element("a"), None]).is_err(),
                "{shape}"
            );
        }
        let bytes = encoded(None, &[element("ab")]).unwrap();
        for cut in 0..bytes.len() {
            assert!(Array::parse(&bytes[..cut]).is_none(), "{cut}");
        }
    }
}
