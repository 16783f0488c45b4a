//! Holding what came back against what it came from.

pub mod compare;
