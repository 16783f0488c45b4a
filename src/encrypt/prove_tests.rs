use super::{testing::*, *};
use crate::stage::Transform;
#[test]
fn speed() {
    let dir = dir();
    let c = cert();
    let mut e = to_certs(dir.path(), &[&c]);
    let clear = vec![7u8; 1 << 30];
    for _ in 0..2 {
        let mut out = Vec::with_capacity((1 << 30) + (1 << 20));
        let t = std::time::Instant::now();
        e.seal_small(&mut &clear[..], &mut out).unwrap();
        eprintln!("seal {:?}", t.elapsed());
        let t = std::time::Instant::now();
        e.prove(&mut &out[..], &mut std::io::sink()).unwrap();
        eprintln!("prove {:?}", t.elapsed());
    }
}
