//! The checksum fields that many of the protocol's types carry under the same names.

/// Collects the checksum fields of a type of the protocol.
macro_rules! sums_of {
    ($from:expr) => {{
        let from = &$from;
        [
            ($crate::sums::Algorithm::Crc32, from.checksum_crc32.clone()),
            ($crate::sums::Algorithm::Crc32c, from.checksum_crc32c.clone()),
            ($crate::sums::Algorithm::Crc64Nvme, from.checksum_crc64nvme.clone()),
            ($crate::sums::Algorithm::Sha1, from.checksum_sha1.clone()),
            ($crate::sums::Algorithm::Sha256, from.checksum_sha256.clone()),
        ]
        .into_iter()
        .filter_map(|(algorithm, sum)| Some((algorithm, sum?)))
        .collect::<$crate::sums::Sums>()
    }};
}

/// Fills the checksum fields of a type of the protocol.
macro_rules! show_sums {
    ($into:expr, $sums:expr) => {{
        let sums: &$crate::sums::Sums = $sums;
        $into.checksum_crc32 = sums.get(&$crate::sums::Algorithm::Crc32).cloned();
        $into.checksum_crc32c = sums.get(&$crate::sums::Algorithm::Crc32c).cloned();
        $into.checksum_crc64nvme = sums.get(&$crate::sums::Algorithm::Crc64Nvme).cloned();
        $into.checksum_sha1 = sums.get(&$crate::sums::Algorithm::Sha1).cloned();
        $into.checksum_sha256 = sums.get(&$crate::sums::Algorithm::Sha256).cloned();
    }};
}
