//! How many parts may be under way at once: as many as the server takes.
//!
//! Additive increase, multiplicative decrease, as TCP shares a line: a server that asks to go slower gets half as
//! many at once, and after every round of parts without such an answer one more, up to what is configured.

#[derive(Debug)]
pub(super) struct Allowance {
    most: f64,
    now: f64,
    /// Parts that were begun, ever.
    begun: u64,
    /// Parts begun before the last decrease say nothing new about it.
    decreased_at: u64,
    /// Whether any part was taken since the last cut.
    any_taken: bool,
}

/// When a part was begun, as [`Allowance`] counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn(u64);

impl Allowance {
    pub(super) fn new(most: usize) -> Allowance {
        let most = most.max(1) as f64;
        Allowance { most, now: most, begun: 0, decreased_at: 0, any_taken: false }
    }

    /// Parts under way at once, at least 1.
    pub(super) fn parts(&self) -> usize {
        self.now as usize
    }

    pub(super) fn begin(&mut self) -> Turn {
        self.begun += 1;
        Turn(self.begun)
    }

    pub(super) fn taken(&mut self) {
        self.now = (self.now + 1.0 / self.now).min(self.most);
        self.any_taken = true;
    }

    /// What was under way had to end. Parts that share a line end together, or not at all: where none was taken since
    /// the last time, they go out one by one, or none ever would be. Whether that is so.
    pub(super) fn cut(&mut self) -> bool {
        let none = !std::mem::take(&mut self.any_taken);
        if none {
            self.now = 1.0;
        }
        none
    }

    pub(super) fn told_to_slow_down(&mut self, turn: Turn) {
        if turn.0 > self.decreased_at {
            self.now = (self.now / 2.0).max(1.0);
            self.decreased_at = self.begun;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_once_a_round_and_grows_by_one_a_round() {
        let mut allowance = Allowance::new(8);
        let round: Vec<Turn> = (0..8).map(|_| allowance.begin()).collect();
        for turn in round {
            allowance.told_to_slow_down(turn);
        }
        assert_eq!(allowance.parts(), 4, "eight refusals of one round are one");
        let turn = allowance.begin();
        allowance.told_to_slow_down(turn);
        assert_eq!(allowance.parts(), 2);
        for _ in 0..2 {
            allowance.taken();
        }
        assert_eq!(allowance.parts(), 2);
        allowance.taken();
        assert_eq!(allowance.parts(), 3);
        for _ in 0..1_000 {
            allowance.taken();
        }
        assert_eq!(allowance.parts(), 8);
        for _ in 0..1_000 {
            let turn = allowance.begin();
            allowance.told_to_slow_down(turn);
        }
        assert_eq!(allowance.parts(), 1, "it never stops");
    }

    /// A server that takes four at once is kept busy by three to five most of the time.
    #[test]
    fn it_settles_around_what_the_server_takes() {
        let mut allowance = Allowance::new(32);
        let mut seen = Vec::new();
        for _ in 0..500 {
            let round: Vec<Turn> = (0..allowance.parts()).map(|_| allowance.begin()).collect();
            for (index, turn) in round.into_iter().enumerate() {
                if index < 4 { allowance.taken() } else { allowance.told_to_slow_down(turn) }
            }
            seen.push(allowance.parts());
        }
        let average = seen[100..].iter().sum::<usize>() as f64 / 400.0;
        assert!((2.0..=5.0).contains(&average), "{average}");
    }
}
