//! Everything that can go wrong.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_upload_is_recorded_before_its_first_part() {
    let bench = bench();
    *bench.ledger.full.lock().unwrap() = true;
    assert_eq!(bench.fate().await, Fate::Retry);
    assert_eq!(bench.vault.calls(), ["begin"]);
    *bench.ledger.full.lock().unwrap() = false;
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls()[..2], ["abort", "begin"], "the one that was not recorded does not stay");
}

#[tokio::test(start_paused = true)]
async fn a_lost_or_damaged_ledger_costs_nothing() {
    for record in [None, Some(""), Some("{\"version\":\"2\"}")] {
        let bench = bench();
        bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
        assert_eq!(bench.fate().await, Fate::Retry);
        bench.vault.calls();
        let mut records = std::mem::take(&mut *bench.ledger.records.lock().unwrap());
        records.retain(|_, _| record.is_some());
        records.values_mut().for_each(|text| record.unwrap().clone_into(text));
        *bench.ledger.records.lock().unwrap() = records;
        // One that was begun besides, and of which nothing is there, goes.
        let (key, spec) = (bench.parcel.key.clone(), bench.parcel.spec.clone());
        bench.vault.inner.begin(&key, &ObjectSpec { part_size: 8 << 20, ..spec }).await.unwrap();
        bench.assert_delivered().await;
        let calls = bench.vault.calls();
        assert_eq!(calls, ["abort", "part 5", "complete"]);
        assert!(bench.vault.inner.uploads("").await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_gone_is_begun_anew() {
    let bench = bench();
    bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    for (key, id) in bench.vault.inner.uploads("").await.unwrap() {
        bench.vault.inner.abort(&key, &id).await.unwrap();
    }
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["begin"], &ALL[..], &["complete"]].concat());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_listed_is_not_gone() {
    let bench = bench();
    bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    for _ in 0..3 {
        bench.vault.spoil("parts", Fault::Refuse(Cause::Gone));
        assert_eq!(bench.fate().await, Fate::Retry);
    }
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["part 5", "complete"], "it was not thrown away");
    // But a listing that is never right keeps nothing for ever.
    let bench = super::bench();
    bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    for _ in 0..4 {
        bench.vault.spoil("parts", Fault::Refuse(Cause::Gone));
    }
    for _ in 0..3 {
        assert_eq!(bench.fate().await, Fate::Retry);
    }
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["abort", "begin"], &ALL[..], &["complete"]].concat());
}

/// The answer to a completion was lost, and it came through after all were asked.
#[tokio::test(start_paused = true)]
async fn a_completion_that_comes_through_late_sends_nothing_again() {
    let bench = bench();
    bench.vault.spoil("complete", Fault::LoseAnswer(Cause::Network));
    for _ in 0..3 {
        // Before it, after it, and when the next delivery begins.
        bench.vault.spoil("head", Fault::Pretend);
    }
    bench.fate().await;
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["abort"]);
}

