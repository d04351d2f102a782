//! What grew in the last while. Invariant: two older states are kept, whatever the length of the window.

use std::time::Duration;

use tokio::time::Instant;

/// A state of between one and two periods ago, or since the first look.
pub(super) struct Window<T> {
    period: Duration,
    /// The older one, which is compared with.
    base: Option<T>,
    /// The newer one, which takes its place after a period.
    next: Option<(Instant, T)>,
}

impl<T: Clone> Window<T> {
    /// Compares with a state between half of `longest` and `longest` ago.
    pub(super) fn of(longest: Duration) -> Self {
        Self {
            period: longest / 2,
            base: None,
            next: None,
        }
    }

    /// Takes the state of now, and returns the older one to compare it with.
    pub(super) fn advance(&mut self, now: Instant, state: &T) -> &T {
        if self.next.as_ref().is_none_or(|(since, _)| now >= *since + self.period) {
            self.base = self.next.replace((now, state.clone())).map(|(_, older)| older);
        }
        self.base.get_or_insert_with(|| state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_compared_with_one_of_half_the_window_to_the_whole_of_it_ago() {
        let mut window = Window::of(Duration::from_secs(60));
        let begun = Instant::now();
        for second in 0..600_u64 {
            let base = *window.advance(begun + Duration::from_secs(second), &second);
            let age = second - base;
            assert!(age <= 60, "{second}: {age}");
            assert!(age >= 30 || second < 30 || base == 0, "{second}: {age}");
        }
    }
}
