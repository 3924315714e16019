//! Which stretches of the axis no partition covers.

use super::calendar::Point;

/// From the first place to just before the second.
pub(super) type Stretch = (Point, Point);

/// The parts of `wanted` that none of `covered` covers.
pub(super) fn missing(wanted: Stretch, covered: &[Stretch]) -> Vec<Stretch> {
    let mut sorted: Vec<Stretch> = covered.to_vec();
    sorted.sort_unstable();
    let (mut from, to) = wanted;
    let mut found = Vec::new();
    for (low, high) in sorted {
        if high <= from {
            continue;
        }
        if low >= to {
            break;
        }
        if low > from {
            found.push((from, low));
        }
        from = high;
    }
    if from < to {
        found.push((from, to));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_missing() {
        for (covered, found) in [
            (vec![], vec![(10, 20)]),
            (vec![(0, 10), (20, 30)], vec![(10, 20)]),
            (vec![(0, 30)], vec![]),
            (vec![(15, 18), (0, 12)], vec![(12, 15), (18, 20)]),
            (vec![(Point::MIN, 11)], vec![(11, 20)]),
            (vec![(19, Point::MAX)], vec![(10, 19)]),
        ] {
            assert_eq!(missing((10, 20), &covered), found);
        }
    }
}