/// What was signed wrong is signed anew once; then somebody has to see to it.
#[tokio::test(start_paused = true)]
async fn keys_that_were_replaced_interrupt_nothing() {
    for cause in [Cause::Credentials, Cause::Clock] {
        for call in ["head", "begin", "part 2", "complete", "put"] {
            let refused = |times| {
                let mut bench = bench();
                bench.options.retries.max = 6;
                if call == "put" {
                    bench.parcel = parcel(bench.dir.path(), b"small");
                }
                for _ in 0..times {
                    bench.vault.spoil(call, Fault::Refuse(cause));
                }
                bench
            };
            refused(1).assert_delivered().await;
            assert_eq!(refused(2).fate().await, Fate::Operator, "{cause:?} of {call}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_other_bytes_does_not_go_on() {
    let mut bench = bench();
    bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.vault.calls();
    let mut bytes = BYTES.clone();
    bytes[0] ^= 1;
    bench.parcel = parcel(bench.dir.path(), &bytes);
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["abort", "begin"], &ALL[..], &["complete"]].concat());
}

#[tokio::test(start_paused = true)]
async fn parts_under_way_are_not_lost_for_one_that_fails() {
    let mut bench = bench();
    bench.options.concurrency = 3;
    Arc::get_mut(&mut bench.vault).unwrap().together = Some(tokio::sync::Barrier::new(3));
    bench.vault.spoil("part 1", Fault::Refuse(Cause::Throttle));
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.vault.calls();
    bench.assert_delivered().await;
    let mut calls = bench.vault.calls();
    calls.sort();
    assert_eq!(calls, ["complete", "part 1", "part 4", "part 5"]);
}

#[tokio::test(start_paused = true)]
async fn head_decides_whatever_complete_answered() {
    for cause in [Cause::Network, Cause::Exists, Cause::Gone, Cause::Other, Cause::Integrity] {
        let bench = bench();
        bench.vault.spoil("complete", Fault::LoseAnswer(cause));
        bench.assert_delivered().await;
    }
    let bench = bench();
    bench.vault.spoil("complete", Fault::Pretend);
    assert!(matches!(bench.deliver().await.unwrap_err(), UploadError::Integrity { .. }));
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["complete"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_end_costs_nothing() {
    for lost in [true, false] {
        let bench = bench();
        let fault = if lost { Fault::LoseAnswer(Cause::Network) } else { Fault::Refuse(Cause::Network) };
        bench.vault.spoil("complete", fault);
        bench.vault.spoil("head", Fault::First(Box::new(|| {})));
        bench.vault.spoil("head", Fault::Refuse(Cause::Network));
        assert_eq!(bench.fate().await, Fate::Retry);
        assert_eq!(bench.ledger.records.lock().unwrap().len(), 1);
        bench.vault.calls();
        bench.assert_delivered().await;
        assert_eq!(bench.vault.calls(), [if lost { "abort" } else { "complete" }]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_complete_is_settled_by_head() {
    let mut bench = bench();
    let stop = bench.stop.clone();
    bench.vault.spoil("complete", Fault::Then(Box::new(move || stop.cancel())));
    assert_eq!(bench.fate().await, Fate::Stopped);
    bench.stop = CancellationToken::new();
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["abort"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_object_that_came_first_is_success() {
    for bytes in [&BYTES[..], b"small"] {
        let mut bench = bench();
        bench.parcel = parcel(bench.dir.path(), bytes);
        bench.deliver().await.unwrap();
        // It came between our first look and the end.
        bench.vault.spoil("head", Fault::Pretend);
        bench.assert_delivered().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_object_under_the_key_needs_an_operator() {
    for bytes in [&BYTES[..], b"small"] {
        let mut bench = bench();
        bench.parcel = parcel(bench.dir.path(), b"other");
        bench.deliver().await.unwrap();
        bench.vault.calls();
        bench.parcel = parcel(bench.dir.path(), bytes);
        assert!(matches!(bench.deliver().await.unwrap_err(), UploadError::Exists { .. }));
        assert_eq!(bench.vault.calls(), [""; 0]);
        bench.vault.spoil("head", Fault::Pretend);
        let err = bench.deliver().await.unwrap_err();
        assert!(matches!(err, UploadError::Exists { .. }));
        assert_eq!(err.fate(), Fate::Operator);
        assert_eq!(bench.vault.inner.get_range(&bench.parcel.key, 0, 9).await.unwrap(), b"other");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_proves_something_else_is_none() {
    for bytes in [&BYTES[..], b"small"] {
        let mut bench = bench();
        bench.parcel = parcel(bench.dir.path(), bytes);
        *bench.vault.lie.lock().unwrap() = Some(Crc64(1));
        let err = bench.deliver().await.unwrap_err();
        assert!(matches!(err, UploadError::Integrity { .. }));
        assert_eq!(err.fate(), Fate::Operator);
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_rots_in_staging_is_never_stored() {
    for (offset, sent) in [(0, 0), (2 * PART as u64 + 17, 2), (BYTES.len() as u64 - 1, 4)] {
        let bench = bench();
        bench.rot(&bench.parcel.file, offset);
        assert_eq!(bench.fate().await, Fate::Rotten);
        assert_eq!(bench.vault.calls(), [&["begin"], &ALL[..=sent]].concat());
        assert_eq!(bench.vault.inner.head(&bench.parcel.key).await.unwrap(), None);
    }
    let mut small = bench();
    small.parcel = parcel(small.dir.path(), b"small");
    small.rot(&small.parcel.file, 4);
    assert_eq!(small.fate().await, Fate::Rotten);
    assert_eq!(small.vault.inner.head(&small.parcel.key).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_as_long_as_it_was_is_rotten() {
    for len in [0, BYTES.len() as u64 - 1, BYTES.len() as u64 + 1] {
        let bench = bench();
        fs::OpenOptions::new().write(true).open(&bench.parcel.file).unwrap().set_len(len).unwrap();
        assert_eq!(bench.fate().await, Fate::Rotten);
        assert_eq!(bench.vault.calls(), [""; 0]);
    }
    let mut bench = bench();
    bench.parcel.sums = BlockSums::of(&BYTES[..PART]);
    assert_eq!(bench.fate().await, Fate::Rotten, "checksums of another file");
    bench.parcel.sums = SUMS.clone();
    fs::remove_file(&bench.parcel.file).unwrap();
    assert_eq!(bench.fate().await, Fate::Rotten);
    assert_eq!(bench.vault.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_rots_in_the_vault_is_sent_again() {
    let bench = bench();
    bench.vault.spoil("complete", Fault::Refuse(Cause::Network));
    assert_eq!(bench.fate().await, Fate::Retry);
    let (_, id) = bench.vault.inner.uploads("").await.unwrap().remove(0);
    bench.rot(&bench.dir.path().join("vault/.archiver/uploads").join(id.0).join("data"), PART as u64);
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), ["part 2", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_can_never_be_completed_is_begun_anew() {
    let bench = bench();
    bench.vault.spoil("complete", Fault::Refuse(Cause::Integrity));
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.assert_clean().await;
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["begin"], &ALL[..], &["complete"]].concat());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_abort_or_list_uploads_it_is_delivered() {
    let bench = bench();
    bench.vault.spoil("uploads", Fault::Refuse(Cause::Permission));
    bench.vault.spoil("abort", Fault::Refuse(Cause::Permission));
    bench.assert_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_vanishes_twice_is_told_and_goes_on() {
    let bench = bench();
    for (round, expected) in [Fate::Retry, Fate::Retry, Fate::Operator].into_iter().enumerate() {
        bench.vault.spoil("part 5", Fault::Refuse(Cause::Network));
        assert_eq!(bench.fate().await, expected, "{round}");
        for (key, id) in bench.vault.inner.uploads("").await.unwrap() {
            if expected == Fate::Retry {
                bench.vault.inner.abort(&key, &id).await.unwrap();
            }
        }
    }
    // The fault was not used up by what was told.
    assert_eq!(bench.fate().await, Fate::Retry);
    bench.assert_delivered().await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_conflicting_is_begun_anew() {
    let bench = bench();
    for round in 1..=3 {
        bench.vault.spoil("complete", Fault::Refuse(Cause::Conflict));
        assert_eq!(bench.fate().await, Fate::Retry);
        let left = bench.vault.inner.uploads("").await.unwrap().len();
        assert_eq!(left, usize::from(round < 3), "after {round} conflicts");
    }
    bench.vault.calls();
    bench.assert_delivered().await;
    assert_eq!(bench.vault.calls(), [&["begin"], &ALL[..], &["complete"]].concat());
}

#[tokio::test(start_paused = true)]
async fn parts_that_fail_for_a_while_are_sent_again_alone() {
    let mut bench = bench();
    bench.options.retries.max = 6;
    for cause in [Cause::Network, Cause::Throttle, Cause::Integrity, Cause::Other, Cause::Network] {
        bench.vault.spoil("part 2", Fault::Refuse(cause));
    }
    bench.assert_delivered().await;
    let mut calls = bench.vault.calls();
    calls.dedup();
    assert_eq!(calls, [&["begin"], &ALL[..], &["complete"]].concat());
    // What does not pass by itself ends the delivery at once.
    let mut other = super::bench();
    other.options.retries.max = 6;
    other.vault.spoil("part 2", Fault::Refuse(Cause::Permission));
    assert_eq!(other.fate().await, Fate::Operator);
    assert_eq!(other.vault.calls(), ["begin", "part 1", "part 2"]);
}
