//! A queue of items is a queue, and small.

use super::*;
use crate::{
    archive::header,
    notice::{Exception, Reason},
};
use proptest::prelude::*;

fn entries() -> impl Strategy<Value = Walked> {
    let number = || prop_oneof![Just(0), 0..300_u64, any::<u64>(), Just(u64::MAX)];
    let stamp = || (number(), 0..1_000_000_000_u32);
    let owners = (0..7_usize, 0..0o1_0000_u32, any::<u32>(), any::<u32>());
    let numbers = (number(), number(), number(), number(), number());
    ("[a-c/]{0,9}", owners, numbers, stamp(), stamp()).prop_map(|(path, owners, numbers, mtime, ctime)| {
        let (kind, mode, uid, gid) = (KINDS[owners.0], owners.1, owners.2, owners.3);
        let (size, dev, ino, nlink, rdev) = numbers;
        let stamp = |(sec, nsec): (u64, u32)| Stamp { sec: sec.cast_signed(), nsec };
        let (mtime, ctime) = (stamp(mtime), stamp(ctime));
        let meta = Meta { kind, mode, uid, gid, size, mtime, ctime, dev, ino, nlink, rdev };
        Walked::Entry(Entry { path: SourcePath::parse(path.as_bytes()).unwrap(), meta })
    })
}

fn items() -> impl Strategy<Value = Walked> {
    let path = || "[a-c/]{0,9}".prop_map(|path| SourcePath::parse(path.as_bytes()).unwrap());
    let excluded = (path(), 1..5_u64).prop_map(|(last, count)| Walked::Excluded { rule: 3, count, last });
    let skipped = path().prop_map(|path| {
        Walked::Skipped(Box::new(Exception { path, reason: Reason::Socket, errno: None, detail: String::new() }))
    });
    prop_oneof![6 => entries(), 1 => excluded, 1 => skipped]
}

proptest! {
    #[test]
    fn it_is_a_queue(pushed in prop::collection::vec((items(), 0..3_usize), 0..60), at in 0..60_usize) {
        let (mut queue, mut model) = (Items::default(), VecDeque::new());
        for (item, pops) in pushed {
            queue.push(item.clone());
            model.push_back(item);
            for _ in 0..pops.saturating_sub(1) {
                prop_assert_eq!(queue.pop(), model.pop_front());
            }
            prop_assert_eq!((queue.len(), queue.first()), (model.len(), model.front()));
            prop_assert_eq!(queue.last(), model.back().cloned());
        }
        prop_assert_eq!(queue.to_vec(), Vec::from(model.clone()));
        let rest = queue.split_off(at.min(model.len()));
        let model_rest = model.split_off(at.min(model.len()));
        queue.extend(rest.iter());
        prop_assert_eq!(rest.into_iter().collect::<VecDeque<_>>(), model_rest.clone());
        model.extend(model_rest);
        prop_assert_eq!(queue.to_vec(), Vec::from(model));
    }
}

fn photo(number: u64) -> Walked {
    let stamp = Stamp { sec: 1_700_000_000 + number.cast_signed() / 7, nsec: (number * 7919 % 1_000_000_007) as u32 };
    let meta = Meta {
        kind: Kind::File,
        mode: 0o644,
        size: number * 31 % 9_000_000,
        ino: number,
        nlink: 1,
        ..header::plain_dir()
    };
    let path = format!("a rather long name of a directory/below another one/IMG_{number:08}.jpeg");
    Walked::Entry(Entry {
        path: SourcePath::parse(path.as_bytes()).unwrap(),
        meta: Meta { mtime: stamp, ctime: stamp, ..meta },
    })
}

#[test]
fn a_million_entries_cost_less_than_48_bytes_each() {
    let mut queue: Items = (0..1_000_000).map(photo).collect();
    assert!(queue.bytes.len() < 48 * 1_000_000, "{}", queue.bytes.len());
    // What was read goes away while there is more: a queue may never be empty.
    for number in 1_000_000..3_000_000 {
        queue.push(photo(number));
        assert_eq!(queue.pop().map(|item| item.path().clone()), Some(photo(number - 1_000_000).path().clone()));
    }
    assert!(queue.bytes.capacity() < 200 * 1_000_000, "{}", queue.bytes.capacity());
}
