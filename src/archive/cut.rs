//! (being written)

use super::entry::{Entry, Walked};

pub struct SegmentPlan {
    pub index: u32,
    pub count: u32,
    pub offset: u64,
    pub len: u64,
    pub file: Entry,
}

pub struct Plan {
    pub items: Vec<Walked>,
    pub tar_size: u64,
    pub members: u64,
    pub segment: Option<SegmentPlan>,
}
