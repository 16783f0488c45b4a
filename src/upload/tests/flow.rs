//! Delivering, stopping and going on.

use super::*;

#[tokio::test(start_paused = true)]
async fn large_objects_go_in_parts_and_small_ones_in_one_go() {
    let mut bench = bench();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["begin"][..], &ALL, &["complete"]].concat());
    for (name, bytes) in [("empty", &[][..]), ("small", b"small"), ("one", &BYTES[..PART])] {
        bench.parcel = Parcel { key: name.parse().unwrap(), ..parcel(bench.dir.path(), bytes) };
        bench.assert_delivered().await;
        assert_eq!(bench.vault.calls(), ["put"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_sent_again() {
    let bench = bench();
    bench.deliver().await.unwrap();
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_any_part_sends_no_part_twice() {
    for last in 1..=5 {
        let mut bench = bench();
        let stop = bench.stop.clone();
        bench.vault.spoil(ALL[last - 1], Fault::Then(Box::new(move || stop.cancel())));
        assert_eq!(bench.fate().await, Fate::Stopped);
        assert_eq!(bench.vault.calls(), [&["begin"], &ALL[..last]].concat());
        bench.stop = CancellationToken::new();
        bench.assert_delivered().await;
        assert_eq!(bench.vault.calls(), [&ALL[last..], &["complete"]].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_with_the_parts_it_was_begun_with() {
    let mut bench = bench();
    bench.vault.spoil("part 3", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.vault.calls();
    bench.options.part_size = 2 * CHECK_SIZE;
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["part 3", "part 4", "part 5", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_waiting_for_the_window() {
    let mut bench = bench();
    let times = Arc::new(Semaphore::new(3));
    bench.gate = Arc::new(Times(times.clone()));
    let stop = bench.stop.clone();
    let (delivered, ()) = tokio::join!(bench.deliver(), async {
        // With the clock paused this passes only when everything else waits.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        stop.cancel();
    });
    assert_eq!(delivered.unwrap_err().fate(), Fate::Stopped);
    assert_eq!(bench.vault.calls(), ["begin", "part 1", "part 2"], "once for the upload, and once for each part");
    bench.stop = CancellationToken::new();
    times.add_permits(3);
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["part 3", "part 4", "part 5", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_beginning_does_nothing() {
    let bench = bench();
    bench.stop.cancel();
    assert_eq!(bench.fate().await, Fate::Stopped);
    assert_eq!(bench.vault.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn as_many_parts_as_allowed_are_under_way() {
    let mut bench = bench();
    bench.parcel = parcel(bench.dir.path(), &BYTES[..4 * PART]);
    bench.options.concurrency = 2;
    // Each waits for another: one at a time would wait for ever.
    Arc::get_mut(&mut bench.vault).unwrap().together = Some(tokio::sync::Barrier::new(2));
    tokio::time::timeout(Duration::from_secs(3_600), bench.assert_delivered()).await.unwrap();
    assert_eq!(bench.vault.most_under_way.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn bandwidth_is_shared_by_all_parts() {
    let mut bench = bench();
    bench.options = Options { concurrency: 4, bandwidth: Some(CHECK_SIZE / 10), ..bench.options };
    let start = Instant::now();
    bench.assert_delivered().await;
    let took = start.elapsed().as_secs_f64();
    assert!((took - 40.0).abs() < 0.2, "the fifth part goes out when four are paid for, but for a chunk: {took}");
}

#[tokio::test(start_paused = true)]
async fn orphans_are_aborted_and_what_is_known_is_kept() {
    let bench = bench();
    let vault = &bench.vault.inner;
    let spec = ObjectSpec { part_size: CHECK_SIZE, ..bench.parcel.spec.clone() };
    let key = |text: &str| text.parse::<Key>().unwrap();
    let kept = vault.begin(&key("p/a"), &spec).await.unwrap();
    for name in ["p/a", "p/b", "q"] {
        vault.begin(&key(name), &spec).await.unwrap();
    }
    assert_eq!(abort_orphans(vault, "p/", &|_, id| *id == kept).await.unwrap().len(), 2);
    let left = vault.uploads("").await.unwrap();
    assert_eq!((left.len(), &left[0]), (2, &(key("p/a"), kept)));
}
