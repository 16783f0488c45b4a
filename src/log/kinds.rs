//! The kinds of lines, each with an id that stays for ever: operators match it, and the journal finds its explanation
//! by it (`journalctl -x`, packaging/systemd/archiver.catalog).

/// What a line is about.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Field `EVENT` of the journal.
    pub event: &'static str,
    /// Field `MESSAGE_ID`.
    pub id: &'static str,
}

macro_rules! kinds {
    ($($name:ident $event:literal $id:literal;)*) => {
        $(pub const $name: Kind = Kind { event: $event, id: $id };)*
        /// All of them. New ones come last.
        #[cfg(test)]
        const ALL: &[Kind] = &[$($name),*];
    };
}

kinds! {
    STARTED "started" "402f77b43e831dda88e7442db05cf3fc";
    STOPPING "stopping" "9207d0c3f9f81b1ca406b3aaebe183ff";
    PASS_STARTED "pass-started" "bc94f24e923f972d88b02e13240fff32";
    PASS_HELD "pass-held" "9b640cc9f30571051e55f77b971d8a51";
    NOTHING_DUE "nothing-due" "f5e4bbd2f436ba629674d9832e34128f";
    PASS_ENDED "pass-ended" "883679bc2cf2d693cc6da53a4e5f7cef";
    PASS_LOSSES "pass-ended-with-losses" "2f289f1fdd6cfecba772dd6203ab4c55";
    ENTRY_NOTED "entry-noted" "d4002ae2e0f43e2722748d5a791fffc2";
    ENTRY_LOST "entry-lost" "4639e9b3cab2739d14f755b5901e4b09";
    STEP_STARTED "step-started" "039b215c21b75d458f61e1fd869192ec";
    STEP_ENDED "step-ended" "202d835ee015c110709ad73c4de95af6";
    PIECE_ROTTEN "piece-rotten" "43c3cf05b7fb8957017b5463b4867b49";
    WAITING_FOR_SPACE "waiting-for-space" "65958402d7ac603af51e1bfb97b0f2ce";
    WAITING_FOR_WINDOW "waiting-for-window" "377f8b7bbb0602d7ddd687e41595f6d9";
    STANDS_STILL "stands-still" "c4b21e9296a3f8116e788739c2a3c044";
    SILENT "silent" "e58de555cf7dbd6a5d49c6aebba81eaf";
    GOES_ON "goes-on" "20836001000f92ea5219a0082f7e09a0";
    CATALOG_BEHIND "catalog-behind" "e2b7c6770ac7ab5deb230c252d793f64";
    CATALOG_CAUGHT_UP "catalog-caught-up" "7b02ea5d7c045b987360377aa46468a3";
    LEFT_BEHIND "left-behind" "f1d484366a3495e88a4f30cf11b6a927";
    WILL_RETRY "will-retry" "08b5a7e2b43cd8be427ac306a5e68952";
    CANNOT_GO_ON "cannot-go-on" "a4b84fbee0f8f23729af586050add937";
    RECOVERED "recovered" "3873ac551e51ad2bc4adfe0f4fb63d73";
    SETTING_CHANGED "setting-changed" "12f613de2bbe47a31c84530e39d2d516";
    SETTING_AT_RESTART "setting-at-restart" "bc139412a0fae243310f810fa051a6f5";
    SETTINGS_TAKEN "settings-taken" "9cc682452c43a560cd3d054ee9738f3a";
    SETTINGS_REFUSED "settings-refused" "05f11c7353b07e7c101e0e153f377c35";
    PANICKED "panicked" "2764071d665f57cd8fa62e5741f3d7a1";
    MORE_LIKE_THIS "more-like-this" "e4660b24d3f3ef8352d2af496306d0b0";
    PAUSED "paused" "294869e7e53fe4dd62d2c85911b93550";
    SETTINGS_DIFFER "settings-differ" "21ff100cbea34ed1acf89fa78e0af579";
    SETTINGS_AGREE "settings-agree" "dd4ccea1183b4bf4868a463a26ffcc31";
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;

    /// Of events and ids as they were released: so many, and the digest of them. What somebody matches stays.
    const FROZEN: (usize, &str) = (30, "40b09e3093422112893ec6091cd550a755c50ef982b579dc34fb04a900ca7e04");

    #[test]
    fn ids_never_change_and_no_two_are_the_same() {
        let frozen: String = ALL[..FROZEN.0].iter().map(|kind| format!("{} {}\n", kind.event, kind.id)).collect();
        let digest: String = Sha256::digest(frozen).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, FROZEN.1, "Add new kinds at the end; never change one that is there");
        let is_id = |id: &str| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        assert!(ALL.iter().all(|kind| is_id(kind.id)));
        let ids: BTreeSet<&str> = ALL.iter().map(|kind| kind.id).collect();
        let events: BTreeSet<&str> = ALL.iter().map(|kind| kind.event).collect();
        assert_eq!((ids.len(), events.len()), (ALL.len(), ALL.len()));
    }

    #[test]
    fn the_catalog_of_the_journal_explains_kinds_that_there_are() {
        let catalog = include_str!("../../packaging/systemd/archiver.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        for entry in &entries {
            let (id, text) = entry.split_once('\n').unwrap();
            assert!(ALL.iter().any(|kind| kind.id == id), "{id}");
            for header in ["Subject: ", "Defined-By: archiver\n", "Documentation: man:archiver"] {
                assert!(text.contains(header), "{id}: {header}");
            }
            assert!(text.contains("\n\n"), "{id}: says nothing");
        }
        // Whatever needs somebody is explained.
        let must = [
            PASS_HELD,
            PASS_LOSSES,
            ENTRY_LOST,
            PIECE_ROTTEN,
            STANDS_STILL,
            SILENT,
            CATALOG_BEHIND,
            WILL_RETRY,
            CANNOT_GO_ON,
            SETTING_AT_RESTART,
            SETTINGS_REFUSED,
            SETTINGS_DIFFER,
            PANICKED,
            LEFT_BEHIND,
        ];
        for kind in must {
            assert!(entries.iter().any(|entry| entry.starts_with(kind.id)), "{}", kind.event);
        }
    }
}
