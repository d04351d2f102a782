//! What is made of many measurements. Invariant: nothing is left out.

/// The middle one, or the upper of the two in the middle.
///
/// # Panics
///
/// There is none.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted[sorted.len() / 2]
}
