//! Windows that close while something is under way.

use super::*;

/// Closed for too long while a part is under way.
struct Closing {
    /// Since when it is closed.
    closed: tokio::sync::watch::Sender<Option<Instant>>,
}

impl Closing {
    fn new() -> Arc<Closing> {
        Arc::new(Closing { closed: tokio::sync::watch::Sender::new(None) })
    }

    fn set(&self, open: bool) {
        self.closed.send_modify(|closed| *closed = if open { None } else { closed.or(Some(Instant::now())) });
    }

    /// Opens it after two hours; what was cut was under way before.
    async fn reopens(&self, vault: &Faulty) {
        tokio::time::sleep(Duration::from_secs(7_200)).await;
        vault.most_under_way.store(0, Ordering::SeqCst);
        self.set(true);
    }

    /// What befalls a part: it is never answered, and the window closes meanwhile.
    fn closes(self: &Arc<Closing>) -> Fault {
        let gate = self.clone();
        Fault::Stall(Box::new(move || gate.set(false)))
    }
}

#[async_trait]
impl Gate for Closing {
    async fn opened(&self) {
        let _ = self.closed.subscribe().wait_for(Option::is_none).await;
    }
    /// As the real one, at once whenever it is asked after that.
    async fn overdue(&self) {
        let mut closed = self.closed.subscribe();
        let since = closed.wait_for(Option::is_some).await.map(|closed| *closed);
        tokio::time::sleep_until(since.ok().flatten().unwrap() + Duration::from_secs(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_long_after_closing_is_cut_and_sent_when_it_opens() {
    for bytes in [&BYTES[..], b"small"] {
        let mut bench = bench();
        bench.parcel = parcel(bench.dir.path(), bytes);
        let gate = Closing::new();
        bench.gate = gate.clone();
        let name = if bytes.len() > PART { "part 3" } else { "put" };
        bench.vault.spoil(name, gate.closes());
        let start = Instant::now();
        tokio::join!(bench.assert_delivered(), gate.reopens(&bench.vault));
        assert!(start.elapsed() >= Duration::from_secs(7_200));
        let calls = bench.vault.calls();
        assert_eq!(calls.iter().filter(|call| *call == name).count(), 2, "cut once and sent again: {calls:?}");
        assert_eq!(calls.iter().filter(|call| *call == "part 2").count(), usize::from(bytes.len() > PART));
    }
}

/// Parts that share a line too slow for all of them in one window would begin anew in each of them.
#[tokio::test(start_paused = true)]
async fn parts_that_were_all_cut_go_out_one_by_one() {
    let mut bench = bench();
    bench.options.concurrency = 3;
    let gate = Closing::new();
    bench.gate = gate.clone();
    for name in ["part 1", "part 2", "part 3"] {
        bench.vault.spoil(name, gate.closes());
    }
    let reopens = async {
        gate.reopens(&bench.vault).await;
        bench.vault.calls()
    };
    let ((), before) = tokio::join!(bench.assert_delivered(), reopens);
    assert_eq!(before, ["begin", "part 1", "part 2", "part 3"]);
    assert_eq!(bench.vault.calls().len(), 6, "five parts and the completion");
    assert_eq!(bench.vault.most_under_way.load(Ordering::SeqCst), 2, "one, and then two, since one went through");
}

#[tokio::test(start_paused = true)]
async fn a_window_in_which_parts_went_through_changes_nothing() {
    let mut bench = bench();
    bench.options.concurrency = 3;
    let gate = Closing::new();
    bench.gate = gate.clone();
    bench.vault.spoil("part 3", gate.closes());
    tokio::join!(bench.assert_delivered(), gate.reopens(&bench.vault));
    assert_eq!(bench.vault.most_under_way.load(Ordering::SeqCst), 3, "{:?}", bench.vault.calls());
}
